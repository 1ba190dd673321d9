"""What is said of programs that do not fit: a slice that has room, and bits that fit."""

import dataclasses
import re

import mesh_programs
import pytest

from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.errors import DeviceError
from jaxrt.mesh import MeshShape
from jaxrt.passes import prepare
from jaxrt.program import Program
from jaxrt.tpu.plan import ROOM, plans
from jaxrt.tpu.remedies import remedies
from jaxrt.tpu.targets import elsewhere
from jaxrt.tpu.topology import Topology, parse

GIB = 1 << 30


def _tables(gib: float) -> Program:
    """Four tables of so many GiB together, of which nothing is allocated."""
    rows = int(gib * GIB / 4 / 64 / 4) // 1024 * 1024
    tables = {f"table{n}": (rows, 64) for n in range(4)}
    return mesh_programs.larger("tables", {**tables, "top": (272, 512)})


def _said(gib: float, name: str) -> str:
    with pytest.raises(DeviceError) as found:
        plans(_tables(gib), parse(name), bf16=False)
    (line,) = str(found.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("gib", "asked", "helps"),
    [
        (20.0, "v5e:1x1", "v5e:1x2 has room, and here it fits with weights in bf16 or int8 or"),
        (40.0, "v5e:1x1", "v5e:2x2 has room, and here it fits with weights in int8 or int4"),
        (100.0, "v5e:1x1", "v5e:2x4 has room, and here it fits with weights in int4 (--com"),
        (400.0, "v5e:1x1", "v5e:4x8 has room, and not even weights in int4 fit here"),
        (400.0, "v5e:2x4", "v5e:4x8 has room, and here it fits with weights in int8 or int4"),
        (200.0, "h100", "h100:4 has room, and here it fits with weights in int8 or int4"),
        (900.0, "h100", "h200:8 has room, and not even weights in int4 fit here"),
        (2000.0, "h100", "not even weights in int4 fit here, and no slice that `jaxrt targets`"),
        (150.0, "v4:1x1x1", "v4:2x2x2 has room"),
    ],
)
def test_the_smallest_slice_with_room_and_the_bits_that_fit_are_named(
    gib: float, asked: str, helps: str
) -> None:
    assert helps in _said(gib, asked)


def test_it_says_by_how_much_it_is_too_large() -> None:
    line = _said(20.0, "v5e:1x1")
    held, missing, room = (float(n) for n in re.findall(r"([0-9.]+) GiB", line))
    assert held == pytest.approx(20.0, rel=0.01)
    assert room == pytest.approx(16 * ROOM, abs=0.01)
    assert held - room == pytest.approx(missing, abs=0.011)


def test_the_slice_that_is_named_has_a_plan() -> None:
    program = _tables(40.0)
    name = _said(40.0, "v5e:1x1").partition(" has room")[0].rpartition(" ")[2]
    assert plans(program, parse(name), bf16=False)
    with pytest.raises(DeviceError):
        plans(program, parse("v5e:1x2"), bf16=False)


def _helps(program: Program, topology: Topology, rest: float = 0.0) -> str:
    whole = {
        name: (None,) * len(aval.shape)
        for name, aval in zip(program.weight_names, program.weight_avals, strict=True)
    }
    return remedies(program, whole, MeshShape().sizes, topology, share=ROOM, rest=rest)


@pytest.mark.parametrize(
    ("gib", "scheme", "helps"),
    [
        (64.0, "int8", "here it fits with weights in int4 (--com"),
        (200.0, "int4", "not even weights"),
    ],
)
def test_bits_that_weights_are_in_already_are_no_help(gib: float, scheme: str, helps: str) -> None:
    topology = parse("v5e:1x1")
    held, _ = rewrite.apply(_tables(gib), [parse_rule(f"table={scheme}")], elsewhere(topology))
    with pytest.raises(DeviceError, match=re.escape(helps)):
        plans(prepare.split(held).apply, topology, bf16=False)


@pytest.mark.parametrize(("gib", "scheme"), [(28.0, "bf16"), (55.0, "int8"), (100.0, "int4")])
def test_the_bits_that_are_named_have_a_plan(gib: float, scheme: str) -> None:
    assert f"{scheme} " in _said(gib, "v5e:1x1").partition("weights in ")[2]
    topology = parse("v5e:1x1")
    held, _ = rewrite.apply(_tables(gib), [parse_rule(f"table={scheme}")], elsewhere(topology))
    (plan,) = plans(prepare.split(held).apply, topology, bf16=False)
    assert plan.weight_bytes > 0.75 * topology.device_bytes


def test_what_a_call_takes_beside_the_weights_counts() -> None:
    program, chip = _tables(12.0), parse("v5e:1x1")
    assert "in bf16 or int8 or int4" in _helps(program, chip, rest=8 * GIB)
    assert "in int4 (" in _helps(program, chip, rest=12 * GIB)
    assert "no slice" in _helps(program, chip, rest=500 * GIB)


def test_a_mesh_of_more_devices_of_the_same_slice_is_said_to_be_one() -> None:
    program = _tables(40.0)
    said = "a mesh of 4 of its devices has room"
    assert said in _helps(program, parse("v5e:2x4"))
    with pytest.raises(DeviceError, match=said):
        plans(program, parse("v5e:2x4"), bf16=False, mesh=MeshShape())


def test_emulated_devices_are_counted_likewise() -> None:
    small = parse("v5e:1x1")
    chip = dataclasses.replace(small.chip, name="cpu", platform="cpu")
    emulated = Topology(chip=chip, bounds=(1,))
    assert "cpu:4 has room" in _helps(_tables(40.0), emulated)
