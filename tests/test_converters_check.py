"""Errors against TensorFlow are measured per output, exactly for whole numbers."""

import ml_dtypes
import numpy as np
import pytest

from jaxrt.converters import check
from jaxrt.specs import Dim, SignatureSpec, TensorSpec


def one(got: np.ndarray, want: np.ndarray) -> check.OutputError:
    (found,) = check.compare({"y": got}, {"y": want})
    return found


def test_floats_are_held_to_the_largest_value() -> None:
    want = np.array([100.0, 1.0], np.float32)
    assert one(want + np.float32(0.04), want).ok
    assert not one(want + np.float32(0.06), want).ok


def test_whole_numbers_are_held_exactly() -> None:
    want = np.array([5, 6], np.int64)
    found = one(want + [0, 1], want)
    assert not found.ok and found.differing == 1 and found.max_error == 1


def test_nan_equals_nan_and_nothing_else() -> None:
    want = np.array([np.nan, 1.0, np.inf], np.float32)
    assert one(want.copy(), want).ok
    assert one(np.array([1.0, 1.0, np.inf], np.float32), want).max_error == np.inf
    assert one(np.array([np.nan, 1.0, -np.inf], np.float32), want).max_error == np.inf


def test_another_shape_or_dtype_is_a_problem() -> None:
    found = one(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    assert not found.ok and found.problem == "float32[2, 1] where TensorFlow gives float32[2]"
    assert not one(np.zeros(2, np.int32), np.zeros(2, np.int64)).ok


def test_bfloat16_gets_the_width_of_its_steps() -> None:
    want = np.array([1.0], ml_dtypes.bfloat16)
    assert one(np.array([1.0078125], ml_dtypes.bfloat16), want).ok
    assert not one(np.array([1.0625], ml_dtypes.bfloat16), want).ok


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8", "bool", "complex64"])
def test_samples_have_the_shape_and_dtype_of_the_signature(dtype: str) -> None:
    spec = SignatureSpec(
        inputs={"x": TensorSpec(name="x:0", dtype=dtype, dims=(Dim(-1), Dim(4)))}, outputs={}
    )
    drawn = check.sample(spec, {"x": (3, 4)}, np.random.default_rng(0))["x"]
    assert drawn.shape == (3, 4) and str(drawn.dtype) == dtype
    assert len(np.unique(drawn.astype(complex))) > 1
