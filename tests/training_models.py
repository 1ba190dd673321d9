"""SavedModels with a switch for training, and TensorFlow's answers, made in a process of its own.

python tests/training_models.py OUT    # OUT/NAME/saved_model.pb, OUT/answers.npz
"""

# mypy: disable-error-code="untyped-decorator"

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROWS = (1, 2, 3, 4, 7, 9)
WIDTHS = {"normed": 4, "weighed": 4, "wide": 6, "serving_default": 4}


def build(out: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Writes the models `switched` (TF2) and `session` (TF1) under `out`; TensorFlow's answers.

    By `SIGNATURE VALUE ROWS`; what `inputs` are for.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out / "answers.npz") as found:
        return dict(found)


def inputs(signature: str, rows: int) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng([rows, WIDTHS[signature]])
    return draw.normal(size=(rows, WIDTHS[signature])).astype(np.float32)


def switched(tf: Any, path: str) -> None:
    """Statistics of the batch or of the training, by `tf.cond`; and a bool that is a number."""
    draw = np.random.default_rng(0)
    flag = tf.TensorSpec([], tf.bool, name="training")

    def normalized(x: Any, training: Any, mean: Any) -> Any:
        def of_batch() -> Any:
            return x - tf.reduce_mean(x, axis=0, keepdims=True)

        return tf.cond(training, of_batch, lambda: x - mean)

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(draw.normal(size=(4, 3)).astype(np.float32))
            self.mean = tf.Variable(draw.normal(size=(4,)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x"), flag])
        def normed(self, x: Any, training: Any) -> dict[str, Any]:
            return {"y": tf.tanh(normalized(x, training, self.mean) @ self.kernel)}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x"), flag])
        def weighed(self, x: Any, training: Any) -> dict[str, Any]:
            return {"y": x @ self.kernel + tf.cast(training, tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x"), flag])
        def wide(self, x: Any, training: Any) -> dict[str, Any]:
            return {"y": tf.tanh(normalized(x, training, 0.5))}

    model = Model()
    signatures = {name: getattr(model, name) for name in ("normed", "weighed", "wide")}
    tf.saved_model.save(model, path, signatures=signatures)


def session(tf: Any, path: str) -> None:
    """TF1's `cond` (Switch and Merge) around batch normalization, and around dropout."""
    v1 = tf.compat.v1
    draw = np.random.default_rng(1)
    with tf.Graph().as_default(), v1.Session() as run:
        v1.disable_control_flow_v2()
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        training = v1.placeholder(tf.bool, [], name="is_training")
        kernel = v1.Variable(draw.normal(size=(4, 5)).astype(np.float32), use_resource=False)
        ones, mean = np.ones(5, np.float32), np.full(5, 0.3, np.float32)
        hidden = tf.reshape(x @ kernel, [-1, 1, 1, 5])

        def norm(is_training: bool) -> Any:
            known = [] if is_training else [mean, 2 * ones]
            return v1.nn.fused_batch_norm(hidden, ones, ones, *known, is_training=is_training)[0]

        normed = v1.cond(training, lambda: norm(True), lambda: norm(False))
        dropped = v1.cond(training, lambda: tf.nn.dropout(normed, 0.5), lambda: normed)
        y = tf.reshape(tf.nn.sigmoid(dropped), [-1, 5])
        run.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(run, path, {"x": x, "is_training": training}, {"y": y})
        v1.enable_control_flow_v2()


def main(out: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tensorflow as tf

    switched(tf, str(out / "switched"))
    session(tf, str(out / "session"))
    answers = {}
    for name in ("switched", "session"):
        model = tf.saved_model.load(str(out / name))
        for signature, function in model.signatures.items():
            flag = "is_training" if name == "session" else "training"
            for value in (False, True):
                for rows in ROWS:
                    x = tf.constant(inputs(signature, rows))
                    given = {"x": x, flag: tf.constant(value)}
                    answers[f"{signature} {value} {rows}"] = function(**given)["y"].numpy()
    np.savez(out / "answers.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
