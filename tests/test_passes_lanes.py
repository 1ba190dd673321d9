"""Narrow tables stored several rows as one: the same rows are found, whatever the index."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from programs import program, run

from jaxrt.cli import building
from jaxrt.passes import lanes, prepare
from jaxrt.passes.prepare import HELD
from jaxrt.program import Program
from jaxrt.target import Target
from jaxrt.tuning.optimizer import Passes, optimizer

Array = np.ndarray[Any, Any]
MODES = lax.GatherScatterMode
ROWS = lanes.FEWEST + 4
INDICES = np.array([[0, 1, 2, 3], [ROWS - 1, ROWS - 2, ROWS, ROWS + 1], [-1, -2, 5, 1 << 20]])


def _table(width: int, dtype: Any, rows: int = ROWS) -> Array:
    return np.random.default_rng(0).integers(-100, 100, (rows, width)).astype(dtype)


def _look_up(table: Any, indices: Any, mode: Any, at: int = 2) -> Any:
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(at,), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    fill = 7 if mode == MODES.FILL_OR_DROP else None
    return lax.gather(
        table,
        indices[..., None],
        numbers,
        slice_sizes=(1, table.shape[1]),
        mode=mode,
        fill_value=fill,
    )


def _program(function: Any, weights: dict[str, Array], dtype: Any = np.int32) -> Program:
    return program(lambda w, x: [function(w, x)], 3, {"x": ((4,), dtype)}, weights)


def _same(found: Program, weights: dict[str, Array], x: Array, tables: int) -> Program:
    packed, count = lanes.pack(found)
    assert count == tables
    split = prepare.split(packed)
    arrays = prepare.run_prepare(split, weights)
    want = run(found.jaxpr, [*weights.values(), x])
    got = run(split.apply.jaxpr, [*arrays.values(), x])
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    return split.apply


@pytest.mark.parametrize("dtype", [np.float32, np.int8, jnp.bfloat16])
@pytest.mark.parametrize("width", lanes.WIDTHS)
@pytest.mark.parametrize("at", [0, 2])
def test_rows_are_found_in_packed_tables_as_in_others(dtype: Any, width: int, at: int) -> None:
    weights = {"t": _table(width, dtype)}
    found = _program(lambda w, x: _look_up(w["t"], x, MODES.CLIP, at), weights)
    apply = _same(found, weights, INDICES.astype(np.int32), 1)
    (table,) = apply.weight_avals
    assert table.shape[1] == lanes.LANES and table.dtype == dtype
    assert table.shape[0] % lanes.EVEN == 0
    assert table.size - weights["t"].size < lanes.LANES * lanes.EVEN


@pytest.mark.parametrize(("rows", "tables"), [(ROWS, 1), (ROWS + 1, 0)])
def test_what_is_out_of_bounds_is_filled_where_that_is_known(rows: int, tables: int) -> None:
    weights = {"t": _table(64, np.float32, rows)}
    found = _program(lambda w, x: _look_up(w["t"], x, MODES.FILL_OR_DROP), weights)
    _same(found, weights, INDICES.astype(np.int32), tables)


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_indices_of_any_dtype_find_their_rows(dtype: Any) -> None:
    with jax.enable_x64(True):
        weights = {"t": _table(64, np.float32)}
        found = _program(lambda w, x: _look_up(w["t"], x, MODES.CLIP), weights, dtype)
        _same(found, weights, np.abs(INDICES).astype(dtype), 1)


def test_few_bits_and_their_scales_are_stored_packed() -> None:
    weights = {"t": _table(64, np.float32)}

    def function(w: Any, x: Any) -> Any:
        few = checkpoint_name(lax.convert_element_type(w["t"], np.int8), HELD)
        most = jnp.max(w["t"], axis=1, keepdims=True).astype(jnp.bfloat16)
        scale = checkpoint_name(most, HELD)
        rows, by = (_look_up(part, x, MODES.CLIP).astype(np.float32) for part in (few, scale))
        return rows * jnp.broadcast_to(by, rows.shape)

    apply = _same(_program(function, weights), weights, INDICES.astype(np.int32), 2)
    shapes = {a.dtype.name: a.shape for a in apply.weight_avals}
    assert shapes == {"int8": (-(-ROWS // 16) * 8, 128), "bfloat16": (-(-ROWS // 1024) * 8, 128)}


def test_what_is_held_and_widened_before_is_packed_as_it_is_held() -> None:
    weights = {"t": _table(64, np.float32)}

    def function(w: Any, x: Any) -> Any:
        few = checkpoint_name(lax.convert_element_type(w["t"], jnp.bfloat16), HELD)
        return _look_up(lax.convert_element_type(few, np.float32), x, MODES.CLIP)

    apply = _same(_program(function, weights), weights, INDICES.astype(np.int32), 1)
    (table,) = apply.weight_avals
    assert table.dtype.name == "bfloat16" and table.shape[1] == lanes.LANES


def test_tables_that_are_used_otherwise_or_are_wide_stay_as_they_are() -> None:
    weights = {"t": _table(64, np.float32), "u": _table(96, np.float32)}

    def function(w: Any, x: Any) -> Any:
        tied = jnp.dot(_look_up(w["t"], x, MODES.CLIP), w["t"][:8].T)
        return jnp.sum(tied, axis=2) + jnp.sum(_look_up(w["u"], x, MODES.CLIP), axis=2)

    found = _program(function, weights)
    same, count = lanes.pack(found)
    assert count == 0 and same is found


@pytest.mark.parametrize(
    ("platform", "without", "packed"),
    [("tpu", (), True), ("tpu", ("lanes",), False), ("cpu", (), False), ("cuda", (), False)],
)
def test_tables_are_packed_for_tpus_unless_told_not_to(
    platform: str, without: tuple[str, ...], packed: bool
) -> None:
    target = Target(platform=platform, device_kind="", num_devices=1, fingerprint="", features="")
    weights = {"t": _table(64, np.float32)}
    found = _program(lambda w, x: _look_up(w["t"], x, MODES.CLIP), weights)
    done = optimizer(target, Passes(disabled=without))(found)
    (table,) = done.split.apply.weight_avals
    assert (table.shape[1] == lanes.LANES) == packed
    assert any(gain.startswith("lanes: 1 ") for gain in done.gains) == packed


def test_builds_for_tpus_pack_tables() -> None:
    assert "lanes" in building.PORTABLE  # what is not, is left out for other devices than a CPU
