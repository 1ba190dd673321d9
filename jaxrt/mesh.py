"""Several devices as a mesh, and how arrays lie on it: what a plan decides and a manifest keeps."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxrt.fields import Fields

Spec = tuple[str | None, ...]
"""For each dimension the mesh axis it is split over, None for none: a full PartitionSpec."""

DATA = "data"
"""The mesh axis that batches are split over."""
MODEL = "model"
"""The mesh axis that weights are split over."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MeshShape:
    """Devices as `data` × `model`."""

    data: int = 1
    model: int = 1

    @property
    def devices(self) -> int:
        return self.data * self.model

    @property
    def sizes(self) -> Mapping[str, int]:
        return {DATA: self.data, MODEL: self.model}

    def __str__(self) -> str:
        return f"{self.data}×{self.model}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MeshRecord:
    """What an artifact's programs run on; an artifact for one device has none."""

    shape: MeshShape
    """Of one replica."""
    replicas: int = 1
    """How many meshes of that shape the target holds: each runs batches of its own."""

    @property
    def devices(self) -> int:
        """Of all replicas."""
        return self.shape.devices * self.replicas

    def to_json(self) -> dict[str, Any]:
        return {"data": self.shape.data, "model": self.shape.model, "replicas": self.replicas}

    @classmethod
    def from_json(cls, data: Any, where: str = "mesh") -> "MeshRecord":
        with Fields(data, where) as fields:
            found = {name: fields.natural(name) for name in (DATA, MODEL, "replicas")}
        if not all(found.values()):
            raise ValueError(f"{where}: found {found}, want sizes of 1 or more")
        return cls(
            shape=MeshShape(data=found[DATA], model=found[MODEL]), replicas=found["replicas"]
        )


def layouts_to_json(layouts: Mapping[str, Spec]) -> dict[str, Any]:
    return {name: list(spec) for name, spec in layouts.items()}


def layouts_from_json(data: Any) -> dict[str, Spec]:
    """Raises ValueError for anything but lists of axes and nulls by name."""
    if not isinstance(data, dict):
        raise ValueError(f"found {data!r}, want an object of lists")
    for name, spec in data.items():
        if type(spec) is not list or not set(map(repr, spec)) <= _AXES:
            raise ValueError(f"{name}: found {spec!r}, want a list of {DATA}, {MODEL} and null")
    return {name: tuple(spec) for name, spec in data.items()}


_AXES = {repr(DATA), repr(MODEL), repr(None)}
