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


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
