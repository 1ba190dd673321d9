"""Tiny SavedModels whose answers depend on requests before, or on chance.

python tests/state_models.py OUT NAME...    # OUT/NAME/saved_model.pb
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
def chance(path: str) -> None:
    """Random numbers beside strings, beside nothing, and on neither side of a plain signature."""
    import tensorflow as tf

    numbers = tf.TensorSpec([None, 2], tf.float32, name="x")
    text = tf.TensorSpec([None], tf.string, name="text")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

        @tf.function(input_signature=[text])
        def words(self, text: Any) -> dict[str, Any]:
            noise = tf.random.uniform(tf.shape(text))
            return {"y": noise, "text": tf.strings.upper(text)}

        @tf.function(input_signature=[numbers])
        def noisy(self, x: Any) -> dict[str, Any]:
            return {"y": x @ self.kernel + tf.random.normal(tf.shape(x))}

        @tf.function(input_signature=[text])
        def plain(self, text: Any) -> dict[str, Any]:
            return {"length": tf.strings.length(text)}

    model = Model()
    names = ("words", "noisy", "plain")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def counters(path: str) -> None:
    """Variables, tables and generators that requests change, and signatures that only read."""
    import tensorflow as tf

    one = tf.TensorSpec([None], tf.float32, name="x")
    text = tf.TensorSpec([None], tf.string, name="text")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.count = tf.Variable(0, dtype=tf.int64)
            self.total, self.scale = tf.Variable(0.0), tf.Variable(3.0)
            self.known = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
            self.generator = tf.random.Generator.from_seed(7)

        @tf.function(input_signature=[one])
        def counted(self, x: Any) -> dict[str, Any]:
            return {"count": self.count.assign_add(1), "x": x}

        @tf.function(input_signature=[one])
        def summed(self, x: Any) -> dict[str, Any]:
            return {"total": self.total.assign_add(tf.reduce_sum(x))}

        @tf.function(input_signature=[one])
        def peeked(self, x: Any) -> dict[str, Any]:
            return {"y": x * 0.0 + tf.cast(self.count, tf.float32)}

        @tf.function(input_signature=[text])
        def peeked_words(self, text: Any) -> dict[str, Any]:
            many = tf.strings.as_string(self.count)
            return {"y": tf.strings.join([text, tf.fill(tf.shape(text), many)])}

        @tf.function(input_signature=[one])
        def branched(self, x: Any) -> dict[str, Any]:
            return {"y": tf.cond(self.count > 0, lambda: x + 1.0, lambda: x)}

        @tf.function(input_signature=[one])
        def scaled(self, x: Any) -> dict[str, Any]:
            return {"y": x * self.scale}

        @tf.function(input_signature=[text])
        def learned(self, text: Any) -> dict[str, Any]:
            start = self.known.size()
            numbers = start + tf.range(tf.size(text, tf.int64), dtype=tf.int64)
            with tf.control_dependencies([self.known.insert(text, numbers)]):
                return {"size": self.known.size()}

        @tf.function(input_signature=[text])
        def found(self, text: Any) -> dict[str, Any]:
            return {"number": self.known.lookup(text)}

        @tf.function(input_signature=[one])
        def drawn(self, x: Any) -> dict[str, Any]:
            return {"y": x * 0.0 + self.generator.uniform(tf.shape(x))}

    model = Model()
    names = (
        "counted", "summed", "peeked", "peeked_words", "branched", "scaled", "learned", "found",
        "drawn",
    )  # fmt: skip
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
