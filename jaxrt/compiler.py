"""Program → portable program and executable; and back into something that runs."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export
from jaxlib import lapack, xla_client

from jaxrt import target as targets
from jaxrt.errors import ArtifactError, ConversionError
from jaxrt.mesh import Spec
from jaxrt.passes import one_kernel
from jaxrt.placed import Place
from jaxrt.placed import Weights as Weights
from jaxrt.program import Program
from jaxrt.running import LoadedProgram as LoadedProgram
from jaxrt.specs import DTYPES
from jaxrt.target import Target


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """What the compiler says of one executable; bytes and floating-point operations a call."""

    flops: float
    bytes_accessed: float
    argument_bytes: int
    output_bytes: int
    temp_bytes: int
    code_bytes: int
    compile_seconds: float

    def to_json(self) -> dict[str, float]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """One program in both its forms, and the loaded executable they came from."""

    portable: bytes
    """jax.export's serialization: runs on any host of the platform, after compiling."""
    executable: bytes
    """PJRT's own serialization: runs as it is where the target's fingerprint holds."""
    stats: Stats
    loaded: Any
    """The PJRT executable itself, ready to run in this process; None where its device is not."""
    input_layouts: tuple[Spec, ...] = ()
    """On a mesh, of every input."""
    output_layouts: tuple[Spec, ...] = ()
    report: Mapping[str, Any] | None = None
    """JSON: what is to be said of this program on a mesh."""


def portable(program: Program, platform: str, *, whole: bool = False) -> bytes:
    """A program → jax.export bytes for one platform; `whole`: as `jaxrt.passes.one_kernel` says.

    Raises ConversionError when the platform has no lowering for a primitive.
    """
    with jax.enable_x64(True):
        function = jax.jit(one_kernel.function(program.jaxpr, whole=whole), keep_unused=True)
        exported = export_for(program, platform, function)
        return bytes(exported.serialize())


def export_for(program: Program, platform: str, function: Any) -> export.Exported:
    """`function`, jitted, at the avals of `program`, of which it is a form; to be called under x64.

    Raises ConversionError when the platform has no lowering for a primitive.
    """
    try:
        return export.export(
            function, platforms=(platform,), disabled_checks=EXPORTED_CUSTOM_CALLS
        )(*program.avals)
    except (NotImplementedError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConversionError(
            f"signature {program.signature!r} does not lower for {platform}: {reason}"
        ) from error


# jax.export refuses custom calls without a compatibility promise. The SavedModel named in the
# manifest is the long-term source, and the executable was made from the same bytes.
EXPORTED_CUSTOM_CALLS = [
    export.DisabledSafetyCheck.custom_call(name)
    for name in ("TopK", "mhlo.topk", "ApproxTopK", "PartialReduce")
]


_ONE_KERNEL = one_kernel.ATTRIBUTE.encode()

_LAPACK = b"lapack_"
"""In the names of XLA's custom calls of LAPACK, which are plain text in programs."""


def compile_portable(
    data: bytes,
    target: Target,
    place: Place | None = None,
    arguments: Sequence[jax.sharding.Sharding] = (),
) -> Built:
    """jax.export bytes → executable for an attached device, the first one without a `place`.

    On a mesh: `arguments` are the shardings of weights and inputs; what is between them and the
    results are laid out as the bytes say. Raises ArtifactError when this jax no longer reads the
    export, or it was made for another mesh.
    """
    started = time.perf_counter()
    _find_lapack(data)
    with jax.enable_x64(True):
        try:
            exported = export.deserialize(bytearray(data))
        except Exception as error:  # jax raises what its flatbuffer reader happens to raise
            raise ArtifactError(
                f"portable program: jax {jax.__version__} does not read it "
                f"({str(error).splitlines()[0]}); run `jaxrt compile` again"
            ) from error
        count = len(place.devices) if place else 1
        if exported.nr_devices != count:
            raise ArtifactError(
                f"portable program: made for {exported.nr_devices} devices, the manifest says "
                f"{count}; run `jaxrt compile` again"
            )
        shardings: Any = tuple(arguments)
        if place is None or place.single:
            device = place.devices[0] if place else targets.devices(target.platform)[0]
            shardings = jax.sharding.SingleDeviceSharding(device)
        lowered = jax.jit(exported.call, keep_unused=True, in_shardings=shardings).lower(
            *exported.in_avals
        )
        options = one_kernel.options(whole=_ONE_KERNEL in data)
        compiled = lowered.compile({**target.compiler_options, **options})
    loaded: Any = compiled.runtime_executable()
    return Built(
        portable=data,
        executable=bytes(loaded.serialize()),
        stats=stats(compiled, time.perf_counter() - started),
        loaded=loaded,
    )


def build(program: Program, target: Target, *, whole: bool = False) -> Built:
    """Lowers once: the executable is compiled from the very bytes that are kept as portable."""
    return compile_portable(portable(program, target.platform, whole=whole), target)


def stats(compiled: Any, seconds: float) -> Stats:
    """What the compiler says of a `jax.stages.Compiled`, on one device."""
    costs = compiled.cost_analysis() or {}
    costs = costs[0] if isinstance(costs, list) else costs
    memory = compiled.memory_analysis()
    return Stats(
        flops=float(costs.get("flops", 0.0)),
        bytes_accessed=float(costs.get("bytes accessed", 0.0)),
        argument_bytes=int(memory.argument_size_in_bytes),
        output_bytes=int(memory.output_size_in_bytes),
        temp_bytes=int(memory.temp_size_in_bytes),
        code_bytes=int(memory.generated_code_size_in_bytes),
        compile_seconds=seconds,
    )


def _find_lapack(data: bytes) -> None:
    """Looks up SciPy's LAPACK where a program calls it.

    JAX does so when it lowers such a call. In a process that has lowered none, the calls go to
    address 0 and kill it.
    """
    if _LAPACK in data:
        lapack.prepare_lapack_call("potrf", np.float32)  # type: ignore[no-untyped-call]


def load_executable(data: bytes, target: Target, place: Place | None = None) -> Any:
    """PJRT bytes → loaded executable. The caller has compared fingerprints: jaxlib does not.

    An executable of jaxlib 0.10.2 loads in 0.12 without a word. Without a `place` it runs on the
    first device; with one on its devices, whichever it was compiled for.
    """
    _find_lapack(data)
    device = targets.devices(target.platform)[0]
    if place is None or place.devices == (device,):
        return device.client.deserialize_executable(
            data, executable_devices=xla_client.DeviceList((device,))
        )
    return place.devices[0].client.deserialize_executable(
        data,
        executable_devices=xla_client.DeviceList(place.devices),
        # Executables remember the devices they were compiled for, and refuse buffers on others.
        compile_options=place.compile_options(),
    )


def avals(
    names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Name → aval, in the order of `names`; dtypes are keys of DTYPES."""
    return {n: jax.ShapeDtypeStruct(tuple(shapes[n]), DTYPES[dtypes[n]].numpy) for n in names}
