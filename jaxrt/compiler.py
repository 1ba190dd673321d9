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
from jaxrt.passes import one_kernel
from jaxrt.program import Program
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
    """The PJRT executable itself, ready to run in this process."""


def portable(program: Program, platform: str, *, whole: bool = False) -> bytes:
    """A program → jax.export bytes for one platform; `whole`: as `jaxrt.passes.one_kernel` says.

    Raises ConversionError when the platform has no lowering for a primitive.
    """
    with jax.enable_x64(True):
        function = jax.jit(one_kernel.function(program.jaxpr, whole=whole), keep_unused=True)
        try:
            exported = export.export(
                function, platforms=(platform,), disabled_checks=EXPORTED_CUSTOM_CALLS
            )(*program.avals)
        except (NotImplementedError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConversionError(
                f"signature {program.signature!r} does not lower for {platform}: {reason}"
            ) from error
        return bytes(exported.serialize())


# jax.export refuses custom calls without a compatibility promise. The SavedModel named in the
# manifest is the long-term source, and the executable was made from the same bytes.
EXPORTED_CUSTOM_CALLS = [
    export.DisabledSafetyCheck.custom_call(name)
    for name in ("TopK", "mhlo.topk", "ApproxTopK", "PartialReduce")
]


_ONE_KERNEL = one_kernel.ATTRIBUTE.encode()

_LAPACK = b"lapack_"
"""In the names of XLA's custom calls of LAPACK, which are plain text in programs."""


def compile_portable(data: bytes, target: Target) -> Built:
    """jax.export bytes → executable for an attached device.

    Raises ArtifactError when this jax no longer reads the export.
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
        sharding = jax.sharding.SingleDeviceSharding(targets.devices(target.platform)[0])
        lowered = jax.jit(exported.call, keep_unused=True, in_shardings=sharding).lower(
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


def load_executable(data: bytes, target: Target) -> Any:
    """PJRT bytes → loaded executable. The caller has compared fingerprints: jaxlib does not.

    An executable of jaxlib 0.10.2 loads in 0.12 without a word.
    """
    _find_lapack(data)
    device = targets.devices(target.platform)[0]
    return device.client.deserialize_executable(
        data, executable_devices=xla_client.DeviceList((device,))
    )


def avals(
    names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Name → aval, in the order of `names`; dtypes are keys of DTYPES."""
    return {n: jax.ShapeDtypeStruct(tuple(shapes[n]), DTYPES[dtypes[n]].numpy) for n in names}


class Weights:
    """Weights on one device, each placed once, shared by every program that names them."""

    def __init__(self, target: Target) -> None:
        self._device = targets.devices(target.platform)[0]
        self._placed: dict[str, jax.Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._placed

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self._placed.values())

    def place(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Puts what is not there yet. On a CPU, aligned arrays are used where they lie."""
        with jax.enable_x64(True):
            for name, array in arrays.items():
                if name not in self._placed:
                    self._placed[name] = jax.device_put(array, self._device)

    def bind(self, names: Sequence[str]) -> list[jax.Array]:
        return [self._placed[name] for name in names]


class LoadedProgram:
    """An executable with its weights bound: exact shapes in, exact shapes out.

    Calls block until the outputs are on the host; nothing compiles here.
    """

    def __init__(
        self,
        executable: Any,
        *,
        weights: Sequence[jax.Array],
        inputs: Mapping[str, jax.ShapeDtypeStruct],
        outputs: Mapping[str, jax.ShapeDtypeStruct],
        target: Target,
    ) -> None:
        self._executable = executable
        self._weights = list(weights)
        self._devices = targets.devices(target.platform)[:1]
        self._sharding = jax.sharding.SingleDeviceSharding(self._devices[0])
        self._avals = [(n, jax.core.ShapedArray(a.shape, a.dtype)) for n, a in inputs.items()]
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {n: a.shape for n, a in self.inputs.items()}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        return {n: a.shape for n, a in self.outputs.items()}

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Alias → array of exactly the shape and dtype of `inputs`."""
        with jax.enable_x64(True):
            # What jax.device_put ends in, without the 40 µs of Python before it.
            given = [
                xla_client.batched_device_put(aval, self._sharding, [inputs[name]], self._devices)
                for name, aval in self._avals
            ]
        results = self._executable.execute_sharded([*self._weights, *given])
        flat = results.disassemble_into_single_device_arrays()
        return {name: np.asarray(flat[i][0]) for i, name in enumerate(self.outputs)}
