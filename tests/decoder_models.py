"""A tiny SavedModel whose loops write a list until the rows say that it is enough.

python tests/decoder_models.py OUT decoders    # OUT/decoders/saved_model.pb
"""

# mypy: disable-error-code="untyped-decorator"

import subprocess
import sys
from pathlib import Path
from typing import Any

import savedmodels
from savedmodels import builder


def build(out: Path) -> Path:
    """Writes the model under `out` and returns its folder."""
    done = subprocess.run(
        [sys.executable, __file__, str(out), "decoders"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out / "decoders"


@builder
def decoders(path: str) -> None:
    """tf.Module: a row asks for as many steps as `left` says; rows of a request end together."""
    import numpy as np
    import tensorflow as tf

    left = tf.TensorSpec([None], tf.float32, name="left")
    limit = tf.TensorSpec([], tf.int32, name="limit")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            kernel = np.linspace(-0.4, 0.4, 16, dtype="f4").reshape(4, 4)
            self.kernel = tf.Variable(kernel)

        def _start(self, left: Any) -> Any:
            return left[:, tf.newaxis] * tf.constant([[0.1, -0.2, 0.05, 0.3]])

        def _list(self, dtype: Any, shape: Any) -> Any:
            return tf.TensorArray(dtype, 0, dynamic_size=True, element_shape=shape)

        @tf.function(input_signature=[left, limit])
        def all_done(self, left: Any, limit: Any) -> dict[str, Any]:
            def step(t: Any, h: Any, done: Any, out: Any) -> Any:
                h = tf.tanh(h @ self.kernel) + 0.1
                token = tf.where(done, 0, tf.argmax(h, 1, output_type=tf.int32) + t)
                ended = tf.cast(t + 1, tf.float32) >= left
                return t + 1, h, done | ended, out.write(t, token)

            steps, state, done, out = tf.while_loop(
                lambda t, h, done, out: (t < limit) & ~tf.reduce_all(done),
                step,
                [0, self._start(left), left <= 0, self._list(tf.int32, [None])],
            )
            tokens = tf.transpose(out.stack())
            return {"tokens": tokens, "steps": steps, "state": state, "done": done}

        @tf.function(input_signature=[left])
        def any_left(self, left: Any) -> dict[str, Any]:
            def step(t: Any, h: Any, left: Any, wide: Any, shared: Any) -> Any:
                h = tf.tanh(h @ self.kernel) + 0.1
                number = tf.cast(t, tf.float32) * 0.5
                return t + 1, h, left - 1.0, wide.write(t, h), shared.write(t, number)

            _, _, left, wide, shared = tf.while_loop(
                lambda t, h, left, wide, shared: tf.reduce_any(left > 0),
                step,
                [
                    0,
                    self._start(left),
                    left,
                    self._list(tf.float32, [None, 4]),
                    self._list(tf.float32, []),
                ],
            )
            wide = tf.transpose(wide.stack(), [1, 0, 2])
            return {"wide": wide, "shared": shared.stack(), "over": left}

        @tf.function(input_signature=[left, limit])
        def counted(self, left: Any, limit: Any) -> dict[str, Any]:
            def step(t: Any, h: Any, out: Any) -> Any:
                h = tf.tanh(h @ self.kernel)
                return t + 1, h, out.write(t, tf.reduce_sum(h, 1))

            _, _, out = tf.while_loop(
                lambda t, h, out: t < limit,
                step,
                [0, self._start(left), self._list(tf.float32, [None])],
            )
            return {"sums": tf.transpose(out.stack())}

        @tf.function(input_signature=[left])
        def summed(self, left: Any) -> dict[str, Any]:
            """Rows decide by a sum: nobody can say for one of them alone."""

            def step(t: Any, h: Any, out: Any) -> Any:
                h = tf.tanh(h @ self.kernel)
                return t + 1, h, out.write(t, tf.reduce_sum(h, 1))

            _, _, out = tf.while_loop(
                lambda t, h, out: tf.cast(t, tf.float32) < tf.reduce_sum(left),
                step,
                [0, self._start(left), self._list(tf.float32, [None])],
            )
            return {"sums": tf.transpose(out.stack())}

        @tf.function(input_signature=[left])
        def averaged(self, left: Any) -> dict[str, Any]:
            """What the list gets is made of all rows at once."""

            def step(t: Any, left: Any, out: Any) -> Any:
                return t + 1, left - 1.0, out.write(t, tf.reduce_mean(left))

            _, _, out = tf.while_loop(
                lambda t, left, out: tf.reduce_any(left > 0),
                step,
                [0, left, self._list(tf.float32, [])],
            )
            return {"means": out.stack()}

    model = Model()
    names = ("all_done", "any_left", "counted", "summed", "averaged")
    tf.saved_model.save(model, path, signatures={n: getattr(model, n) for n in names})


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
