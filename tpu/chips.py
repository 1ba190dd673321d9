"""Chips as data: what one TPU chip or GPU computes, holds and sends, with the source of each."""

import dataclasses
from collections.abc import Mapping

GIB = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """One kind of chip. Rates are peaks without sparsity, per second; 0: it has no such unit."""

    name: str
    """As users type it: `v5e`, `h100`."""
    title: str
    """As its maker writes it."""
    platform: str
    """tpu or cuda; cpu for emulated ones."""
    bf16_flops: float
    f32_flops: float
    """Of matrix products in full f32: on a TPU six bf16 passes, on a GPU its scalar cores."""
    tf32_flops: float = 0.0
    int8_ops: float = 0.0
    fp8_flops: float = 0.0
    memory_bytes: int
    memory_bandwidth: float
    """Bytes per second."""
    link_bandwidth: float = 0.0
    """Bytes per second that one link sends in one direction; 0: it has none."""
    links: int = 0
    """To neighbours: 4 in a 2-D torus, 6 in a 3-D one; on a GPU NVLink's, all to one switch."""
    devices: int = 1
    """JAX devices a chip shows as; its rates and its memory are shared by them evenly."""
    source: str
    """Where the figures are from."""


def _tpu(name: str, **figures: object) -> Chip:
    bf16 = figures["bf16_flops"]
    assert isinstance(bf16, float)
    # Precision.HIGHEST on bf16 units: six products of the three bf16 parts of each operand.
    return Chip(name=name, platform="tpu", f32_flops=bf16 / 6, **figures)  # type: ignore[arg-type]


_DOCS = "https://cloud.google.com/tpu/docs"

TPUS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        _tpu(
            "v4",
            title="TPU v4",
            bf16_flops=275e12,
            int8_ops=275e12,
            memory_bytes=32 * GIB,
            memory_bandwidth=1200e9,
            link_bandwidth=50e9,
            links=6,
            devices=2,
            source=f"{_DOCS}/v4; links: arXiv 2304.01433, table 4",
        ),
        _tpu(
            "v5e",
            title="TPU v5e",
            bf16_flops=197e12,
            int8_ops=393e12,
            memory_bytes=16 * GIB,
            memory_bandwidth=819e9,
            link_bandwidth=50e9,
            links=4,
            source=f"{_DOCS}/v5e and /v6e (int8; 1,600 Gbps over 4 ports)",
        ),
        _tpu(
            "v5p",
            title="TPU v5p",
            bf16_flops=459e12,
            int8_ops=918e12,
            fp8_flops=459e12,
            memory_bytes=95 * GIB,
            memory_bandwidth=2765e9,
            link_bandwidth=100e9,
            links=6,
            source=f"{_DOCS}/v5p (1,200 GBps both ways over 6 ports)",
        ),
        _tpu(
            "v6e",
            title="TPU v6e (Trillium)",
            bf16_flops=918e12,
            int8_ops=1836e12,
            fp8_flops=918e12,
            memory_bytes=32 * GIB,
            memory_bandwidth=1600e9,
            link_bandwidth=100e9,
            links=4,
            source=f"{_DOCS}/v6e (3,200 Gbps over 4 ports)",
        ),
        _tpu(
            "tpu7x",
            title="TPU7x (Ironwood)",
            bf16_flops=2307e12,
            fp8_flops=4614e12,
            memory_bytes=192 * GIB,
            memory_bandwidth=7370e9,
            link_bandwidth=100e9,
            links=6,
            devices=2,
            source=f"{_DOCS}/tpu7x (1,200 GBps both ways over 6 ports)",
        ),
    )
}

EMULATED = Chip(
    name="cpu",
    title="emulated device",
    platform="cpu",
    bf16_flops=197e12,
    f32_flops=197e12 / 6,
    memory_bytes=16 * GIB,
    memory_bandwidth=819e9,
    link_bandwidth=50e9,
    links=4,
    source="none: a host that shows itself as several devices, planned for as TPU v5e",
)
"""What `--device cpu:8` is eight of."""
