"""Tiny SavedModels, written by TensorFlow in a process of its own.

python tests/savedmodels.py OUT NAME...    # OUT/NAME/saved_model.pb
"""

# mypy: disable-error-code="untyped-decorator"

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUILDERS: dict[str, Callable[[str], None]] = {}


def build(out: Path, *names: str) -> Path:
    """Writes the named models under `out` and returns it."""
    done = subprocess.run(
        [sys.executable, __file__, str(out), *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def builder(function: Callable[[str], None]) -> Callable[[str], None]:
    BUILDERS[function.__name__] = function
    return function


@builder
def module(path: str) -> None:
    """tf.Module: outputs that are inputs, constants, captures, or given twice; odd signatures."""
    import numpy as np
    import tensorflow as tf

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.linspace(-1, 1, 6, dtype="f4").reshape(2, 3))
            self.twin = tf.Variable(np.full((2, 3), 2, "f4"))
            self.half = tf.Variable(tf.constant([1.5, 2.5], tf.bfloat16), name="half")
            self.empty = tf.Variable(np.zeros((0, 3), "f4"), name="empty")
            self.shared = tf.constant(np.arange(300, dtype="f4"))

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="z"),
                tf.TensorSpec([None], tf.int64, name="a"),
                tf.TensorSpec([], tf.float64, name="unused"),
            ]
        )
        def many(self, z: Any, a: Any, unused: Any) -> dict[str, Any]:
            y = z @ self.kernel * self.twin[0]
            return {
                "zz": y,
                "again": y,
                "alias": a,
                "const": tf.constant([1, 2, 3], tf.int16),
                "captured": self.shared,
                "rows": tf.shape(z)[0],
                "half": self.half + tf.cast(z[0], tf.bfloat16),
                "empty": self.empty * 2.0,
                "truth": z > 0,
            }

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
        def scalar(self, x: Any) -> dict[str, Any]:
            return {"y": x * self.twin[0, 0]}

        @tf.function(input_signature=[])
        def nothing_in(self) -> dict[str, Any]:
            return {"y": self.twin + 1.0}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def checked(self, x: Any) -> dict[str, Any]:
            tf.debugging.assert_positive(x, message="want positive")
            tf.strings.as_string(x)  # nobody reads it
            return {"y": x * 2.0}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def words(self, text: Any) -> dict[str, Any]:
            return {"length": tf.strings.length(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def inside(self, x: Any) -> dict[str, Any]:
            return {"y": tf.strings.to_number(tf.strings.as_string(x))}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
        def least_squares(self, x: Any) -> dict[str, Any]:
            return {"y": tf.linalg.lstsq(x, x, fast=False)}

        @tf.function(input_signature=[tf.TensorSpec([2], tf.int32, name="n")])
        def sized_by_an_input(self, n: Any) -> dict[str, Any]:
            return {"y": tf.zeros(n)}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
        def growing(self, n: Any) -> dict[str, Any]:
            found = tf.TensorArray(tf.int32, size=0, dynamic_size=True)
            for i in tf.range(n):
                found = found.write(i, i * i)
            return {"y": found.stack()}

    model = Model()
    names = ("many", "scalar", "nothing_in", "checked", "words", "inside", "least_squares")
    signatures = {name: getattr(model, name) for name in (*names, "sized_by_an_input", "growing")}
    tf.saved_model.save(model, path, signatures=signatures)


@builder
def counter(path: str) -> None:
    """TF2: one signature changes a variable, one reads it, one reads another."""
    import tensorflow as tf

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.count = tf.Variable(0.0, name="count")
            self.scale = tf.Variable(3.0, name="scale")

        def _step(self, by: Any) -> Any:
            return tf.function(lambda: self.count.assign_add(by))()

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
        def add(self, x: Any) -> dict[str, Any]:
            return {"y": tf.cond(x > 0.0, lambda: self._step(x), lambda: self.count + 0.0)}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
        def peek(self, x: Any) -> dict[str, Any]:
            return {"y": x + self.count}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
        def scaled(self, x: Any) -> dict[str, Any]:
            return {"y": x * self.scale}

    model = Model()
    signatures = {name: getattr(model, name) for name in ("add", "peek", "scaled")}
    tf.saved_model.save(model, path, signatures=signatures)


@builder
def session(path: str) -> None:
    """TF1: reference variables, a training graph around them, odd feeds and keys; as .pbtxt."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as s:
        v1.disable_control_flow_v2()
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        training = v1.placeholder_with_default(False, [], name="training")
        w = v1.get_variable("w", initializer=[[1.0, 2.0], [3.0, 4.0]], use_resource=False)
        b = v1.get_variable("b", initializer=[0.5, -0.5], use_resource=True)
        sizes = v1.get_variable("sizes", initializer=[-1, 1, 2], use_resource=False)
        v1.get_variable("unread", shape=[5], use_resource=False)
        guard = v1.assert_equal(v1.shape(x)[1], 2, message="want two columns")
        with v1.control_dependencies([guard]):
            h = tf.matmul(x, w, name="h") + b
        h = v1.cond(training, lambda: tf.nn.dropout(h, rate=0.5), lambda: h * 2.0)
        y = tf.reshape(h, sizes, name="y")
        switched = v1.cond(x[0, 0] > 0, lambda: x + 1.0, lambda: x * 2.0)
        count = v1.get_variable("count", initializer=0.0, use_resource=False)
        counted = v1.assign_add(count, 1.0)
        # What training leaves behind: a queue, a gradient, an optimizer's uninitialised slots.
        queue = v1.train.string_input_producer(["a", "b"])
        loss = v1.reduce_sum(y) + tf.cast(v1.size(queue.dequeue()), tf.float32)
        s.run(v1.global_variables_initializer())
        v1.train.AdamOptimizer().minimize(loss, var_list=[w])
        unfed = v1.placeholder(tf.float32, [], name="unfed") + 1.0
        info = v1.saved_model.utils.build_tensor_info
        sparse = tf.SparseTensor([[0, 0]], [1.0], [1, 1])

        def signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
            return v1.saved_model.signature_def_utils.build_signature_def(
                {k: info(t) for k, t in inputs.items()},
                {k: info(t) for k, t in outputs.items()},
                "tensorflow/serving/predict",
            )

        signatures = {
            "serving_default": signature({"x": x}, {"y": y, "back": x, "w": w}),
            "default_input_alternative:None": signature({"h:in": h}, {"y/out": y}),
            "twice": signature({"b": x, "a": x}, {"y": y}),
            "trained": signature({"x": x, "training": training}, {"y": y}),
            "switched": signature({"x": x}, {"y": switched}),
            "count": signature({}, {"count": counted}),
            "counted": signature({}, {"count": count}),
            "unfed": signature({"x": x}, {"y": unfed}),
            "sparse": signature({"x": x}, {"y": sparse}),
        }
        save = v1.saved_model.builder.SavedModelBuilder(path)
        saver = v1.train.Saver([w, b, sizes, count])
        save.add_meta_graph_and_variables(s, ["serve"], signatures, saver=saver)
        save.add_meta_graph(["serve", "gpu"], signatures)
        save.save(as_text=True)


@builder
def keras2(path: str) -> None:
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.layers.Input((4,), name="features")
    hidden = tf_keras.layers.BatchNormalization()(tf_keras.layers.Dense(3)(inputs))
    tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="score")(hidden)).save(path)


@builder
def keras3(path: str) -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((4,), name="features")
    model = keras.Model(inputs, keras.layers.Dense(2, name="score")(inputs))
    model.export(path, verbose=False)


def main(arguments: list[str]) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    out, *names = arguments
    for name in names:
        BUILDERS[name](os.path.join(out, name))


if __name__ == "__main__":
    main(sys.argv[1:])
