"""What would make a program fit that does not: a larger slice, another chip, fewer bits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jaxrt.mesh import Spec
from jaxrt.program import Program
from jaxrt.tpu.topology import Topology, known_chips, listed

FEWER_BITS: Mapping[str, float] = {"bf16": 16, "int8": 8, "int4": 4}
"""Scheme of `--compress` → bits of an element, without scales."""
SMALLER = 0.9
"""Of what weights take: a scheme that does not get below is the one they are in."""
GROUP = 64
"""Elements that share a bfloat16 scale below 16 bits: int4's, and about a row of a small table."""


def remedies(
    program: Program,
    layouts: Mapping[str, Spec],
    sizes: Mapping[str, int],
    topology: Topology,
    *,
    share: float,
    rest: float = 0.0,
    scale: float = 1.0,
) -> str:
    """Half a sentence: the smallest slice with room, and the bits that fit the asked one.

    `layouts`, `sizes`: of the plan that came nearest, and of its mesh. `share`: of a device's
    memory that there is to use. `rest`: bytes a device needs beside the weights, taken to stay as
    they are. `scale`: bytes of a weight as stored, to those of the program.
    """
    weights = dict(zip(program.weight_names, program.weight_avals, strict=True))
    fewer = _fitting_bits(weights, layouts, sizes, share * topology.device_bytes - rest, scale)
    larger = _roomy(weights, topology, share=share, rest=rest, scale=scale)
    found = []
    if larger is not None and larger.chip == topology.chip and larger.devices <= topology.devices:
        found.append(f"a mesh of {larger.devices} of its devices has room")
    elif larger is not None:
        found.append(f"{larger.name} has room")
    if fewer:
        found.append(f"here it fits with weights in {' or '.join(fewer)} (--compress)")
    else:
        found.append("not even weights in int4 fit here")
    if larger is None:
        found.append("no slice that `jaxrt targets` lists has room")
    return ", and ".join(found)


def _fitting_bits(
    weights: Mapping[str, Any],
    layouts: Mapping[str, Spec],
    sizes: Mapping[str, int],
    room: float,
    scale: float,
) -> list[str]:
    """The schemes that make weights smaller, and whose weights fit a device, split as they are."""

    def held(bits: float | None) -> float:
        return sum(
            _nbytes(aval, scale, bits) / math.prod(sizes[axis] for axis in layouts[name] if axis)
            for name, aval in weights.items()
        )

    most = min(room, SMALLER * held(None))
    return [scheme for scheme, bits in FEWER_BITS.items() if held(bits) <= most]


def _nbytes(aval: Any, scale: float, bits: float | None = None) -> float:
    """Of an array; `bits`: of its elements, where it is one of many numbers in a few dimensions.

    Bytes without a sign are two of int4, and have no smaller form.
    """
    plain = aval.size * aval.dtype.itemsize * scale
    kinds = (jnp.floating, jnp.int8)
    if bits is None or len(aval.shape) < 2 or not any(jnp.issubdtype(aval.dtype, k) for k in kinds):
        return float(plain)
    scales = 0 if bits >= 16 else 2 * aval.size / GROUP
    return float(min(plain, aval.size * bits / 8 + scales))


def _roomy(
    weights: Mapping[str, Any], topology: Topology, *, share: float, rest: float, scale: float
) -> Topology | None:
    """The smallest slice whose devices hold the weights, split as far as they can be.

    Of the same chip; else of those of the platform the one with the fewest chips, and of those the
    one with the least memory.
    """

    def holds(other: Topology) -> bool:
        room = other.device_bytes * share - rest
        held = (_split(aval, other.devices) for aval in weights.values())
        return sum(nbytes * scale for nbytes in held) <= room

    same = next(filter(holds, listed(topology.chip)), None)
    if same is not None:
        return same
    others = [c for c in known_chips().values() if c.platform == topology.chip.platform]
    found = [next(filter(holds, listed(chip)), None) for chip in others if chip != topology.chip]
    return min(
        (one for one in found if one is not None),
        key=lambda one: (one.chips, one.chip.memory_bytes),
        default=None,
    )


def _split(aval: Any, devices: int) -> float:
    """Bytes on each device: over all of them along one dimension, where one divides."""
    nbytes = float(aval.size * aval.dtype.itemsize)
    return nbytes / devices if _divides(aval.shape, devices) else nbytes


def _divides(shape: Sequence[int], devices: int) -> bool:
    return any(size % devices == 0 for size in shape)
