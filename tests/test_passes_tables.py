"""Tables that are joined give the rows that they gave apart."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes import prepare, tables
from jaxrt.program import Program

RANDOM = np.random.default_rng(0)
SIZES = (5, 7, 3, 9, 4)
TABLES = {f"t{i}": RANDOM.normal(size=(n, 6)).astype(np.float32) for i, n in enumerate(SIZES)}
NUMBERS = lax.GatherDimensionNumbers(
    offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,)
)


def row(table: Any, index: Any) -> Any:
    return lax.gather(table, index, NUMBERS, (1, table.shape[1]), mode=lax.GatherScatterMode.CLIP)


def program(function: Any, ids: Any) -> Program:
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(*TABLES.values(), ids)
    return Program(
        signature="f",
        jaxpr=jaxpr,
        weight_names=tuple(TABLES),
        input_names=("ids",),
        output_names=("y",),
    )


def apart(*arguments: Any) -> Any:
    *held, ids = arguments
    rows = [row(table, ids[:, i : i + 1]) for i, table in enumerate(held)]
    return lax.concatenate(rows, 1) * np.float32(2)


def run(found: Program, weights: Any, ids: Any) -> Any:
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jaxpr_as_fun(found.jaxpr))(*weights.values(), ids)[0])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_rows_are_the_same_and_indices_clamp_to_their_own_table(dtype: Any) -> None:
    ids = RANDOM.integers(-4, 14, (50, len(SIZES))).astype(dtype)
    ids[0], ids[1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    found = program(apart, ids)
    joined, count = tables.join(found)
    assert count == len(SIZES)
    assert [e.primitive.name for e in joined.jaxpr.jaxpr.eqns].count("gather") == 1
    np.testing.assert_array_equal(run(joined, TABLES, ids), run(found, TABLES, ids))


def test_each_table_is_stored_once_in_the_joined_one() -> None:
    ids = np.zeros((2, len(SIZES)), np.int32)
    found = program(apart, ids)
    split = prepare.split(tables.join(found)[0])
    held = prepare.run_prepare(split, TABLES)
    assert [a.shape for a in held.values()] == [(sum(SIZES), 6)]
    np.testing.assert_array_equal(run(split.apply, held, ids), run(found, TABLES, ids))


def test_an_index_that_rests_on_a_row_keeps_tables_apart() -> None:
    def chained(*arguments: Any) -> Any:
        *held, ids = arguments
        index = ids[:, :1]
        for table in held:
            found = row(table, index)
            index = lax.convert_element_type(found[:, :1], np.int32)
        return found

    found = program(chained, np.zeros((2, 1), np.int32))
    assert tables.join(found) == (found, 0)


def test_a_table_used_otherwise_keeps_its_own_bytes() -> None:
    def shared(*arguments: Any) -> Any:
        held, ids = arguments[:-1], arguments[-1]
        return apart(*arguments) + held[0].sum() + held[1].sum() + ids[:, :1].astype(np.float32)

    found = program(shared, np.zeros((2, len(SIZES)), np.int32))
    assert tables.join(found) == (found, 0)


def test_large_tables_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(apart, np.zeros((2, len(SIZES)), np.int32))
    monkeypatch.setattr(tables, "LIMIT", sum(SIZES) * 6 * 4 - 1)
    assert tables.join(found) == (found, 0)
