"""Errors against TensorFlow are measured per output, exactly for whole numbers."""

import ml_dtypes
import numpy as np
import pytest

from jaxrt.converters import check
from jaxrt.passes.precision import Precision
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


@pytest.mark.parametrize(
    ("precision", "relative"),
    [(Precision.F32, 5e-4), (Precision.TF32, 5e-3), (Precision.BF16, 4e-2)],
)
def test_what_is_allowed_depends_on_the_precision(precision: Precision, relative: float) -> None:
    want = {"y": np.array([100.0, 1.0], np.float32), "best": np.array([3, 4])}
    allowed = check.Allowed.at(precision)
    for factor, right in ((0.9, True), (1.1, False)):
        got = {**want, "y": want["y"] + np.float32(100 * relative * factor)}
        found, _ = check.compare(got, want, allowed)
        assert found.ok is right
    got = {**want, "best": np.array([4, 3])}
    _, best = check.compare(got, want, allowed)
    assert best.differing == 2 and best.ok is (precision is not Precision.F32)


def test_strings_that_rounded_numbers_chose_are_counted() -> None:
    want = {"label": np.array([b"cat", b"dog"], object)}
    got = {"label": np.array([b"cat", b"eel"], object)}
    (found,) = check.compare(got, want, check.Allowed.at(Precision.BF16))
    assert found.ok and found.differing == 1
    (found,) = check.compare(got, want, check.Allowed.at(Precision.F32))
    assert found.problem == "b'eel' where TensorFlow gives b'dog'"
