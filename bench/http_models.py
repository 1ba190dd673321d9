"""The models and request bodies of the HTTP benchmark, made here from nothing but a seed.

    python bench/http_models.py OUT    # OUT/NAME/1/saved_model.pb, for every name of WORKLOADS

TensorFlow is needed to write the models, not to send the requests.
"""

# mypy: disable-error-code="untyped-decorator"

import base64
import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, TOKENS, WORDS, SIDE = 80, 128, 1000, 224


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """A model, and one example of a request to it."""

    name: str
    what: str
    build: Callable[[Any], Any]
    """TensorFlow → a tf.Module whose `__call__` is the signature."""
    instance: Callable[[np.random.Generator], Any]
    """One item of `instances`, ready for json.dumps."""

    def bodies(self, count: int = 16) -> list[bytes]:
        """Different requests of one example each."""
        random = np.random.default_rng(7)
        return [json.dumps({"instances": [self.instance(random)]}).encode() for _ in range(count)]


def _layers(tf: Any, sizes: list[int]) -> list[tuple[Any, Any]]:
    random = np.random.default_rng(0)
    return [
        (
            tf.Variable(random.normal(0, n**-0.5, (n, m)).astype(np.float32)),
            tf.Variable(np.zeros(m, np.float32)),
        )
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]


def _forward(tf: Any, layers: list[tuple[Any, Any]], x: Any) -> Any:
    for kernel, bias in layers[:-1]:
        x = tf.nn.relu(x @ kernel + bias)
    kernel, bias = layers[-1]
    return x @ kernel + bias


def tabular(tf: Any) -> Any:
    """80 numbers → 64 → 32 → a probability: about 1 KB of JSON for an example."""

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = _layers(tf, [FEATURES, 64, 32, 1])

        @tf.function(input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, name="x")])
        def __call__(self, x: Any) -> dict[str, Any]:
            return {"score": tf.sigmoid(_forward(tf, self.layers, x))}

    return Model()


def tokens(tf: Any) -> Any:
    """128 token ids → the mean of their embeddings → 4 classes."""

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            random = np.random.default_rng(1)
            self.table = tf.Variable(random.normal(size=(WORDS, 64)).astype(np.float32))
            self.layers = _layers(tf, [64, 64, 4])

        @tf.function(input_signature=[tf.TensorSpec([None, TOKENS], tf.int32, name="ids")])
        def __call__(self, ids: Any) -> dict[str, Any]:
            words = tf.gather(self.table, ids)
            return {"logits": _forward(tf, self.layers, tf.reduce_mean(words, axis=1))}

    return Model()


def _classify(tf: Any, layers: list[tuple[Any, Any]], image: Any) -> Any:
    """[n, 224, 224, 3] → [n, 10]; light, so that the way there is what is measured."""
    pooled = tf.nn.avg_pool2d(image, 16, 16, "VALID")
    return tf.nn.softmax(_forward(tf, layers, tf.reshape(pooled, [-1, 14 * 14 * 3])))


def image(tf: Any) -> Any:
    """A float image as nested lists: 1.9 MB of JSON."""

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = _layers(tf, [14 * 14 * 3, 64, 10])

        @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="x")])
        def __call__(self, x: Any) -> dict[str, Any]:
            return {"probabilities": _classify(tf, self.layers, x)}

    return Model()


def image_b64(tf: Any) -> Any:
    """A JPEG in base64, decoded by the model."""

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = _layers(tf, [14 * 14 * 3, 64, 10])

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def __call__(self, image_bytes: Any) -> dict[str, Any]:
            images = tf.map_fn(
                lambda data: tf.ensure_shape(
                    tf.cast(tf.io.decode_jpeg(data, channels=3), tf.float32) / 255.0,
                    [SIDE, SIDE, 3],
                ),
                image_bytes,
                fn_output_signature=tf.float32,
            )
            return {"probabilities": _classify(tf, self.layers, images)}

    return Model()


def _numbers(random: np.random.Generator) -> Any:
    return [round(v, 6) for v in random.normal(size=FEATURES).tolist()]


def _ids(random: np.random.Generator) -> Any:
    return random.integers(0, WORDS, TOKENS).tolist()


def _pixels(random: np.random.Generator) -> Any:
    return np.round(random.random((SIDE, SIDE, 3)), 8).tolist()


def _jpeg(random: np.random.Generator) -> Any:
    from PIL import Image

    small = random.integers(0, 256, (14, 14, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((SIDE, SIDE)).save(file, "JPEG", quality=90)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


WORKLOADS = {
    w.name: w
    for w in (
        Workload("tabular", "80 floats, 1 KB", tabular, _numbers),
        Workload("tokens", "128 ids, 0.6 KB", tokens, _ids),
        Workload("image", "224×224×3 floats as JSON, 1.9 MB", image, _pixels),
        Workload("image_b64", "224×224 JPEG in base64", image_b64, _jpeg),
    )
}


def build(out: Path) -> None:
    """Writes what is not there yet."""
    import tensorflow as tf

    for name, workload in WORKLOADS.items():
        path = out / name / "1"
        if not (path / "saved_model.pb").exists():
            model = workload.build(tf)
            tf.saved_model.save(model, str(path), signatures={"serving_default": model.__call__})


if __name__ == "__main__":
    build(Path(sys.argv[1]))
