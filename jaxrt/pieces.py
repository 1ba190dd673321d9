"""Arrays that lie on a mesh, as the pieces that their devices hold."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxrt.errors import ArtifactError
from jaxrt.mesh import Spec
from jaxrt.placed import Array, Index, Place

Avals = Mapping[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A part of an array that one or several devices hold."""

    index: Index
    holders: tuple[jax.Device, ...]
    owner: int
    """The process that hands it out: the first that holds it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Laid:
    """How an input is laid on this process's devices."""

    name: str
    aval: Any
    sharding: NamedSharding
    devices: list[jax.Device]
    indices: list[Index]
    """Of each device's piece."""


class Pieces:
    """The distinct pieces of a program's outputs, by their place; equal in every process."""

    def __init__(self, outputs: Avals, layouts: Mapping[str, Spec], place: Place) -> None:
        """Raises ArtifactError for a layout that does not divide its array."""
        self._outputs = dict(outputs)
        self.of = {
            name: _pieces(name, aval, place.sharding(layouts.get(name, ())))
            for name, aval in outputs.items()
        }
        """Of each output."""

    def join(self, found: Mapping[int, Sequence[Array]]) -> dict[str, Array]:
        """The whole outputs: owner → its pieces, in the order of `of`."""
        sources = {owner: iter(arrays) for owner, arrays in found.items()}
        whole = {}
        for name, pieces in self.of.items():
            if len(pieces) == 1:
                whole[name] = next(sources[pieces[0].owner])
                continue
            aval = self._outputs[name]
            array = np.empty(aval.shape, aval.dtype)
            for piece in pieces:
                array[piece.index] = next(sources[piece.owner])
            whole[name] = array
        return whole


def laid(name: str, aval: jax.ShapeDtypeStruct, sharding: NamedSharding) -> Laid:
    """Raises ArtifactError for a layout that does not divide the array."""
    try:
        indices = sharding.addressable_devices_indices_map(aval.shape)
    except ValueError as error:
        raise _misfit(name, error) from error
    return Laid(
        name=name,
        aval=jax.core.ShapedArray(aval.shape, aval.dtype),
        sharding=sharding,
        devices=list(indices),
        indices=[() if index is None else index for index in indices.values()],
    )


def _pieces(name: str, aval: jax.ShapeDtypeStruct, sharding: NamedSharding) -> list[Piece]:
    holders: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
    try:
        indices = sharding.devices_indices_map(aval.shape)
    except ValueError as error:
        raise _misfit(name, error) from error
    for device, index in indices.items():
        parts = zip(index or (), aval.shape, strict=True)
        bounds = tuple(part.indices(size)[:2] for part, size in parts)
        holders.setdefault(bounds, []).append(device)
    return [
        Piece(
            index=tuple(slice(start, stop) for start, stop in bounds),
            holders=tuple(devices),
            owner=min(device.process_index for device in devices),
        )
        for bounds, devices in sorted(holders.items(), key=lambda item: item[0])
    ]


def _misfit(name: str, error: ValueError) -> ArtifactError:
    return ArtifactError(
        f"{name}: its layout does not fit its shape ({str(error).splitlines()[0]}); recompile "
        "with `jaxrt compile`"
    )
