"""Loaded executables with their weights bound: arrays on the host in, arrays on the host out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jaxlib import xla_client

from jaxrt.mesh import Spec
from jaxrt.pieces import Avals, Pieces, laid
from jaxrt.placed import NO_LAYOUTS, Array, Place, Weights
from jaxrt.target import Target


class Running(Protocol):
    """A program that runs, wherever it does: exact shapes in, exact shapes out."""

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Alias → array of exactly the shape and dtype it takes; blocks until it is done."""


class _Exact:
    """What a program takes and gives."""

    def __init__(self, inputs: Avals, outputs: Avals) -> None:
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {n: a.shape for n, a in self.inputs.items()}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        return {n: a.shape for n, a in self.outputs.items()}


class LoadedProgram(_Exact):
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
        place: Place | None = None,
    ) -> None:
        """`place` None: the first device."""
        super().__init__(inputs, outputs)
        self._executable = executable
        self._weights = list(weights)
        self._devices = [(place or Weights(target).place_of).devices[0]]
        self._sharding = jax.sharding.SingleDeviceSharding(self._devices[0])
        self._avals = [(n, jax.core.ShapedArray(a.shape, a.dtype)) for n, a in inputs.items()]

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


class ShardedProgram(_Exact):
    """An executable of a mesh with its weights bound.

    Inputs are cut on the host and each device gets its piece; outputs are put together on the host
    from one copy of each piece, without an exchange between the devices.
    """

    def __init__(
        self,
        executable: Any,
        *,
        weights: Sequence[jax.Array],
        inputs: Avals,
        outputs: Avals,
        place: Place,
        input_layouts: Mapping[str, Spec] = NO_LAYOUTS,
        output_layouts: Mapping[str, Spec] = NO_LAYOUTS,
    ) -> None:
        """Raises ArtifactError for a layout that does not divide its array."""
        super().__init__(inputs, outputs)
        self._executable = executable
        self._weights = list(weights)
        self._process = place.process
        self._given = [
            laid(name, aval, place.sharding(input_layouts.get(name, ())))
            for name, aval in inputs.items()
        ]
        self.pieces = Pieces(outputs, output_layouts, place)
        self._own = list(_owned(self.pieces, self._process, executable.local_devices()))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Alias → array of exactly the shape and dtype of `inputs`; all devices are ours."""
        return self.pieces.join({self._process: self.launch(inputs)})

    def launch(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The pieces that this process owns, in their order; `inputs` are whole.

        Every process of the mesh has to launch the same programs in the same order.
        """
        with jax.enable_x64(True):
            given = [
                xla_client.batched_device_put(
                    one.aval, one.sharding, [inputs[one.name][i] for i in one.indices], one.devices
                )
                for one in self._given
            ]
        results = self._executable.execute_sharded([*self._weights, *given])
        flat = results.disassemble_into_single_device_arrays()
        found = [flat[output][position] for output, position in self._own]
        for array in found:
            array.copy_to_host_async()
        return [np.asarray(array) for array in found]


def _owned(pieces: Pieces, process: int, local: Sequence[jax.Device]) -> Iterator[tuple[int, int]]:
    """Number of the output, and of the device among those with results, of each own piece."""
    positions = {device: number for number, device in enumerate(local)}
    for output, found in enumerate(pieces.of.values()):
        for piece in found:
            if piece.owner == process:
                yield output, next(positions[d] for d in piece.holders if d in positions)
