"""SavedModels with channels that change nothing, made by TensorFlow in a process of its own.

python tests/dead_models.py OUT    # OUT/NAME/saved_model.pb
"""

# mypy: disable-error-code="untyped-decorator"

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def build(out: Path) -> Path:
    """Writes `image` and `words` (Keras), `function` (TF2) and `frozen` (TF1) under `out`."""
    done = subprocess.run(
        [sys.executable, __file__, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def silence(layer: Any, channels: list[int], bias: float = 0.0) -> None:
    """Its outputs `channels` are `bias`, whatever comes in."""
    kernel, *more = layer.get_weights()
    kernel[..., channels] = 0
    for array in more:
        array[..., channels] = bias
    layer.set_weights([kernel, *more])


def image(tf: Any, path: str) -> None:
    """Batch norms, depthwise and grouped kernels, a residual, squeeze and excite, branches."""
    layers = tf.keras.layers
    relu = {"activation": "relu"}
    stem = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")
    norm = layers.BatchNormalization(name="norm")
    wide = layers.Conv2D(24, 1, name="wide", **relu)
    deep = layers.DepthwiseConv2D(3, padding="same", name="deep")
    down = layers.Conv2D(16, 1, name="down", **relu)
    one, other = (layers.Conv2D(8, n, padding="same", name=f"branch{n}", **relu) for n in (1, 3))
    grouped = layers.Conv2D(12, 3, groups=4, name="grouped", **relu)
    hidden = layers.Dense(32, name="hidden", **relu)
    given = tf.keras.Input((8, 8, 3))
    first = layers.ReLU()(norm(stem(given)))
    x = layers.Add()([first, down(layers.ReLU()(deep(wide(first))))])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, name="squeeze", **relu)(gate)
    x = layers.Multiply()([x, layers.Conv2D(16, 1, activation="sigmoid", name="excite")(gate)])
    x = layers.Concatenate()([one(x), other(x)])
    x = layers.MaxPooling2D()(grouped(x))
    answer = layers.Dense(5, name="head")(hidden(layers.Flatten()(x)))
    model = tf.keras.Model(given, answer)
    scale, shift, mean, variance = norm.get_weights()
    scale[[0, 1, 2]] = 0
    shift[[0, 1, 2]] = (0.0, -0.5, 0.5)  # the last is scaled by what squeeze and excite says
    norm.set_weights([scale, shift, mean, variance])
    silence(down, [0, 1, 2])
    silence(wide, [5, 6])
    silence(deep, [])
    silence(one, [3, 7])  # of 4 groups of 4 channels each loses one
    silence(other, [3, 7])
    silence(grouped, [0, 3, 6, 9])  # the first of each group
    silence(hidden, [7], bias=0.25)  # moves into the head's bias
    model.export(path, verbose=False)


def words(tf: Any, path: str) -> None:
    """Two LSTMs, one behind the other, and attention over what they say."""
    layers = tf.keras.layers
    first = layers.LSTM(16, return_sequences=True, name="first")
    attention = layers.MultiHeadAttention(4, 8, name="attention")
    given = tf.keras.Input((6,), dtype="int32")
    x = first(layers.Embedding(40, 12, name="table")(given))
    x = layers.LSTM(8, return_sequences=True, name="second")(layers.Add()([x, attention(x, x)]))
    model = tf.keras.Model(given, layers.Dense(3, name="head")(x[:, -1]))
    kernel, again, bias = first.get_weights()
    kernel[[2, 3]] = 0  # columns of the table that nobody hears
    first.set_weights([kernel, again, bias])
    arrays = attention.get_weights()
    arrays[6][1] = 0  # a head that nobody hears
    attention.set_weights(arrays)
    kernel, again, bias = model.get_layer("second").get_weights()
    kernel[:, 21] = again[:, 21] = bias[21] = 0  # unit 5 learns nothing
    model.get_layer("second").set_weights([kernel, again, bias])
    model.export(path, verbose=False)


def function(tf: Any, path: str) -> None:
    """Two signatures that share weights: what one shows, the other keeps."""
    draw = np.random.default_rng(0)

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            first, second = draw.normal(size=(6, 40)), draw.normal(size=(40, 36))
            third = draw.normal(size=(36, 4))
            first[:, :8] = 0
            third[:6] = 0
            self.first = tf.Variable(first.astype("f4"), name="first")
            self.second = tf.Variable(second.astype("f4"), name="second")
            self.third = tf.Variable(third.astype("f4"), name="third")

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
        def answer(self, x: Any) -> Any:
            hidden = tf.nn.relu(tf.matmul(x, self.first))
            return {"y": tf.matmul(tf.tanh(tf.matmul(hidden, self.second)), self.third)}

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
        def features(self, x: Any) -> Any:
            return {"y": tf.matmul(tf.nn.relu(tf.matmul(x, self.first)), self.second)}

    model = Model()
    signatures = {"serving_default": model.answer, "features": model.features}
    tf.saved_model.save(model, path, signatures=signatures)


def frozen(tf: Any, path: str) -> None:
    """Weights are constants of the graph."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(3, 3, 3, 48)), draw.normal(size=(5, 5, 48, 8))
    first[..., 40:] = 0
    tf1 = tf.compat.v1
    with tf1.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        hidden = tf.nn.conv2d(x, tf.constant(first.astype("f4")), 1, "SAME")
        hidden = tf.nn.bias_add(hidden, tf.constant(np.full(48, 0.3, "f4")))
        y = tf.nn.conv2d(tf.nn.relu6(hidden), tf.constant(second.astype("f4")), 1, "VALID")
        spec = tf1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder = tf1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map={"serving_default": spec}
        )
        builder.save()


def main(out: str) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    for make in (image, words, function, frozen):
        make(tf, os.path.join(out, make.__name__))


if __name__ == "__main__":
    main(sys.argv[1])
