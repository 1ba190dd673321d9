"""Shapes nobody planned: compiled from the SavedModel, with the weights that are there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from fake_tensorflow import FakeTensorFlow, signature, tensor

from jaxrt import compiler, target
from jaxrt.converters.ondemand import Compiler
from jaxrt.converters.records import Kind, Refused
from jaxrt.errors import ConversionError
from jaxrt.program import Rows

CPU = target.attached("cpu")
TABLE = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)


def embed(weights: Mapping[str, Any], ids: Any) -> dict[str, Any]:
    return {"y": jnp.take(weights["table"], ids, axis=0, mode="clip").sum(axis=1)}


def centered(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": x - x.mean(axis=0, keepdims=True)}


def power(weights: Mapping[str, Any], x: Any, exponent: Any) -> dict[str, Any]:
    return {"y": x * exponent}


def fake(**options: Any) -> FakeTensorFlow:
    return FakeTensorFlow(
        {"embed": embed, "centered": centered, "power": power},
        {
            "embed": signature(ids=tensor("int32", None, None)),
            "centered": signature(x=tensor("float32", None, 3)),
            "power": signature(x=tensor("float32", None), exponent=tensor("float32")),
        },
        {"table": TABLE},
        **options,
    )


def on_demand(tensorflow: FakeTensorFlow, weights: compiler.Weights | None = None) -> Compiler:
    return Compiler(
        Path("m"),
        ("serve",),
        tensorflow=lambda: tensorflow,
        weights=weights or compiler.Weights(CPU),
        target=CPU,
    )


@pytest.mark.parametrize("shape", [(1, 9), (4, 2), (3, 1)])
def test_a_program_of_exactly_these_shapes(shape: tuple[int, int]) -> None:
    program, rows = on_demand(fake()).compile("embed", {"ids": shape}, {})
    assert rows is Rows.INDEPENDENT
    assert program.input_shapes == {"ids": shape}
    ids = np.random.default_rng(1).integers(0, 10, shape).astype(np.int32)
    np.testing.assert_allclose(program.run({"ids": ids})["y"], TABLE[ids].sum(1), rtol=1e-6)


def test_weights_that_are_placed_are_used_where_they_lie() -> None:
    weights = compiler.Weights(CPU)
    weights.place({"table": TABLE})
    compile_it = on_demand(fake(), weights).compile
    compile_it("embed", {"ids": (1, 3)}, {})
    assert weights.nbytes == TABLE.nbytes


def test_weights_that_no_program_had_are_placed_once() -> None:
    weights = compiler.Weights(CPU)
    compile_it = on_demand(fake(), weights).compile
    for length in (3, 4):
        compile_it("embed", {"ids": (1, length)}, {})
    assert weights.nbytes == TABLE.nbytes


def test_rows_that_depend_on_each_other_are_said_to() -> None:
    program, rows = on_demand(fake()).compile("centered", {"x": (2, 3)}, {})
    assert rows is Rows.DEPENDENT
    found = program.run({"x": np.array([[1, 2, 3], [3, 2, 1]], np.float32)})["y"]
    np.testing.assert_array_equal(found, [[-1, 0, 1], [1, 0, -1]])


def test_a_scalar_beside_the_rows_is_no_row() -> None:
    program, rows = on_demand(fake()).compile("power", {"x": (2,), "exponent": ()}, {})
    assert rows is Rows.INDEPENDENT
    given = {"x": np.array([1, 2], np.float32), "exponent": np.array(3, np.float32)}
    np.testing.assert_array_equal(program.run(given)["y"], [3, 6])


def test_shapes_without_rows_run_alone() -> None:
    program, rows = on_demand(fake()).compile("power", {"x": (), "exponent": ()}, {})
    assert rows is Rows.DEPENDENT
    assert program.input_shapes == {"x": (), "exponent": ()}


def test_the_model_is_opened_once_and_not_before_it_is_needed() -> None:
    tensorflow = fake()
    compile_it = on_demand(tensorflow).compile
    assert tensorflow.opened == 0
    for rows in (1, 2):
        compile_it("centered", {"x": (rows, 3)}, {})
    assert tensorflow.opened == 1


def test_shapes_that_tensorflow_refuses_are_refused_with_its_reason() -> None:
    tensorflow = fake(refuse=lambda signature, shapes: f"{shapes['x']} do not multiply")
    with pytest.raises(ConversionError, match=r"^\(2, 4\) do not multiply$"):
        on_demand(tensorflow).compile("centered", {"x": (2, 4)}, {})


def test_a_signature_that_the_device_cannot_run_is_refused() -> None:
    why = Refused(signature="centered", kind=Kind.HOST, reason="it has strings")
    with pytest.raises(ConversionError):
        on_demand(fake(refused={"centered": why})).compile("centered", {"x": (2, 3)}, {})
