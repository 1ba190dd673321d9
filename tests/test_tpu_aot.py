"""Programs compiled for TPUs that are not here, by libtpu."""

import dataclasses
import functools
import importlib.util
from collections import Counter

import jax
import mesh_programs
import numpy as np
import pytest
from jax import lax

from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.errors import DeviceError
from jaxrt.passes import lanes, prepare
from jaxrt.program import Program
from jaxrt.tpu import aot
from jaxrt.tpu.chips import TPUS
from jaxrt.tpu.plan import Plan, plans
from jaxrt.tpu.targets import elsewhere
from jaxrt.tpu.topology import parse

program = functools.cache(mesh_programs.program)


def _plan(found: Program, slice_: str, label: str, model: int) -> Plan:
    return next(
        plan
        for plan in plans(found, parse(slice_), bf16=True)
        if label in plan.label and plan.mesh.model == model
    )


@pytest.mark.parametrize("slice_", ["v4:2x2x1", "v5e:1x1", "v5p:2x2x1", "v6e:2x4", "tpu7x:2x2x1"])
def test_every_kind_of_tpu_is_compiled_for(slice_: str) -> None:
    topology = parse(slice_)
    found = program("encoder")
    compiled = aot.compile_for(found, _plan(found, slice_, "batch split", 1), topology)
    assert len(aot.devices(topology)) == topology.devices
    assert compiled.collectives == {}
    assert len(compiled.executable) > 10_000 and len(compiled.portable) > 1_000
    weights = sum(a.size * a.dtype.itemsize for a in found.weight_avals)
    assert weights <= compiled.stats.argument_bytes < 1.1 * weights


def test_an_encoder_split_over_four_chips_takes_two_all_reduces_a_layer() -> None:
    found = program("encoder")
    plan = _plan(found, "v5e:2x2", "tensor parallel", 4)
    compiled = aot.compile_for(found, plan, parse("v5e:2x2"))
    assert compiled.collectives["all-reduce"] <= 2 * mesh_programs.LAYERS
    assert compiled.collectives == dict(Counter(c.kind for c in plan.collectives))
    weights = sum(a.size * a.dtype.itemsize for a in found.weight_avals)
    assert compiled.stats.argument_bytes < 0.27 * weights


@pytest.mark.parametrize("name", sorted(mesh_programs.CASES))
def test_the_best_plan_of_every_program_compiles(name: str) -> None:
    found = program(name)
    topology = parse("v5e:2x4")
    compiled = aot.compile_for(found, plans(found, topology, bf16=True)[0], topology)
    assert compiled.stats.flops > 0


def test_a_program_that_does_not_fit_says_how_much_is_missing() -> None:
    huge = mesh_programs.larger("tables", {"table0": (200_000_000, 32), "top": (96, 512)})
    topology = parse("v5e:1x1")
    roomy = dataclasses.replace(topology.chip, memory_bytes=1 << 40)
    (plan,) = plans(huge, dataclasses.replace(topology, chip=roomy), bf16=True)
    with pytest.raises(
        DeviceError, match=r"takes 2[0-9.]+ GiB of a device that has 15.75 GiB, .* v5e:1x2 has room"
    ):
        aot.compile_for(huge, plan, topology)


def test_tables_of_forty_gigabytes_fit_eight_chips() -> None:
    tables = {f"table{n}": (39_062_496, 64) for n in range(4)}
    huge = mesh_programs.larger("tables", {**tables, "top": (272, 512)})
    weights = sum(a.size * a.dtype.itemsize for a in huge.weight_avals)
    assert weights > 40e9
    topology = parse("v5e:2x4")
    with pytest.raises(DeviceError, match="GiB more than"):
        plans(huge, parse("v5e:1x1"), bf16=True)
    plan = plans(huge, topology, bf16=True)[0]
    compiled = aot.compile_for(huge, plan, topology)
    held = compiled.stats.argument_bytes + compiled.stats.temp_bytes
    assert weights / 8 < held < 0.9 * TPUS["v5e"].memory_bytes


def test_tables_of_forty_gigabytes_fit_one_chip_in_int8() -> None:
    tables = {f"table{n}": (39_062_496, 64) for n in range(4)}
    huge = mesh_programs.larger("tables", {**tables, "top": (272, 512)})
    topology = parse("v5e:1x1")
    with pytest.raises(DeviceError, match=r"here it fits with weights in int8 or int4"):
        plans(huge, topology, bf16=True)
    held, _ = rewrite.apply(huge, [parse_rule(".*=int8")], elsewhere(topology))
    packed, count = lanes.pack(held)
    assert count == 8  # with the scales of their rows
    small = prepare.split(packed).apply
    (plan,) = plans(small, topology, bf16=True)
    assert plan.weight_bytes < 0.26 * 40e9
    stats = aot.compile_for(small, plan, topology).stats
    assert plan.weight_bytes < stats.argument_bytes < 1.05 * plan.weight_bytes
    assert stats.temp_bytes < 1 << 20  # no copy of a table


def test_a_missing_compiler_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"h100: .* pip install 'jaxrt\[cuda\]'"):
        aot.devices(parse("h100"))


def test_random_numbers_are_drawn_whole_beside_a_split_batch() -> None:
    def noisy(w: jax.Array, x: jax.Array) -> list[jax.Array]:
        zero, one = np.float32(0), np.float32(1)
        return [lax.dot(x * lax.rng_uniform(zero, one, shape=x.shape), w)]

    w, x = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((64, 8), (16, 64)))
    found = Program(
        signature="s",
        jaxpr=jax.make_jaxpr(noisy)(w, x),
        weight_names=("w",),
        input_names=("x",),
        output_names=("y",),
    )
    compiled = aot.compile_for(found, _plan(found, "v5e:2x2", "batch split", 1), parse("v5e:2x2"))
    assert compiled.stats.flops > 0
