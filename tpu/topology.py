"""Topologies: how many chips of which kind, by the names that users type."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from jaxrt.errors import UsageError
from jaxrt.tpu.chips import EMULATED, TPUS, Chip
from jaxrt.tpu.gpus import GPUS

_ALIASES = {
    "v5litepod": "v5e",
    "v5lite": "v5e",
    "v6litepod": "v6e",
    "v7x": "tpu7x",
    "ironwood": "tpu7x",
}
_CORES_COUNTED = frozenset(("v4", "v5p", "tpu7x"))
"""`v5p-8`: accelerator types of these count TensorCores, two to a chip; those of others, chips."""
_HOST = {"v4": (2, 2, 1), "v5e": (2, 4, 1), "v5p": (2, 2, 1), "v6e": (2, 4, 1), "tpu7x": (2, 2, 1)}
"""The largest block of chips on one host."""
GPUS_OF_HOST = 8
"""As many as one NVLink switch joins."""
_FLAT = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8)}
_FLAT |= {128: (8, 16), 256: (16, 16)}
_CUBE = {1: (1, 1, 1), 2: (1, 2, 1), 4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4)}
_CUBE |= {64: (4, 4, 4), 128: (4, 4, 8), 256: (4, 8, 8), 512: (8, 8, 8)}
_NAME = re.compile(r"([a-z0-9]+?)(?:litepod)?(?:-([0-9]+)|:([0-9]+(?:x[0-9]+){0,2}))?")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """Chips of one kind that compute together."""

    chip: Chip
    bounds: tuple[int, ...]
    """Chips along each dimension of a TPU's torus; (n,) GPUs of one host."""

    @property
    def name(self) -> str:
        """`v5e:2x4`, `h100`, `h100:4`."""
        if self.chip.platform == "cuda" and self.bounds == (1,):
            return self.chip.name
        return f"{self.chip.name}:{'x'.join(map(str, self.bounds))}"

    @property
    def chips(self) -> int:
        return math.prod(self.bounds)

    @property
    def devices(self) -> int:
        """As JAX counts them."""
        return self.chips * self.chip.devices

    @property
    def host_bounds(self) -> tuple[int, int, int]:
        """Chips along x, y and z on one host, of a TPU: as many as fit its largest host."""
        whole = (*self.bounds, 1, 1)[:3]
        first, second, third = (
            min(size, most) for size, most in zip(whole, _HOST[self.chip.name], strict=True)
        )
        return first, second, third

    @property
    def hosts(self) -> int:
        if self.chip.platform != "tpu":
            return 1
        return self.chips // math.prod(self.host_bounds)

    @property
    def device_bytes(self) -> int:
        """Memory of one JAX device."""
        return self.chip.memory_bytes // self.chip.devices

    def description(self) -> Mapping[str, Any]:
        """Arguments of `jax.experimental.topologies.get_topology_desc`; not of emulated ones."""
        if self.chip.platform == "tpu":
            return {
                "platform": "tpu",
                "topology_name": self.name,
                "chips_per_host_bounds": list(self.host_bounds),
            }
        return {
            "platform": "cuda",
            "topology_name": self.chip.name,
            "topology": f"1x1x{self.chips}",
            "target_config": GPUS[self.chip.name].target_config(),
        }


def known_chips() -> dict[str, Chip]:
    """Every kind of chip by its name, TPUs first."""
    return {**TPUS, **{name: gpu.chip for name, gpu in GPUS.items()}}


TPU_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
}
"""JAX's `device_kind` → the chip's name."""


def chip_of(device_kind: str) -> Chip | None:
    """By the name that the device gives itself; None for kinds not known here."""
    for gpu in GPUS.values():
        if device_kind == gpu.device_name:
            return gpu.chip
    return TPUS.get(TPU_KINDS.get(device_kind, ""))


