"""What a layout costs: seconds of arithmetic, memory traffic and exchanges on one kind of chip."""

import dataclasses

from jaxrt.mesh import MeshShape
from jaxrt.tpu.chips import Chip
from jaxrt.tpu.layout import Collective
from jaxrt.tpu.propagation import Unit, Walk

HOP = 1e-6
"""Seconds that one step of an exchange takes beside its bytes, on a TPU or over NVLink."""
REACHED = 0.6
"""Share of the peak rates that programs reach: large products reach more, small ones less."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Of one run of a program on all devices, in seconds."""

    compute: float
    """Arithmetic or memory traffic, whichever takes longer, equation by equation."""
    exchange: float
    exchanges: int
    flops: float
    """On one device."""
    flop_seconds: float
    """What they alone take."""

    @property
    def seconds(self) -> float:
        return self.compute + self.exchange


def estimate(walk: Walk, chip: Chip, *, bf16: bool) -> Estimate:
    """By rates: no overlap of arithmetic and exchanges is assumed.

    `bf16`: products are computed, and weights and activations held, in bfloat16.
    """
    share = REACHED / chip.devices
    bandwidth = chip.memory_bandwidth * share
    scale = 0.5 if bf16 else 1.0
    flop_seconds = [w.flops / (rate(chip, w.unit, bf16=bf16) * share) for w in walk.work]
    compute = sum(
        max(seconds, w.nbytes * scale / bandwidth)
        for w, seconds in zip(walk.work, flop_seconds, strict=True)
    )
    exchange = sum(collective_seconds(c, walk.mesh, chip, scale) for c in walk.collectives)
    return Estimate(
        compute=compute,
        exchange=exchange,
        exchanges=len(walk.collectives),
        flops=sum(w.flops for w in walk.work),
        flop_seconds=sum(flop_seconds),
    )


def rate(chip: Chip, unit: Unit, *, bf16: bool) -> float:
    """Peak operations per second of one chip; f32 operands may be rounded where `bf16` says so.

    A TPU rounds f32 operands to bf16 unless a program asks for all bits, a GPU to TF32.
    """
    if unit is Unit.INT8:
        return chip.int8_ops or chip.bf16_flops
    if unit is Unit.FP8:
        return chip.fp8_flops or chip.bf16_flops
    if unit is Unit.BF16 or (unit is Unit.DEFAULT and (bf16 or chip.platform == "tpu")):
        return chip.bf16_flops
    return chip.f32_flops if unit is Unit.EXACT else chip.tf32_flops or chip.f32_flops


def collective_seconds(
    collective: Collective, mesh: MeshShape, chip: Chip, scale: float = 1.0
) -> float:
    """Around a ring of the devices of one mesh axis, both ways at once.

    Devices n, bytes b on one of them: an all-reduce sends 2(n-1)/n b, an all-gather (n-1)/n b of
    what it ends with, an all-to-all (n-1)/n b, spread over n/4 of the ring on average.
    """
    devices = mesh.sizes[collective.axis]
    if devices <= 1:
        return 0.0
    links = chip.links if chip.platform == "cuda" else 2
    rate = max(chip.link_bandwidth * links, 16e9)  # without links, over PCI Express 4
    sent = collective.nbytes * scale * (devices - 1) / devices
    if collective.kind == "all-reduce":
        return 2 * sent / rate + 2 * (devices - 1) * HOP
    if collective.kind == "all-to-all":
        sent *= max(devices / 4, 1) if chip.platform == "tpu" else 1
    return sent / rate + (devices - 1) * HOP
