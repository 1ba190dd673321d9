"""The models of the engine benchmark, built by Keras with seeded weights: SavedModels and inputs.

    python -m bench.engine.zoo DIRECTORY [NAME ...]

Random weights are as fast as trained ones. Batch norm's statistics are perturbed, so that no
engine may drop them.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Inputs = dict[str, Array]

TOKENS = 128
WORDS = [f"w{i:05d}" for i in range(20_000)]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """How to build one model, and what to ask it."""

    build: Callable[[Any, str], None]
    """(keras, path): writes the SavedModel."""
    inputs: Callable[[np.random.Generator, int], Inputs]
    """(random, rows) → alias → array."""
    shapes: tuple[str, ...] = ()
    """`--shape` of jaxrt compile, for models with other unknown dimensions than the batch."""
    why: str = ""


def _perturb(model: Any) -> None:
    random = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights(
                [
                    random.uniform(low, high, weight.shape)
                    for (low, high), weight in zip(
                        ((0.8, 1.2), (-0.1, 0.1), (-0.1, 0.1), (0.7, 1.3)),
                        layer.get_weights(),
                        strict=True,
                    )
                ]
            )


def _export(model: Any, path: str) -> None:
    _perturb(model)
    model.export(path, verbose=False)


def _gelu(keras: Any, x: Any) -> Any:
    """By erf, as exports of its time have it; Keras 3 writes erfc, which tf2onnx lacks."""
    return 0.5 * x * (1.0 + keras.ops.erf(x * 0.5**0.5))


def _mlp(keras: Any, path: str) -> None:
    layers = keras.layers
    x = start = layers.Input((256,), name="features")
    for units in (1024, 1024, 384):
        x = _gelu(keras, layers.BatchNormalization()(layers.Dense(units)(x)))
    _export(keras.Model(start, layers.Dense(1, activation="sigmoid")(x)), path)


def _wide_deep(keras: Any, path: str) -> None:
    """Strings in: vocabularies, hashes, crosses, buckets; then a dense tower."""
    layers = keras.layers
    city = layers.Input((1,), dtype="string", name="city")
    device = layers.Input((1,), dtype="string", name="device")
    user = layers.Input((1,), dtype="int64", name="user")
    numbers = layers.Input((8,), name="numbers")
    devices = layers.StringLookup(vocabulary=["ios", "android", "web"], output_mode="one_hot")
    wide = [
        devices(device),
        layers.HashedCrossing(num_bins=1000, output_mode="one_hot")((city, device)),
    ]
    deep = [
        layers.Flatten()(layers.Embedding(20_001, 32)(layers.StringLookup(vocabulary=WORDS)(city))),
        layers.Flatten()(layers.Embedding(50_000, 32)(layers.Hashing(50_000)(user))),
        numbers,
        devices(device),
    ]
    x = layers.Concatenate()(deep)
    for units in (256, 128, 64):
        x = layers.Dense(units, activation="relu")(x)
    logit = layers.Add()([layers.Dense(1)(x), layers.Dense(1)(layers.Concatenate()(wide))])
    inputs = {"city": city, "device": device, "user": user, "numbers": numbers}
    _export(keras.Model(inputs, layers.Activation("sigmoid")(logit)), path)


def _wide_deep_inputs(random: np.random.Generator, rows: int) -> Inputs:
    return {
        "city": _bytes(random.choice(WORDS, (rows, 1))),
        "device": _bytes(random.choice(["ios", "android", "tv"], (rows, 1))),
        "user": random.integers(0, 10**9, (rows, 1)),
        "numbers": random.normal(size=(rows, 8)).astype(np.float32),
    }


def _bytes(words: Array) -> Array:
    """As servers hold strings: objects, each of them bytes."""
    return np.char.encode(words).astype(object)


def _dlrm(large: int, small: int) -> Callable[[Any, str], None]:
    """26 embeddings, dots between all of them, after Naumov et al., arXiv:1906.00091.

    Six tables have `large` rows, the others `small`.
    """

    def build(keras: Any, path: str) -> None:
        layers, ops = keras.layers, keras.ops
        dense = layers.Input((13,), name="dense")
        ids = layers.Input((26,), dtype="int64", name="ids")
        x = dense
        for units in (128, 64, 16):  # named: Keras' own first name is that of the input
            x = layers.Dense(units, activation="relu", name=f"bottom_{units}")(x)
        tables = [layers.Embedding(large if i < 6 else small, 16) for i in range(26)]
        vectors = [x, *(tables[i](ids[:, i] % tables[i].input_dim) for i in range(26))]
        stack = ops.stack(vectors, axis=1)
        dots = ops.reshape(ops.matmul(stack, ops.transpose(stack, (0, 2, 1))), (-1, 27 * 27))
        below = [i * 27 + j for i in range(27) for j in range(i)]
        x = ops.concatenate([x, ops.take(dots, np.array(below), axis=1)], axis=1)
        for units in (256, 128):
            x = layers.Dense(units, activation="relu", name=f"top_{units}")(x)
        out = layers.Dense(1, activation="sigmoid", name="click")(x)
        _export(keras.Model({"dense": dense, "ids": ids}, out), path)

    return build


def _dlrm_inputs(random: np.random.Generator, rows: int) -> Inputs:
    return {
        "dense": random.normal(size=(rows, 13)).astype(np.float32),
        "ids": random.integers(0, 2**40, (rows, 26)),
    }


def _two_tower(users: int, items: int) -> Callable[[Any, str], None]:
    """A query tower and the ten best items."""

    def build(keras: Any, path: str) -> None:
        layers, ops = keras.layers, keras.ops
        user = layers.Input((), dtype="int32", name="user")
        x = layers.Dense(128, activation="relu")(layers.Embedding(users, 64)(user))
        x = ops.normalize(layers.Dense(64)(x))
        scores = layers.Dense(items, use_bias=False)(x)
        best = ops.top_k(scores, 10)
        _export(keras.Model({"user": user}, {"scores": best[0], "items": best[1]}), path)

    return build


def _lstm(keras: Any, path: str) -> None:
    layers = keras.layers
    ids = layers.Input((64,), dtype="int32", name="ids")
    x = layers.Embedding(5_000, 64, mask_zero=True)(ids)
    x = layers.Bidirectional(layers.LSTM(64))(x)
    x = layers.Dense(64, activation="relu")(x)
    _export(keras.Model({"ids": ids}, layers.Dense(4, activation="softmax")(x)), path)


def _application(name: str, activation: str | None = "softmax") -> Callable[[Any, str], None]:
    def build(keras: Any, path: str) -> None:
        image = keras.layers.Input((224, 224, 3), name="image")
        architecture = getattr(keras.applications, name)
        model = architecture(weights=None, input_tensor=image, classifier_activation=activation)
        _export(model, path)

    return build


def _residual(keras: Any, path: str) -> None:
    """ResNet-50's stem and two of its bottlenecks, narrow; logits."""
    layers = keras.layers

    def convolved(x: Any, filters: int, window: int, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, window, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = layers.Input((64, 64, 3), name="image")
    x = layers.MaxPool2D(3, 2, padding="same")(layers.ReLU()(convolved(image, 32, 7, 2)))
    for filters, strides in ((32, 1), (64, 2)):
        inner = layers.ReLU()(convolved(x, filters, 1, strides))
        inner = convolved(layers.ReLU()(convolved(inner, filters, 3)), 4 * filters, 1)
        x = layers.ReLU()(inner + convolved(x, 4 * filters, 1, strides))
    out = layers.Dense(64)(layers.GlobalAveragePooling2D()(x))
    _export(keras.Model({"image": image}, out), path)


def _unet(keras: Any, path: str) -> None:
    layers = keras.layers
    x = image = layers.Input((128, 128, 3), name="image")
    skips = []
    for filters in (16, 32, 64):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        skips.append(x)
        x = layers.MaxPool2D()(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    for filters, skip in zip((64, 32, 16), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    out = layers.Conv2D(4, 1, activation="softmax")(x)
    _export(keras.Model({"image": image}, out), path)


def _bert(depth: int, width: int, heads: int) -> Callable[[Any, str], None]:
    """An encoder after Devlin et al., arXiv:1810.04805, its vocabulary and sizes."""

    def build(keras: Any, path: str) -> None:
        layers, ops = keras.layers, keras.ops
        ids = layers.Input((None,), dtype="int32", name="ids")
        mask = layers.Input((None,), dtype="int32", name="mask")
        small = keras.initializers.TruncatedNormal(stddev=0.02, seed=0)
        words = layers.Embedding(30_522, width, embeddings_initializer=small)(ids)
        places = layers.Embedding(512, width, embeddings_initializer=small)
        x = words + places(ops.cumsum(ops.ones_like(ids), axis=1) - 1)
        x = layers.LayerNormalization(epsilon=1e-12)(x)
        allowed = ops.cast(mask, "bool")[:, None, :]
        for _ in range(depth):
            attention = layers.MultiHeadAttention(heads, width // heads)
            x = layers.LayerNormalization(epsilon=1e-12)(
                x + attention(x, x, attention_mask=allowed)
            )
            wide = _gelu(keras, layers.Dense(4 * width)(x))
            x = layers.LayerNormalization(epsilon=1e-12)(x + layers.Dense(width)(wide))
        pooled = layers.Dense(width, activation="tanh")(x[:, 0])
        _export(keras.Model({"ids": ids, "mask": mask}, {"states": x, "pooled": pooled}), path)

    return build


def _bert_inputs(random: np.random.Generator, rows: int) -> Inputs:
    lengths = random.integers(TOKENS // 2, TOKENS + 1, (rows, 1))
    return {
        "ids": random.integers(1, 30_522, (rows, TOKENS)).astype(np.int32),
        "mask": (np.arange(TOKENS)[None] < lengths).astype(np.int32),
    }


def _floats(alias: str, *shape: int) -> Callable[[np.random.Generator, int], Inputs]:
    return lambda random, rows: {alias: random.normal(size=(rows, *shape)).astype(np.float32)}


def _images(size: int) -> Callable[[np.random.Generator, int], Inputs]:
    return lambda random, rows: {
        "image": random.uniform(-1, 1, (rows, size, size, 3)).astype(np.float32)
    }


def _ids(alias: str, bound: int, *shape: int) -> Callable[[np.random.Generator, int], Inputs]:
    return lambda random, rows: {alias: random.integers(1, bound, (rows, *shape)).astype(np.int32)}


_BERT_SHAPES = (f"*={TOKENS}",)

MODELS: Mapping[str, Model] = {
    "mlp": Model(build=_mlp, inputs=_floats("features", 256), why="1.7 M weights, GELU"),
    "wide_deep": Model(build=_wide_deep, inputs=_wide_deep_inputs, why="strings in"),
    "dlrm": Model(build=_dlrm(100_000, 5_000), inputs=_dlrm_inputs, why="26 embeddings, dots"),
    "two_tower": Model(
        build=_two_tower(20_000, 100_000), inputs=_ids("user", 20_000), why="top 10 of 100,000"
    ),
    "lstm": Model(build=_lstm, inputs=_ids("ids", 5_000, 64), why="masked BiLSTM, 64 steps"),
    "mobilenetv2": Model(build=_application("MobileNetV2"), inputs=_images(224)),
    "efficientnetb0": Model(build=_application("EfficientNetB0"), inputs=_images(224)),
    "resnet50": Model(build=_application("ResNet50"), inputs=_images(224)),
    "unet": Model(build=_unet, inputs=_images(128), why="128×128, skips, transposed"),
    "bert_small": Model(
        build=_bert(4, 512, 8), inputs=_bert_inputs, shapes=_BERT_SHAPES, why="128 tokens"
    ),
    "bert_base": Model(
        build=_bert(12, 768, 12), inputs=_bert_inputs, shapes=_BERT_SHAPES, why="128 tokens"
    ),
}

SHARDED: Mapping[str, Model] = {
    "small/bert": Model(build=_bert(2, 64, 4), inputs=_bert_inputs, shapes=_BERT_SHAPES),
    "small/dlrm": Model(build=_dlrm(4_096, 512), inputs=_dlrm_inputs),
    "small/two_tower": Model(build=_two_tower(4_096, 4_096), inputs=_ids("user", 4_096)),
    "small/resnet": Model(build=_residual, inputs=_images(64)),
    "bert_base": MODELS["bert_base"],
    "dlrm": MODELS["dlrm"],
    "two_tower": MODELS["two_tower"],
    "resnet50": Model(build=_application("ResNet50", None), inputs=_images(224)),
}
"""What is tried on several devices: logits, which show errors that a softmax hides."""


def build(name: str, directory: Path, models: Mapping[str, Model] = MODELS) -> Path:
    """The SavedModel of one model, made unless it is there. Imports TensorFlow."""
    path = directory / name
    if not (path / "saved_model.pb").exists():
        import keras

        keras.utils.set_random_seed(0)
        models[name].build(keras, str(path))
    return path


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is imported
    for chosen in sys.argv[2:] or MODELS:
        print(build(chosen, Path(sys.argv[1])))
