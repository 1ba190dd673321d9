"""Compiling for chips that are not here: what libtpu and the CUDA plugin do without a device.

`jax.experimental.topologies` makes devices out of a description; a program lowered for them is
compiled by the platform's own compiler and can be serialized, but not run here.
"""

import dataclasses
import importlib.util
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax import export
from jax.experimental import topologies

from jaxrt.compiler import Stats, export_for, stats
from jaxrt.errors import ConversionError, DeviceError
from jaxrt.mesh import Spec
from jaxrt.program import Program
from jaxrt.tpu.apply import mesh_of, sharded
from jaxrt.tpu.collectives import Found, counts, found
from jaxrt.tpu.plan import Plan
from jaxrt.tpu.remedies import remedies
from jaxrt.tpu.topology import Topology

# libtpu asks the metadata server of a TPU host what it runs on, unless it is told; and keeps chips
# and a folder of logs for one process at a time, which those that only compile need not.
_LIBTPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
_PLUGINS = {"tpu": ("libtpu",), "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin")}
_NEEDED = re.compile(r"\(([0-9.]+)([KMGT])?\) exceeds available \w+ \(([0-9.]+)([KMGT])?\)")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """One program in both its forms, for devices that need not be here."""

    portable: bytes
    """jax.export's serialization, with the shardings in it."""
    executable: bytes
    """PJRT's own serialization."""
    stats: Stats
    """Of one device."""
    collectives: Mapping[str, int]
    """Kind → how many are in the compiled program."""
    exchanges: tuple[Found, ...]
    """Each of them."""
    results: tuple[Spec, ...]
    """Layouts of the results."""
    loaded: Any
    """The executable, to be run in this process; None where its devices are elsewhere."""


def devices(topology: Topology) -> Sequence[Any]:
    """Devices to compile for; raises DeviceError when the platform's compiler is not installed."""
    platform = topology.chip.platform
    if not any(importlib.util.find_spec(name) for name in _PLUGINS[platform]):
        raise DeviceError(
            f"{topology.name}: compiling for it takes {_PLUGINS[platform][0]}, which is not "
            f"installed; pip install 'jaxrt[{platform}]'"
        )
    for name, value in _LIBTPU.items():
        os.environ.setdefault(name, value)
    try:
        described = topologies.get_topology_desc(**topology.description())
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError) as error:
        raise DeviceError(
            f"{topology.name}: the compiler knows no such slice ({str(error).splitlines()[0]}); "
            "`jaxrt targets` lists what there is"
        ) from error
    return tuple(described.devices)


def compile_for(
    program: Program, plan: Plan, topology: Topology, attached: Sequence[Any] | None = None
) -> Compiled:
    """Lowers once; the executable is compiled from the bytes that are kept as portable.

    `attached`: devices of this machine to compile for. Raises DeviceError, with how much is
    missing, for a program that does not fit the memory; ConversionError for one that the platform
    cannot run.
    """
    started = time.perf_counter()
    exported, lowered, results = lower(program, plan, topology, attached)
    with jax.enable_x64(True):
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            raise _refusal(program, plan, topology, str(error)) from error
    executable: Any = compiled.runtime_executable()
    exchanges = tuple(found(compiled.as_text() or ""))
    return Compiled(
        portable=bytes(exported.serialize()),
        executable=bytes(executable.serialize()),
        stats=stats(compiled, time.perf_counter() - started),
        collectives=counts(exchanges),
        exchanges=exchanges,
        results=results,
        loaded=None if attached is None else executable,
    )


def lower(
    program: Program, plan: Plan, topology: Topology, attached: Sequence[Any] | None = None
) -> tuple[export.Exported, jax.stages.Lowered, tuple[Spec, ...]]:
    """What is kept as portable; it, to be compiled; the layouts of its results."""
    mesh = mesh_of(plan.mesh, devices(topology) if attached is None else attached)
    with jax.enable_x64(True):
        laid_out = sharded(program, plan, mesh)
        exported = export_for(program, topology.chip.platform, laid_out.jit())
        lowered = jax.jit(exported.call, in_shardings=laid_out.arguments, keep_unused=True).lower(
            *exported.in_avals
        )
    return exported, lowered, laid_out.results_as


def _refusal(
    program: Program, plan: Plan, topology: Topology, text: str
) -> DeviceError | ConversionError:
    sizes = _NEEDED.search(text)
    if sizes is None or "RESOURCE_EXHAUSTED" not in text:
        return ConversionError(
            f"{_where(program, plan, topology)}: XLA does not compile it: {text.splitlines()[0]}"
        )
    return too_large(
        program, plan, topology, _nbytes(sizes[1], sizes[2]), _nbytes(sizes[3], sizes[4])
    )


def too_large(
    program: Program, plan: Plan, topology: Topology, needed: float, room: float
) -> DeviceError:
    """What to say of a program that needs `needed` bytes of a device, which has `room`."""
    helps = remedies(
        program,
        plan.weights,
        plan.mesh.sizes,
        topology,
        share=room / topology.device_bytes,
        rest=max(needed - plan.weight_bytes, 0.0),
    )
    return DeviceError(
        f"{_where(program, plan, topology)}: it takes {needed / 2**30:.2f} GiB of a device that "
        f"has {room / 2**30:.2f} GiB, {(needed - room) / 2**30:.2f} GiB too much; {helps}; smaller "
        "--batch-sizes take less beside the weights"
    )


def _where(program: Program, plan: Plan, topology: Topology) -> str:
    return f"signature {program.signature!r} on {topology.name} ({plan.label}, mesh {plan.mesh})"


def _nbytes(number: str, unit: str | None) -> float:
    power = "KMGT".index(unit) + 1 if unit else 0
    return float(number) * float(1024**power)
