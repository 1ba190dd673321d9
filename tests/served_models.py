"""SavedModels for the tests of the command line, written by TensorFlow in a process of its own.

python tests/served_models.py OUT    # OUT/NAME/saved_model.pb
"""

# mypy: disable-error-code="untyped-decorator"

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def build(out: Path) -> Path:
    """Writes all models under `out` and returns it."""
    done = subprocess.run(
        [sys.executable, __file__, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def rows(tf: Any, path: str) -> None:
    """Rows that are independent, rows that are not, and sizes that nobody knows."""

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            random = np.random.default_rng(0)
            self.kernel = tf.Variable(random.normal(size=(4, 3)).astype(np.float32))
            self.table = tf.Variable(random.normal(size=(10, 5)).astype(np.float32))
            self.square = tf.constant(random.normal(size=(256, 256)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def dense(self, x: Any) -> dict[str, Any]:
            y = tf.tanh(x @ self.kernel)
            return {"y": y, "best": tf.argmax(y, axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def centered(self, x: Any) -> dict[str, Any]:
            return {"y": x - tf.reduce_mean(x, axis=0), "share": tf.nn.softmax(x, axis=0)}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
        def tokens(self, ids: Any) -> dict[str, Any]:
            return {"y": tf.reduce_sum(tf.gather(self.table, ids), axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([1, 1], tf.float32, name="x")])
        def slow(self, x: Any) -> dict[str, Any]:
            """As many steps towards a fixed point as `x` says, one request at a time."""
            steps = tf.cast(x[0, 0], tf.int32)

            def step(i: Any, y: Any) -> tuple[Any, Any]:
                return i + 1, tf.tanh(self.square @ y * 0.01 + 1.0)

            start = tf.zeros([256, 256])
            return {"y": tf.while_loop(lambda i, y: i < steps, step, (0, start))[1][:1, :1]}

    model = Model()
    signatures = {n: getattr(model, n) for n in ("centered", "tokens", "slow")}
    tf.saved_model.save(model, path, signatures={"serving_default": model.dense, **signatures})


def linear(tf: Any, path: str, slope: float) -> None:
    """y = slope * x: tells versions and models apart."""

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.slope = tf.Variable(slope)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x: Any) -> dict[str, Any]:
            return {"y": self.slope * x}

    model = Model()
    tf.saved_model.save(model, path, signatures=model.__call__)


def unsigned(tf: Any, path: str) -> None:
    """No signatures at all."""
    model = tf.Module()
    model.variable = tf.Variable(1.0)
    tf.saved_model.save(model, path)


def sparse(tf: Any, path: str, *, alone: bool) -> None:
    """TF1: a signature whose output is no dense tensor, `alone` or beside one that doubles."""
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        info = v1.saved_model.utils.build_tensor_info
        define = v1.saved_model.signature_def_utils.build_signature_def
        y = tf.SparseTensor([[0]], x[:1], [1])
        signatures = {"sparse": define({"x": info(x)}, {"y": info(y)}, "predict")}
        if not alone:
            signatures["serving_default"] = define({"x": info(x)}, {"y": info(x * 2.0)}, "predict")
        builder = v1.saved_model.builder.SavedModelBuilder(path)
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def main(out: str) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    rows(tf, os.path.join(out, "rows"))
    unsigned(tf, os.path.join(out, "unsigned"))
    sparse(tf, os.path.join(out, "sparse"), alone=True)
    sparse(tf, os.path.join(out, "mixed"), alone=False)
    for version in (1, 2, 10):
        linear(tf, os.path.join(out, "linear", str(version)), float(version))


if __name__ == "__main__":
    main(sys.argv[1])
