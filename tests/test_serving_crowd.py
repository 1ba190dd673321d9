"""What a request is answered does not depend on who else asks: alone, in a crowd, TensorFlow."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import crowd
import crowd_models
import endtoend_fixtures
import numpy as np
import pytest
from crowd import Answer, Crowd, Request, Values
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrt.cli import building
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.worker import Bridge
from jaxrt.errors import ConversionError

AS_TENSORFLOW = 1e-4
"""Of an output's largest value. TensorFlow's kernels add in another order."""

Draw = np.random.Generator
WORDS = ("a", "red", "fox", "jumps", "over", "it", "never", "né", "7")


def numbers(draw: Draw) -> list[float]:
    return [round(v, 3) for v in draw.standard_normal(4).tolist()]


def word(draw: Draw) -> bytes:
    return WORDS[int(draw.integers(len(WORDS)))].encode()


def sentence(draw: Draw) -> bytes:
    """Of none to eight words."""
    return b" ".join(word(draw) for _ in range(int(draw.integers(9))))


def message(number: int, *contents: bytes) -> bytes:
    """Fields of protobuf's, each below 128 bytes."""
    assert all(len(content) < 128 for content in contents)
    return b"".join(bytes([number << 3 | 2, len(content)]) + content for content in contents)


def example(draw: Draw) -> bytes:
    """A tf.Example: two numbers, a city or none, as many ids and weights as there happen to be."""
    ids = bytes(draw.integers(0, 20, int(draw.integers(5))).tolist())
    weights = draw.standard_normal(int(draw.integers(4))).astype("<f4").tobytes()
    ages = draw.uniform(0, 90, 2).astype("<f4").tobytes()
    city = {b"city": message(1, message(1, word(draw)))} if draw.integers(2) else {}
    features = {
        b"age": message(2, message(1, ages)),
        b"ids": message(3, message(1, ids)),
        b"weights": message(2, message(1, weights)),
        **city,
    }
    entries = [message(1, key) + message(2, value) for key, value in features.items()]
    return message(1, message(1, *entries)) if sum(map(len, entries)) < 110 else b""


def png(draw: Draw) -> bytes:
    """An image of RGB pixels, of its own size."""
    height, width = (int(n) for n in draw.integers(1, 7, 2))
    rows = b"".join(b"\0" + draw.bytes(width * 3) for _ in range(height))

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


Columns = dict[str, tuple[str, Callable[[Draw], object]]]
"""Input → dtype, and what makes a row of it."""

X: Columns = {"x": ("f4", numbers)}
TEXT: Columns = {"text": ("O", sentence)}
AGE: Columns = {"age": ("i8", lambda draw: int(draw.integers(5)))}

ROWS: dict[str, dict[str, Columns]] = {
    "numbers": {
        "dense": X,
        "scaled": X,
        "centered": X,
        "best_rows": X,
        "steps": {"n": ("i4", lambda draw: int(draw.integers(1, 30)))},
        "rounds": X,
        "unique": {"ids": ("i8", lambda draw: draw.integers(0, 20, 2).tolist())},
        "positive": X,
        "checked": X,
    },
    "texts": {
        "labelled": {"text": ("O", word)},
        "padded": TEXT,
        "masked": TEXT,
        "ragged": TEXT,
        "crossed": {**TEXT, **AGE},
        "examples": {"examples": ("O", example)},
        "images": {"png": ("O", png)},
    },
    "session": {
        "serving_default": {
            "x": ("f4", lambda draw: draw.standard_normal((6, 2)).tolist()),
            "length": ("i4", lambda draw: int(draw.integers(1, 7))),
        }
    },
}
"""Model → signature → its inputs."""

SIGNATURES = [(model, signature) for model, found in ROWS.items() for signature in found]

TOGETHER = {
    ("numbers", name) for name in ("centered", "best_rows", "steps", "rounds", "unique", "positive")
} | {("texts", "padded"), ("session", "serving_default")}
"""Rows look at one another, so that an artifact takes only the sizes that it has."""

ASKED = st.integers(0, 40)
"""The seed of a row: few, so that requests have rows in common."""


def sizes(model: str, signature: str) -> st.SearchStrategy[int]:
    """Rows of a request; more than the largest bucket has where it may be split."""
    if (model, signature) in TOGETHER:
        return st.sampled_from(crowd.BUCKETS)
    return st.integers(1, max(crowd.BUCKETS) + 2)


@st.composite
def requests(draw: st.DrawFn, model: str, signatures: tuple[str, ...]) -> list[Request]:
    """Two to five, each of one of the signatures."""
    found = []
    for _ in range(draw(st.integers(2, 5))):
        signature = draw(st.sampled_from(signatures))
        rows = draw(sizes(model, signature))
        found.append(request(model, signature, draw(st.lists(ASKED, min_size=rows, max_size=rows))))
    return found


