"""Random nested lists: simdjson's way, the way by element and numpy agree."""

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rest_server import echo_signature

from jaxrt.errors import Code, InvalidArgument, RequestError
from jaxrt.serving.rest.decode import inputs
from jaxrt.serving.rest.json_reader import parse


def decode(body: str | bytes, **dtypes: str) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    text = body.encode() if isinstance(body, str) else body
    return inputs(parse(text), echo_signature(**dtypes))[1]


def outcome(body: bytes, dtype: str) -> Any:
    """The tensor, or the error."""
    try:
        got = decode(body, x=dtype)["x"]
    except RequestError as error:
        return error.code, str(error)
    return got.dtype, got.shape, got.tobytes()


numbers = st.integers(-5, 5) | st.integers(2**31 - 2, 2**31 + 1) | st.floats(-1e3, 1e3)
nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=20)
dense = st.integers(1, 3).flatmap(
    lambda size: st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=1, max_size=4)
)


@given(
    dense | st.lists(nested, min_size=1),
    st.sampled_from(["instances", "inputs"]),
    st.sampled_from(["float32", "float64", "int32", "uint8", "int64", "uint32", "uint64"]),
)
def test_the_quick_way_and_the_exact_way_agree(value: Any, key: str, dtype: str) -> None:
    # Blanks make the list long enough for simdjson.
    text = json.dumps(value).encode()
    quick = b'{"%s": %s}' % (key.encode(), text.replace(b"[", b"[" + b" " * 300, 1))
    exact = b'{"%s": %s}' % (key.encode(), text)
    assert outcome(quick, dtype) == outcome(exact, dtype)


def as_numpy(value: Any) -> np.ndarray[Any, Any] | None:
    try:
        return np.array(value, np.float64)
    except ValueError:
        return None


@given(st.lists(nested))
def test_a_column_of_doubles_is_what_numpy_makes_of_it(value: Any) -> None:
    wanted = as_numpy(value)
    got = outcome(json.dumps({"inputs": value}).encode(), "float64")
    if wanted is None:
        assert got[0] is Code.INVALID_ARGUMENT
    else:
        assert got == (wanted.dtype, wanted.shape, wanted.tobytes())


@given(
    st.lists(st.fixed_dictionaries({"a": numbers, "b": st.lists(numbers, max_size=2)}), min_size=1)
)
def test_rows_of_objects_are_what_numpy_stacks(rows: Any) -> None:
    wanted = {name: as_numpy([row[name] for row in rows]) for name in ("a", "b")}
    try:
        got = decode(json.dumps({"instances": rows}), a="float64", b="float64")
    except InvalidArgument:
        assert wanted["b"] is None
        return
    for name, array in got.items():
        np.testing.assert_array_equal(array, wanted[name])


def test_long_lists_of_named_inputs_are_stacked() -> None:
    image = np.arange(300, dtype=np.float32).reshape(10, 30)
    rows = [{"x": image.tolist(), "y": 1}, {"x": (image + 1).tolist(), "y": 2}]
    got = decode(json.dumps({"instances": rows}), x="float32", y="int32")
    np.testing.assert_array_equal(got["x"], np.stack([image, image + 1]))
    short = decode('{"instances": [{"x": [[1.0]]}]}', x="float32")["x"]
    assert short.shape == (1, 1, 1)
    mixed = json.dumps({"instances": [{"x": [0.5] * 300}, {"x": [None] * 300}]}).replace(
        "null", "NaN"
    )
    assert np.isnan(decode(mixed, x="float32")["x"][1]).all()
