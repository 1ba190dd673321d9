"""Integers that do not fit: cut as TensorFlow Serving cuts them, or refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_server import echo_signature

from jaxrt.errors import Code, RequestError
from jaxrt.serving.rest.decode import inputs
from jaxrt.serving.rest.json_reader import parse
from jaxrt.serving.rest.tensors import STRICT, WRAPPING, Kinds

NARROW = {"int8": (-128, 127), "int16": (-32768, 32767), "uint8": (0, 255)}


def decode(body: str, dtype: str, kinds: Kinds) -> np.ndarray[Any, Any]:
    return inputs(parse(body.encode()), echo_signature(x=dtype), kinds)[1]["x"]


def forms(value: int) -> list[str]:
    """One value alone, among others, under a name, and in a list long enough for simdjson."""
    return [
        f'{{"instances": [{value}]}}',
        f'{{"instances": [[1, {value}], [2, 3]]}}',
        f'{{"instances": [{{"x": {value}}}]}}',
        f'{{"inputs": {value}}}',
        f'{{"inputs": {{"x": [{value}]}}}}',
        '{"instances": [' + "1, " * 300 + f"{value}]}}",
    ]


@pytest.mark.parametrize("dtype", NARROW)
def test_the_strict_way_takes_what_fits_and_refuses_the_next(dtype: str) -> None:
    for value, step in zip(NARROW[dtype], (-1, 1), strict=True):
        for body in forms(value):
            assert value in decode(body, dtype, STRICT).ravel().tolist()
        for body in forms(value + step):
            with pytest.raises(RequestError) as caught:
                decode(body, dtype, STRICT)
            assert caught.value.code is Code.INVALID_ARGUMENT
            text = f"JSON Value: {value + step} Type: Number is not of expected type: {dtype}"
            assert text in str(caught.value)


@given(dtype=st.sampled_from(sorted(NARROW)), value=st.integers(-(2**31), 2**31 - 1))
def test_the_usual_way_cuts_to_the_low_bits(dtype: str, value: int) -> None:
    wanted = np.array(value, np.int64).astype(dtype)
    for body in forms(value):
        assert wanted in decode(body, dtype, WRAPPING)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64", "float32", "bool"])
def test_other_dtypes_are_the_same_either_way(dtype: str) -> None:
    assert STRICT[dtype] is WRAPPING[dtype]