def request(model: str, signature: str, seeds: list[int]) -> Request:
    """A row a seed."""
    inputs: Values = {}
    for alias, (dtype, row) in ROWS[model][signature].items():
        rows = [row(np.random.default_rng(seed)) for seed in seeds]
        if dtype == "O":
            inputs[alias] = np.empty(len(rows), object)
            inputs[alias][:] = rows
        else:
            inputs[alias] = np.array(rows, dtype)
    if signature == "scaled":
        inputs["scale"] = np.array(seeds[0] % 3, "f4")
    return signature, inputs


class Model:
    """A model in a crowd, alone, and in TensorFlow."""

    def __init__(self, name: str, served: Crowd, bridge: Bridge, record: ModelRecord) -> None:
        self._name = name
        self._served, self._bridge, self._record = served, bridge, record
        self._known: dict[str, tuple[Answer, Answer]] = {}

    def check(self, wanted: Sequence[Request]) -> int:
        """Asks them all at once. Gives the number of runs that took."""
        found = self._served.together(self._name, wanted)
        for asked, answer in zip(wanted, found.answers, strict=True):
            alone, truth = self._answers(asked)
            assert (why := crowd.difference(answer, alone, crowd.ALIKE)) is None, f"alone: {why}"
            assert (why := crowd.difference(answer, truth, AS_TENSORFLOW)) is None, why
        return found.runs

    def _answers(self, asked: Request) -> tuple[Answer, Answer]:
        signature, inputs = asked
        key = str((signature, {alias: array.tolist() for alias, array in inputs.items()}))
        if key not in self._known:
            alone = self._served.alone(self._name, asked)
            self._known[key] = alone, self._tensorflow(signature, inputs)
        return self._known[key]

    def _tensorflow(self, signature: str, inputs: Values) -> Answer:
        try:
            return self._bridge.run(self._record, signature, inputs)
        except ConversionError as error:
            return str(error)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Model]]:
    def make(home: Path) -> None:
        crowd_models.build(home, *ROWS)
        with building.Bridges() as bridges:
            for name in ROWS:
                crowd.compile_model(home / name, home / "artifacts" / name, bridges)

    home = endtoend_fixtures.shared(tmp_path_factory, "crowd", make)
    with Crowd({name: home / "artifacts" / name for name in ROWS}) as served, Bridge() as bridge:
        yield {name: Model(name, served, bridge, bridge.open_model(home / name)) for name in ROWS}


@pytest.mark.parametrize(("model", "signature"), SIGNATURES)
@settings(max_examples=5)
@given(data=st.data())
def test_strangers_of_the_same_signature_change_no_answer(
    models: dict[str, Model], model: str, signature: str, data: st.DataObject
) -> None:
    models[model].check(data.draw(requests(model, (signature,))))


@pytest.mark.parametrize("model", ROWS)
@settings(max_examples=5)
@given(data=st.data())
def test_strangers_of_other_signatures_change_no_answer(
    models: dict[str, Model], model: str, data: st.DataObject
) -> None:
    models[model].check(data.draw(requests(model, tuple(ROWS[model]))))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "signature"), SIGNATURES)
@settings(max_examples=200)
@given(data=st.data())
def test_many_crowds_change_no_answer(
    models: dict[str, Model], model: str, signature: str, data: st.DataObject
) -> None:
    models[model].check(data.draw(requests(model, (signature,))))


@pytest.mark.parametrize(
    ("model", "signature", "runs"),
    [
        ("numbers", "dense", 1),
        ("numbers", "centered", 3),
        ("texts", "labelled", 3),  # host, device, host
        ("texts", "images", 2),
    ],
)
def test_requests_that_may_share_a_run_do(
    models: dict[str, Model], model: str, signature: str, runs: int
) -> None:
    assert models[model].check([request(model, signature, [seed]) for seed in (1, 2, 3)]) == runs


def test_a_request_that_fails_fails_alone(models: dict[str, Model]) -> None:
    good = [request("numbers", "checked", [seed, seed + 1]) for seed in (1, 5)]
    bad: Request = ("checked", {"x": np.full((1, 4), 100, "f4")})
    models["numbers"].check([good[0], bad, good[1]])


def test_an_image_that_is_none_fails_alone(models: dict[str, Model]) -> None:
    good = [request("texts", "images", [seed]) for seed in (1, 5)]
    bad: Request = ("images", {"png": np.array([b"no image"], object)})
    models["texts"].check([good[0], bad, good[1]])
