"""Tiny SavedModels that TensorFlow's bridge does not take whole, though each device could.

python tests/refused_models.py OUT NAME...    # OUT/NAME/saved_model.pb
"""

# mypy: disable-error-code="untyped-decorator"

import subprocess
import sys
from pathlib import Path
from typing import Any

import savedmodels
from savedmodels import builder


def build(out: Path, *names: str) -> Path:
    """Writes the named models under `out` and returns it."""
    done = subprocess.run(
        [sys.executable, __file__, str(out), *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@builder
def kernelless(path: str) -> None:
    """Ops that XLA has no kernel for, and ops whose shapes data decide on, beside dense ones."""
    import numpy as np
    import tensorflow as tf

    images = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")
    features = tf.TensorSpec([None, 4], tf.float32, name="x")
    ids = tf.TensorSpec([None, 4], tf.int64, name="ids")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            draw = np.random.default_rng(0)
            self.filters = tf.Variable(draw.normal(size=(3, 3, 3, 6)).astype("f4"))
            self.kernel = tf.Variable(draw.normal(size=(4, 3)).astype("f4"))

        @tf.function(input_signature=[images])
        def scaled(self, image: Any) -> dict[str, Any]:
            found = tf.nn.conv2d(image, self.filters, 2, "SAME")
            return {"y": tf.image.resize(found, [6, 6], method="bicubic")}

        @tf.function(input_signature=[ids])
        def unique(self, ids: Any) -> dict[str, Any]:
            values, places = tf.unique(tf.reshape(ids, [-1]))
            table = tf.concat([self.kernel, self.kernel, self.kernel], 0)
            found = tf.gather(tf.gather(table, values), places)
            return {"y": tf.reduce_sum(tf.reshape(found, [-1, 4, 3]), 1)}

        @tf.function(input_signature=[features])
        def summed(self, x: Any) -> dict[str, Any]:
            groups = tf.range(tf.shape(x)[0]) // 2
            return {"y": x @ self.kernel, "sums": tf.math.segment_sum(x, groups)}

        @tf.function(input_signature=[images])
        def boxes(self, image: Any) -> dict[str, Any]:
            found = tf.nn.conv2d(image, self.filters, 2, "SAME")
            found = tf.reshape(found, [tf.shape(image)[0], 16, 6])

            def best(of: Any) -> Any:
                of = tf.gather(of, tf.where(of[:, 4] > 0)[:, 0])
                low, scores = tf.sigmoid(of[:, :2]), of[:, 4]
                corners = tf.concat([low, low + tf.abs(of[:, 2:4])], 1)
                chosen = tf.image.non_max_suppression(corners, scores, 5, 0.5)
                return tf.pad(tf.gather(scores, chosen), [[0, 5 - tf.shape(chosen)[0]]])

            spec = tf.TensorSpec([5], tf.float32)
            return {"scores": tf.map_fn(best, found, fn_output_signature=spec)}

    model = Model()
    names = ("scaled", "unique", "summed", "boxes")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def unread(path: str) -> None:
    """Variables that signatures change and no answer shows, as Keras's seed generators do."""
    import numpy as np
    import tensorflow as tf

    features = tf.TensorSpec([None, 4], tf.float32, name="x")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.linspace(-1, 1, 12, dtype="f4").reshape(4, 3))
            self.seed = tf.Variable([1, 2], dtype=tf.int64, name="seed")

        @tf.function(input_signature=[features])
        def advanced(self, x: Any) -> dict[str, Any]:
            self.seed.assign(self.seed + 1)
            return {"y": x @ self.kernel}

        @tf.function(input_signature=[features])
        def branched(self, x: Any) -> dict[str, Any]:
            if tf.reduce_sum(x) > 0:
                self.seed.assign_add([1, 1])
                y = x @ self.kernel
            else:
                y = -x @ self.kernel
            return {"y": y}

        @tf.function(input_signature=[features])
        def plain(self, x: Any) -> dict[str, Any]:
            return {"y": x @ self.kernel}

    model = Model()
    names = ("advanced", "branched", "plain")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def shown(path: str) -> None:
    """The same change, of a variable that another signature answers with."""
    import tensorflow as tf

    features = tf.TensorSpec([None, 4], tf.float32, name="x")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.calls = tf.Variable(0.0, name="calls")
            self.seed = tf.Variable(1, dtype=tf.int64, name="seed")

        @tf.function(input_signature=[features])
        def counted(self, x: Any) -> dict[str, Any]:
            self.calls.assign_add(1.0)
            return {"y": x * 2}

        @tf.function(input_signature=[features])
        def asked(self, x: Any) -> dict[str, Any]:
            return {"y": x + self.calls}

        @tf.function(input_signature=[features])
        def drawn(self, x: Any) -> dict[str, Any]:
            self.seed.assign_add(1)
            noise = tf.random.stateless_normal([4], tf.stack([self.seed, self.seed]))
            return {"y": x + noise}

    model = Model()
    names = ("counted", "asked", "drawn")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def told(path: str) -> None:
    """Numbers drawn from seeds; tables of other kinds; strings that depend on nothing."""
    import numpy as np
    import tensorflow as tf

    features = tf.TensorSpec([None, 4], tf.float32, name="x")
    text = tf.TensorSpec([None], tf.string, name="text")
    ids = tf.TensorSpec([None], tf.int64, name="ids")
    lookup = tf.lookup.experimental

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.linspace(-1, 1, 12, dtype="f4").reshape(4, 3))
            self.words = lookup.MutableHashTable(tf.string, tf.int64, -1)
            self.words.insert(["a", "b"], tf.constant([2, 1], tf.int64))
            self.weights = lookup.DenseHashTable(tf.int64, tf.float32, 0.5, -1, -2)
            self.weights.insert(tf.constant([1, 5], tf.int64), [1.0, 5.0])

        @tf.function(input_signature=[features, tf.TensorSpec([], tf.int32, name="seed")])
        def drawn(self, x: Any, seed: Any) -> dict[str, Any]:
            seeds = tf.stack([seed, 8])
            noise = tf.random.stateless_normal(tf.shape(x), seeds)
            fixed = tf.random.stateless_uniform([4], [3, 4])
            chosen = tf.random.stateless_categorical(x, 2, seeds)
            return {"y": (x + noise * fixed) @ self.kernel, "chosen": chosen}

        @tf.function(input_signature=[text, ids, features])
        def found(self, text: Any, ids: Any, x: Any) -> dict[str, Any]:
            weights = self.weights.lookup(ids)[:, None]
            y = x @ self.kernel * weights
            return {"words": self.words.lookup(text), "size": self.words.size(), "y": y}

        @tf.function(input_signature=[features, text])
        def named(self, x: Any, text: Any) -> dict[str, Any]:
            names, sizes = tf.constant(["a", "b", "c"]), tf.constant([1, 2])
            said = tf.strings.reduce_join(text, separator=",")
            y = x @ self.kernel
            return {"y": y, "names": names, "sizes": sizes, "same": text, "said": said}

    model = Model()
    names = ("drawn", "found", "named")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