def of_devices(device_kind: str, count: int) -> Topology | None:
    """Attached devices, by what JAX says of them; None for kinds not known here.

    TPUs whose number is none of the listed slices are taken for chips in a row.
    """
    if device_kind == "cpu":
        return Topology(chip=EMULATED, bounds=(count,))
    chip = chip_of(device_kind)
    if chip is None:
        return None
    chips = max(count // chip.devices, 1)
    if chip.platform == "cuda":
        return Topology(chip=chip, bounds=(chips,))
    shapes = _shapes(chip)
    return Topology(chip=chip, bounds=shapes.get(chips, (chips, *shapes[1][1:])))


def listed(chip: Chip) -> list[Topology]:
    """The slices of a chip that can be asked for by their number of chips, smallest first."""
    if chip.platform == "tpu":
        return [Topology(chip=chip, bounds=bounds) for bounds in _shapes(chip).values()]
    most = GPUS_OF_HOST if chip.platform == "cuda" else max(_FLAT)
    return [Topology(chip=chip, bounds=(n,)) for n in _FLAT if n <= most]


def _shapes(chip: Chip) -> Mapping[int, tuple[int, ...]]:
    return _FLAT if chip.links == 4 else _CUBE


def parse(name: str) -> Topology:
    """`v5e:2x4`, `v5litepod-8`, `v5p-8`, `tpu7x:2x2x1`, `v5e`, `h100`, `h100:4` → Topology.

    Without a size it is one chip. Raises UsageError that lists what there is.
    """
    text = name.strip().lower()
    found = _NAME.fullmatch(text)
    kind = "" if found is None else _ALIASES.get(text.partition("-")[0].partition(":")[0], found[1])
    chip = known_chips().get(kind)
    if found is None or chip is None:
        raise UsageError(
            f"target {name!r}: want a kind of chip ({', '.join(known_chips())}) with its size: "
            "v5e:2x4, v5litepod-8, h100; `jaxrt targets` lists them"
        )
    if found[3] is not None:
        bounds = tuple(int(size) for size in found[3].split("x"))
    else:
        bounds = _of_count(chip, int(found[2]) if found[2] else None, name)
    return _checked(chip, bounds, name)


def _of_count(chip: Chip, count: int | None, name: str) -> tuple[int, ...]:
    if chip.platform == "cuda":
        return (count or 1,)
    shapes = _shapes(chip)
    if count is None:
        return shapes[1]
    chips = count // 2 if chip.name in _CORES_COUNTED and count > 1 else count
    if chips not in shapes:
        counted = [n * 2 if chip.name in _CORES_COUNTED else n for n in shapes]
        raise UsageError(
            f"target {name!r}: no slice has {count} "
            f"{'cores' if chip.name in _CORES_COUNTED else 'chips'}; want one of "
            f"{', '.join(map(str, counted))}, or its shape, such as {chip.name}:"
            f"{'x'.join(map(str, shapes[4]))}"
        )
    return shapes[chips]


def _checked(chip: Chip, bounds: tuple[int, ...], name: str) -> Topology:
    if chip.platform == "cuda":
        if len(bounds) != 1 or not 1 <= bounds[0] <= GPUS_OF_HOST:
            raise UsageError(
                f"target {name!r}: want 1 to {GPUS_OF_HOST} GPUs of one host, such as h100:4"
            )
        return Topology(chip=chip, bounds=bounds)
    dimensions = 2 if chip.links == 4 else 3
    if len(bounds) != dimensions or min(bounds) < 1 or math.prod(bounds) > max(_FLAT) * 36:
        example = "2x4" if dimensions == 2 else "2x2x1"
        raise UsageError(
            f"target {name!r}: {chip.title} slices have {dimensions} dimensions, such as "
            f"{chip.name}:{example}"
        )
    topology = Topology(chip=chip, bounds=bounds)
    for size, block in zip((*bounds, 1, 1), topology.host_bounds, strict=False):
        if size % block:
            raise UsageError(
                f"target {name!r}: {size} chips along a side are no whole hosts of {block}; "
                "want sizes such as 1, 2, 4, 8, 16"
            )
    return topology
