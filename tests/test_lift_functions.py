"""TensorFlow functions of many ops, lowered by TensorFlow and lifted, answer as TensorFlow does."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_functions as cases
from jax.extend.core import jaxpr_as_fun

from jaxrt.converters.lift import module
from jaxrt.converters.lift.evaluator import lift
from jaxrt.errors import ConversionError

Arrays = list[np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.build(tmp_path_factory.mktemp("functions"))


def run(folder: Path, name: str, times: int = 1) -> tuple[list[Arrays], Arrays]:
    """What the lifted function answers each time, and what TensorFlow does."""
    arrays = np.load(folder / f"{name}.npz")
    data = (folder / f"{name}.hlo").read_bytes()
    inputs, weights = ([k for k in arrays if k[0] == letter] for letter in "xw")
    outputs = [str(i) for i in range(len(module.read(data).main.returns))]
    found = lift(data, signature=name, inputs=inputs, weights=weights, outputs=outputs)
    values = {**arrays, **found.constants}
    with jax.enable_x64(True):
        function = jax.jit(jaxpr_as_fun(found.program.jaxpr))
        arguments = [values[n] for n in (*found.program.weight_names, *inputs)]
        answers = [[np.asarray(y) for y in function(*arguments)] for _ in range(times)]
    return answers, [arrays[k] for k in arrays if k[0] == "y"]


EXACT = cases.names(cases.sorting)
NEAR = cases.names(
    cases.indexing, cases.control_flow, cases.transforms, cases.linalg, cases.stateless
)


@pytest.mark.parametrize("name", EXACT + NEAR)
def test_the_lifted_function_answers_as_tensorflow_does(functions: Path, name: str) -> None:
    (found,), wanted = run(functions, name)
    assert len(found) == len(wanted)
    near = 0.0 if name in EXACT else 2e-5
    for x, y in zip(found, wanted, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_allclose(x, y, rtol=near * 10, atol=near)


@pytest.mark.parametrize("name", cases.names(cases.random))
def test_a_random_function_draws_anew_from_tensorflows_distribution(
    functions: Path, name: str
) -> None:
    ((first,), (second,)), (wanted,) = run(functions, name, times=2)
    assert (first.dtype, first.shape) == (wanted.dtype, wanted.shape)
    assert np.mean(first != second) > 0.1
    # Not 0.25: that is dropout's own rate, where a quantile is 0 or not by chance.
    for q in (0.1, 0.4, 0.5, 0.75, 0.9):
        spread = max(float(np.std(wanted)), 0.1)
        assert abs(np.quantile(first, q) - np.quantile(wanted, q)) <= max(0.25 * spread, 1)


def test_dropout_keeps_three_of_four_and_scales_them(functions: Path) -> None:
    ((found,),), _ = run(functions, "random_dropout")
    np.testing.assert_allclose(np.unique(found), [0, 4 / 3], rtol=1e-6)
    assert abs(np.mean(found == 0) - 0.25) < 0.05


def test_shuffling_keeps_whole_rows(functions: Path) -> None:
    ((found,),), (wanted,) = run(functions, "random_shuffle")
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(wanted, axis=0))
    assert np.all(found == found[:, :1])


@pytest.mark.parametrize("name", cases.names(cases.refused))
def test_a_shape_that_depends_on_data_is_refused(functions: Path, name: str) -> None:
    with pytest.raises(ConversionError, match="shapes that depend on data cannot be compiled"):
        run(functions, name)


def test_every_module_comes_as_a_portable_artifact(functions: Path) -> None:
    """MHLO ops and custom calls, even both in one module, do not prevent it."""
    for path in functions.glob("*.hlo"):
        assert b"StableHLO_v" in path.read_bytes()[:64], path.stem
    ops = [op.name for op in module.read((functions / "solve_of_erf.hlo").read_bytes()).walk()]
    assert ops.count("stablehlo.custom_call") == 3  # Qr, its product, erf
