"""SavedModels of random dense layers, written by TensorFlow in a process of its own.

python tests/wide_models.py PATH SEED WIDTH LAYERS
"""

# mypy: disable-error-code="untyped-decorator"

import subprocess
import sys
from pathlib import Path
from typing import Any


def build(path: Path, *, seed: int = 0, width: int = 64, layers: int = 2) -> Path:
    """x [?, width] → y [?, width]: `layers` products, each of `width` x `width` float32 weights."""
    words = [sys.executable, __file__, str(path), str(seed), str(width), str(layers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def save(path: str, seed: int, width: int, layers: int) -> None:
    import numpy as np
    import tensorflow as tf

    draw = np.random.default_rng(seed)

    class Wide(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernels = [
                tf.Variable((draw.normal(size=(width, width)) / width**0.5).astype("f4"))
                for _ in range(layers)
            ]

        @tf.function(input_signature=[tf.TensorSpec([None, width], tf.float32, name="x")])
        def __call__(self, x: Any) -> dict[str, Any]:
            for kernel in self.kernels:
                x = tf.tanh(x @ kernel)
            return {"y": x}

    model = Wide()
    tf.saved_model.save(model, path, signatures=model.__call__)


if __name__ == "__main__":
    save(sys.argv[1], *map(int, sys.argv[2:]))
