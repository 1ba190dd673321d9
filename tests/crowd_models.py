"""A SavedModel whose rows strangers in a batch might change, written by TensorFlow in a process
of its own.

python tests/crowd_models.py OUT NAME...    # OUT/NAME/saved_model.pb
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
def numbers(path: str) -> None:
    """Rows that stand alone, rows that look at one another, loops as long as data say."""
    import numpy as np
    import tensorflow as tf

    draw = np.random.default_rng(0)
    x = tf.TensorSpec([None, 4], tf.float32, name="x")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(draw.standard_normal((4, 6)).astype("f4"))
            self.table = tf.Variable(draw.standard_normal((20, 3)).astype("f4"))
            self.square = tf.constant(draw.standard_normal((4, 4)).astype("f4") / 2)

        @tf.function(input_signature=[x])
        def dense(self, x: Any) -> dict[str, Any]:
            y = tf.nn.softmax(tf.tanh(x @ self.kernel))
            best, places = tf.math.top_k(y, 3)
            return {"y": y, "best": best, "places": places}

        @tf.function(input_signature=[x, tf.TensorSpec([], tf.float32, name="scale")])
        def scaled(self, x: Any, scale: Any) -> dict[str, Any]:
            return {"y": (x @ self.kernel) * scale}

        @tf.function(input_signature=[x])
        def centered(self, x: Any) -> dict[str, Any]:
            """Batch normalisation by the batch's own mean."""
            mean, variance = tf.nn.moments(x, 0)
            return {"y": (x - mean) * tf.math.rsqrt(variance + 0.01) @ self.kernel}

        @tf.function(input_signature=[x])
        def best_rows(self, x: Any) -> dict[str, Any]:
            """The best rows of the whole batch."""
            _, places = tf.math.top_k(x[:, 0], tf.minimum(2, tf.shape(x)[0]))
            return {"rows": places, "y": tf.gather(x, places) @ self.kernel}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="n")])
        def steps(self, n: Any) -> dict[str, Any]:
            """Each row as many steps as its number needs; the loop runs until all have done."""

            def step(count: Any, n: Any) -> tuple[Any, Any]:
                going = n > 1
                following = tf.where(n % 2 == 0, n // 2, n * 3 + 1)
                return tf.where(going, count + 1, count), tf.where(going, following, n)

            start = (tf.zeros_like(n), n)
            return {"steps": tf.while_loop(lambda _, n: tf.reduce_any(n > 1), step, start)[0]}

        @tf.function(input_signature=[x])
        def rounds(self, x: Any) -> dict[str, Any]:
            """As many rounds for all as the largest row asks for."""
            y, left = x, tf.reduce_max(tf.abs(x[:, 0])) * 3.0
            while left > 1.0:
                y, left = tf.tanh(y @ self.square), left - 1.0
            return {"y": y, "left": tf.zeros_like(x[:, 0]) + left}

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int64, name="ids")])
        def unique(self, ids: Any) -> dict[str, Any]:
            """Each id of the batch looked up once; the places depend on what came before."""
            found, places = tf.unique(tf.reshape(ids, [-1]))
            rows = tf.gather(tf.gather(self.table, found), places)
            return {"y": tf.reshape(rows, [-1, 6]), "places": tf.reshape(places, [-1, 2])}

        @tf.function(input_signature=[x])
        def positive(self, x: Any) -> dict[str, Any]:
            """Fewer rows out than in."""
            return {"y": tf.boolean_mask(x @ self.kernel, x[:, 0] > 0)}

        @tf.function(input_signature=[x])
        def checked(self, x: Any) -> dict[str, Any]:
            tf.debugging.assert_less(x, 2.5, message="want small numbers")
            return {"y": x @ self.kernel}

    model = Model()
    names = (
        "dense", "scaled", "centered", "best_rows", "steps", "rounds", "unique", "positive",
        "checked",
    )  # fmt: skip
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def texts(path: str) -> None:
    """Words, sentences as long as the longest, crosses, Examples, images."""
    import numpy as np
    import tensorflow as tf

    draw = np.random.default_rng(0)
    text = tf.TensorSpec([None], tf.string, name="text")
    features = {
        "age": tf.io.FixedLenFeature([2], tf.float32),
        "city": tf.io.FixedLenFeature([1], tf.string, default_value=["nowhere"]),
        "ids": tf.io.VarLenFeature(tf.int64),
        "weights": tf.io.RaggedFeature(tf.float32),
    }

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            words = ["a", "red", "fox", "jumps", "over", "it"]
            pairs = tf.lookup.KeyValueTensorInitializer(words, np.arange(6, dtype="i8"))
            self.table = tf.lookup.StaticVocabularyTable(pairs, 3)
            self.embedding = tf.Variable(draw.standard_normal((20, 3)).astype("f4"))
            self.kernel = tf.Variable(draw.standard_normal((3, 4)).astype("f4"))
            self.window = tf.Variable(draw.standard_normal((3, 3, 3, 2)).astype("f4"))

        def _ids(self, text: Any) -> Any:
            """Ragged, one list of ids for each text."""
            parts = tf.strings.split(tf.strings.lower(text))
            return tf.RaggedTensor.from_row_splits(
                self.table.lookup(parts.flat_values), parts.row_splits
            )

        @tf.function(input_signature=[text])
        def labelled(self, text: Any) -> dict[str, Any]:
            ids = self.table.lookup(tf.strings.strip(text))
            scores = tf.gather(self.embedding, ids) @ self.kernel
            labels = tf.constant(["no", "yes", "both", "none"])
            return {"y": scores, "label": tf.gather(labels, tf.argmax(scores, 1))}

        @tf.function(input_signature=[text])
        def padded(self, text: Any) -> dict[str, Any]:
            """A mean over the padding too: as far as the longest text of the batch."""
            ids = self._ids(text).to_tensor(default_value=19)
            return {"y": tf.reduce_mean(tf.gather(self.embedding, ids), 1) @ self.kernel}

        @tf.function(input_signature=[text])
        def masked(self, text: Any) -> dict[str, Any]:
            """A sum that leaves the padding out."""
            ids = self._ids(text).to_tensor(default_value=-1)
            taken = tf.gather(self.embedding, tf.maximum(ids, 0))
            kept = tf.cast(ids >= 0, tf.float32)[:, :, tf.newaxis]
            return {"y": tf.reduce_sum(taken * kept, 1) @ self.kernel}

        @tf.function(input_signature=[text])
        def ragged(self, text: Any) -> dict[str, Any]:
            ids = self._ids(text)
            joined = tf.strings.reduce_join(tf.strings.split(text), axis=1, separator="+")
            return {"count": ids.row_lengths(), "sum": tf.reduce_sum(ids, 1), "joined": joined}

        @tf.function(input_signature=[text, tf.TensorSpec([None], tf.int64, name="age")])
        def crossed(self, text: Any, age: Any) -> dict[str, Any]:
            words = tf.strings.split(text).to_sparse()
            cross = tf.sparse.cross_hashed([words, age[:, tf.newaxis]], num_buckets=20)
            summed = tf.nn.safe_embedding_lookup_sparse(self.embedding, cross, combiner="sqrtn")
            return {"y": summed @ self.kernel}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def examples(self, examples: Any) -> dict[str, Any]:
            parsed = tf.io.parse_example(examples, features)
            city = tf.strings.to_hash_bucket_fast(parsed["city"][:, 0], 20)
            ids = tf.nn.safe_embedding_lookup_sparse(self.embedding, parsed["ids"], combiner="mean")
            weight = tf.reduce_sum(parsed["weights"], axis=1)[:, tf.newaxis]
            age = tf.pad((parsed["age"] - 40.0) / 12.0, [[0, 0], [0, 1]])
            mixed = tf.gather(self.embedding, city) + ids + age + weight
            return {"y": mixed @ self.kernel, "city": parsed["city"]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="png")])
        def images(self, png: Any) -> dict[str, Any]:
            def pixels(one: Any) -> Any:
                decoded = tf.io.decode_png(one, channels=3)
                return tf.ensure_shape(tf.image.resize(decoded, [8, 8]), [8, 8, 3])

            found = tf.map_fn(pixels, png, fn_output_signature=tf.TensorSpec([8, 8, 3]))
            return {"y": tf.nn.relu(tf.nn.conv2d(found / 255.0, self.window, 2, "SAME"))}

    model = Model()
    names = ("labelled", "padded", "masked", "ragged", "crossed", "examples", "images")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def session(path: str) -> None:
    """TF1: a recurrent net over sequences of their own lengths, until the longest has ended."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as s:
        v1.disable_control_flow_v2()
        x = v1.placeholder(tf.float32, [None, 6, 2], name="x")
        length = v1.placeholder(tf.int32, [None], name="length")
        start = tf.constant([[0.5, -0.25, 1.0], [-0.5, 0.25, 0.5]])
        w = v1.get_variable("w", initializer=start, use_resource=False)
        u = v1.get_variable("u", initializer=tf.eye(3) * 0.5, use_resource=False)
        inputs = tf.TensorArray(tf.float32, size=6).unstack(tf.transpose(x, [1, 0, 2]))

        def step(t: Any, h: Any) -> tuple[Any, Any]:
            following = tf.tanh(inputs.read(t) @ w + h @ u)
            return t + 1, tf.where(tf.tile((t < length)[:, tf.newaxis], [1, 3]), following, h)

        zeros = tf.zeros([tf.shape(x)[0], 3])
        _, h = v1.while_loop(lambda t, h: t < tf.reduce_max(length), step, [tf.constant(0), zeros])
        s.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(s, path, {"x": x, "length": length}, {"h": h})


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
