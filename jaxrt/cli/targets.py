"""`jaxrt targets`: the chips that programs can be compiled for."""

import click

from jaxrt.cli import console
from jaxrt.cli.flags.command import FlagCommand
from jaxrt.tpu.chips import GIB, Chip
from jaxrt.tpu.topology import known_chips, parse

COLUMNS = ("name", "chip", "bf16", "f32", "int8", "fp8", "memory", "bandwidth", "links", "devices")
_NOTES = """\
Rates are peaks of one chip without sparsity, in 10^12 operations a second; a TPU multiplies
f32 in six bf16 passes. Links: to how many neighbours, each at so many bytes a second.
Sizes: v5e:2x4 is a slice by its shape, v5litepod-8 and v5p-8 are accelerator types of Cloud
TPU, h100:4 is four GPUs of one host.
"""


@click.command(
    cls=FlagCommand, epilog="Example: jaxrt compile model/ --device tpu --topology v5e:2x4"
)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the TPUs and GPUs that this version knows, or what NAME, such as v5p-8, stands for."""
    shown = console.stdout()
    if name is None:
        rows = [_row(chip) for chip in known_chips().values()]
        shown.print(console.table("Targets", COLUMNS, rows))
        click.echo(_NOTES, nl=False)
        return
    topology = parse(name)
    chip = topology.chip
    rows = [
        ["name", topology.name],
        ["chips", f"{topology.chips} × {chip.title}"],
        ["hosts", str(topology.hosts)],
        ["devices in JAX", f"{topology.devices} of {topology.device_bytes / GIB:.3g} GiB"],
        ["memory", f"{topology.chips * chip.memory_bytes / GIB:.4g} GiB"],
        ["bf16", f"{topology.chips * chip.bf16_flops / 1e12:,.0f} TFLOP/s"],
        ["source", chip.source],
    ]
    shown.print(console.table(name, ["", ""], rows))


def _row(chip: Chip) -> list[str]:
    links = f"{chip.links} × {chip.link_bandwidth / 1e9:.0f} GB/s" if chip.links else "-"
    return [
        chip.name,
        chip.title,
        *(_rate(n) for n in (chip.bf16_flops, chip.f32_flops, chip.int8_ops, chip.fp8_flops)),
        f"{chip.memory_bytes / GIB:.3g} GiB",
        f"{chip.memory_bandwidth / 1e9:,.0f} GB/s",
        links,
        str(chip.devices),
    ]


def _rate(operations: float) -> str:
    return f"{operations / 1e12:,.4g}" if operations else "-"
