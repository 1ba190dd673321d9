"""What trained models are asked in tests: real files, photographs, speech, made music.

One function a model, of the same inputs in every run; tests/trained/README.md says what they are.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

FOLDER = Path(__file__).parent / "trained"

ROWS = 512


@functools.cache
def held(name: str) -> Mapping[str, Array]:
    with np.load(FOLDER / name) as found:
        return dict(found)


def files() -> dict[str, Array]:
    """[421, 1536]: the first, middle and last 512 bytes of a file, 256 where it is shorter."""
    return {"bytes": held("files.npz")["bytes"].astype(np.float32)}


def words() -> dict[str, Array]:
    """[512, 49, 10, 1]: see tests/trained/speech.py."""
    return {"input_1": held("speech.npz")["eighths"].astype(np.float32)[..., None] / 8}


@functools.cache
def photographs() -> Sequence[Image.Image]:
    """A face, a cat, a rocket; and scikit-learn's temple in China and flower."""
    from sklearn import datasets

    images = datasets.load_sample_images().images
    own = [Image.open(FOLDER / f"{name}.jpg").convert("RGB") for name in ("face", "cat", "rocket")]
    return [*own, *map(Image.fromarray, images)]


def cut(
    photo: Image.Image, box: tuple[float, float, float, float], size: int, *, turned: bool
) -> Array:
    """[size, size, 3] of a part of a photograph, from 0 to 255."""
    part = photo.resize((size, size), Image.Resampling.BILINEAR, box=box)
    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turned else part
    return np.asarray(part, np.float32)


def somewhere(photo: Image.Image, draw: np.random.Generator, size: int) -> Array:
    """A square from a fifth of the photograph to all of its height."""
    side = draw.uniform(0.2, 1.0) * min(photo.size)
    x, y = (draw.uniform(0, edge - side) for edge in photo.size)
    return cut(photo, (x, y, x + side, y + side), size, turned=bool(draw.integers(2)))


def objects() -> dict[str, Array]:
    """[512, 32, 32, 3] from 0 to 255, as the reference of MLPerf Tiny takes them."""
    draw = np.random.default_rng(0)
    photos = photographs()
    return {"input_1": np.stack([somewhere(photos[i % 5], draw, 32) for i in range(ROWS)])}


FACE = (90.0, 92.0, 116.0)
"""Middle and side of the face in face.jpg, in pixels."""


def faces() -> dict[str, Array]:
    """[512, 48, 48, 3] from -1 to 1: a face, as boxes of the stage before are off, and others."""
    draw = np.random.default_rng(0)
    photos, rows = photographs(), []
    for i in range(ROWS):
        if i % 2:
            rows.append(somewhere(photos[1 + i // 2 % 4], draw, 48))
            continue
        x, y = (middle + draw.normal() * 0.07 * FACE[2] for middle in FACE[:2])
        half = FACE[2] / 2 * draw.uniform(0.8, 1.3)
        face = photos[0].rotate(draw.normal() * 8, Image.Resampling.BILINEAR, center=FACE[:2])
        box = (max(0, x - half), max(0, y - half), min(180, x + half), min(200, y + half))
        light = cut(face, box, 48, turned=bool(draw.integers(2))) * draw.uniform(0.5, 1.2)
        rows.append(np.clip(light, 0, 255))
    return {"images": (np.stack(rows) - 127.5) / np.float32(128)}


RATE, SAMPLES = 22_050, 43_844


def note(pitch: int, seconds: float, draw: np.random.Generator) -> Array:
    """Struck at once, dying away: twelve overtones, higher ones sooner. `pitch` is MIDI's."""
    time = np.arange(int(seconds * RATE)) / RATE
    base = 440 * 2 ** ((pitch - 69) / 12)
    found = np.zeros_like(time)
    for number in range(1, 13):
        if number * base < RATE / 2:
            level = draw.uniform(0.5, 1) / number**1.3
            decay = np.exp(-time * number**0.5 * 2.5)
            found += level * decay * np.sin(2 * np.pi * number * base * time)
    edges = np.minimum(1, time / 0.005) * np.minimum(1, (seconds - time) / 0.02)
    return np.asarray(found * edges)


def tune(draw: np.random.Generator) -> Array:
    """[43844]: two seconds of chords below and a melody above, in one scale."""
    wave = np.zeros(SAMPLES)
    scale = [0, 2, 4, 5, 7, 9, 11]
    key, beat = int(draw.integers(36, 60)), draw.uniform(0.18, 0.4)
    for step in range(int(SAMPLES / RATE / beat)):
        start = int(step * beat * RATE)
        degrees = [int(draw.integers(7)) + 14]
        if step % 4 == 0:
            degrees += [int(draw.integers(7)) + third for third in (0, 2, 4)]
        for degree in degrees:
            pitch = key + 12 * (degree // 7) + scale[degree % 7]
            length = beat * (3.5 if degree < 14 else 0.9)
            sound = note(pitch, length, draw)[: SAMPLES - start] * draw.uniform(0.4, 1)
            wave[start : start + len(sound)] += sound
    wave += draw.normal(size=SAMPLES) * 1e-3
    return np.asarray(wave / np.abs(wave).max() * draw.uniform(0.3, 0.9))


def music() -> dict[str, Array]:
    """[8, 43844, 1], from -1 to 1."""
    draw = np.random.default_rng(0)
    return {"input_2": np.stack([tune(draw) for _ in range(8)])[..., None].astype(np.float32)}


CLASSES = (
    ((2.96, 1.33, 1.44, 1.36, 2.12, 1.35, 2.10, 1.29, 1.06), (1.7, 0.9, 1, 1, 0.9, 1.2, 1.1, 1, 1)),
    (
        (7.2, 6.57, 6.56, 5.55, 5.3, 7.63, 5.98, 5.86, 2.59),
        (2.4, 2.7, 2.6, 3.2, 2.5, 3.1, 2.3, 3, 2),
    ),
)
"""Means and deviations of Wisconsin's nine grades from 1 to 10, benign and malignant."""


def tumours() -> dict[str, Array]:
    """Whole grades from 1 to 10 of 512 samples, every third malignant."""
    draw = np.random.default_rng(0)
    kinds = np.arange(ROWS) % 3 == 2
    means, deviations = (np.array([c[i] for c in CLASSES])[kinds.astype(int)] for i in (0, 1))
    shared, own = draw.normal(size=(ROWS, 1)), draw.normal(size=(ROWS, 9))
    grades = np.clip(np.round(means + deviations * (0.6 * shared + 0.8 * own)), 1, 10)
    return {
        "keys": np.arange(ROWS, dtype=np.int32)[:, None],
        "features": grades.astype(np.float32),
    }


def people() -> dict[str, Array]:
    """Eleven columns of the census of 1994, as its model takes them: less means, by deviations."""
    draw = np.random.default_rng(0)
    often = functools.partial(draw.choice, size=ROWS)
    gain = np.where(draw.random(ROWS) < 0.08, draw.lognormal(8.8, 0.9, ROWS), 0)
    loss = np.where((gain == 0) & (draw.random(ROWS) < 0.05), draw.normal(1870, 380, ROWS), 0)
    columns = [
        np.clip(draw.gamma(6, 5.2, ROWS) + 8, 17, 90).round(),  # age
        often(9, p=[0.057, 0.03, 0.064, 0, 0.697, 0.034, 0.078, 0.04, 0]),  # work class
        np.clip(draw.normal(10.1, 2.57, ROWS).round(), 1, 16),  # years of education
        often(7, p=[0.136, 0.001, 0.46, 0.013, 0.328, 0.031, 0.031]),  # marital status
        often(14, p=[0.12, 0, 0.13, 0.13, 0.03, 0.04, 0.06, 0.1, 0, 0.13, 0.02, 0.11, 0.08, 0.05]),
        often(6, p=[0.405, 0.255, 0.03, 0.156, 0.106, 0.048]),  # relationship
        often(5, p=[0.01, 0.032, 0.096, 0.008, 0.854]),  # race
        np.clip(gain, 0, 99_999),
        np.clip(loss, 0, 4356),
        np.clip(draw.normal(40.4, 12.3, ROWS).round(), 1, 99),  # hours a week
        np.where(draw.random(ROWS) < 0.91, 38, draw.integers(0, 41, ROWS)),  # country
    ]
    table: Array = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    return {"dense_input": ((table - table.mean(0)) / table.std(0)).astype(np.float32)}


CANDIDATES = 16
"""Things to choose from for each reader."""


def blogs() -> dict[str, Array]:
    """[512, 128] twice: factors of 32 readers, each beside those of 16 posts."""
    draw = np.random.default_rng(0)
    readers = draw.normal(size=(ROWS // CANDIDATES, 1, 128)) * draw.gamma(2, 0.15, 128)
    posts = draw.normal(size=(ROWS // CANDIDATES, CANDIDATES, 128)) * draw.gamma(2, 0.15, 128)
    given = {"input_u": readers + 0 * posts, "input_d": posts}
    return {name: array.reshape(ROWS, 128).astype(np.float32) for name, array in given.items()}


def clicks() -> dict[str, Array]:
    """[512, 3] twice, rates from 0 to 1, and one of three ids."""
    draw = np.random.default_rng(0)
    return {
        "input1": draw.uniform(size=(ROWS, 3)).astype(np.float32),
        "input2": draw.uniform(size=(ROWS, 3)).astype(np.float32),
        "input3": draw.integers(0, 3, (ROWS, 1)).astype(np.int32),
    }


INPUTS: Mapping[str, Callable[[], dict[str, Array]]] = {
    "magika_v1_sm": files,
    "mlperf_tiny_kws": words,
    "mlperf_tiny_ic_resnet8": objects,
    "mtcnn_onet": faces,
    "basic_pitch": music,
    "sts_template_app": tumours,
    "gcp_census_keras": people,
    "vespa_blog": blogs,
    "vespa_modelv2": clicks,
}
