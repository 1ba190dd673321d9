"""Where a model lies: the devices of one replica, and weights placed on them once."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxlib import xla_client

from jaxrt import target as targets
from jaxrt.errors import DeviceError
from jaxrt.mesh import DATA, MODEL, MeshRecord, MeshShape, Spec
from jaxrt.target import Target

Array = np.ndarray[Any, Any]
Index = tuple[slice, ...]
"""Of a piece in the whole array."""

NO_LAYOUTS: Mapping[str, Spec] = MappingProxyType({})
"""Everything is whole on each device."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The devices that one replica runs on, as `shape` orders them.

    Invariant: len(devices) == shape.devices. Of several hosts, some may be another process's.
    """

    devices: tuple[jax.Device, ...]
    shape: MeshShape = MeshShape()
    mesh: Mesh = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        grid = np.array(self.devices).reshape(self.shape.data, self.shape.model)
        object.__setattr__(self, "mesh", Mesh(grid, (DATA, MODEL)))

    @property
    def single(self) -> bool:
        return len(self.devices) == 1

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(device.id for device in self.devices)

    @property
    def processes(self) -> tuple[int, ...]:
        """Whose devices these are, in ascending order."""
        return tuple(sorted({device.process_index for device in self.devices}))

    @property
    def process(self) -> int:
        """This process's number among those of the devices' platform."""
        return jax.process_index(self.devices[0].platform)

    @property
    def here(self) -> bool:
        """Whether some of the devices are this process's."""
        return self.process in self.processes

    def sharding(self, spec: Spec = ()) -> NamedSharding:
        """Of an array that is split so; a spec that is too short leaves the rest whole."""
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def compile_options(self) -> Any:
        """What loads an executable on these devices, whichever it was compiled for."""
        options = xla_client.CompileOptions()
        ids = np.array([[device.id for device in self.devices]])
        options.num_replicas, options.num_partitions = ids.shape
        options.device_assignment = xla_client.DeviceAssignment.create(ids)
        build = options.executable_build_options
        build.num_replicas, build.num_partitions = ids.shape
        build.use_spmd_partitioning = True
        build.device_assignment = options.device_assignment
        return options


def places(
    target: Target, mesh: MeshRecord | None, replicas: int | None, where: str
) -> tuple[Place, ...]:
    """The replicas of a model on the attached devices of all hosts, in their order.

    `replicas`: None for as many as there is room for. Raises DeviceError, whose text starts with
    `where`, when there are too few devices.
    """
    shape = MeshShape() if mesh is None else mesh.shape
    devices = targets.devices(target.platform)
    if jax.process_count(target.platform) > 1:
        devices = list(jax.devices(target.platform))
    room = len(devices) // shape.devices
    wanted = max(1, room) if replicas is None else replicas
    if wanted > room:
        of = f"a mesh of {shape}" if shape.devices > 1 else "one device"
        raise DeviceError(
            f"{where}: it runs on {of}, so {wanted} of it take {wanted * shape.devices} "
            f"{target.platform} devices, and {len(devices)} are attached; serve it where there "
            "are more, with fewer --replicas, or compile it for a smaller --topology"
        )
    size = shape.devices
    return tuple(Place(tuple(devices[i * size : (i + 1) * size]), shape) for i in range(wanted))


class Weights:
    """Weights in one place, each placed once, shared by every program that names them."""

    def __init__(
        self,
        target: Target,
        place: Place | None = None,
        layouts: Mapping[str, Spec] = NO_LAYOUTS,
    ) -> None:
        """`place` None: the first device. `layouts`: of the weights that are split."""
        self.place_of = place or Place((targets.devices(target.platform)[0],))
        self._layouts = layouts
        self._placed: dict[str, jax.Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._placed

    @property
    def nbytes(self) -> int:
        """On all devices of this process together: what is whole counts once for each."""
        return sum(
            shard.data.nbytes for a in self._placed.values() for shard in a.addressable_shards
        )

    @property
    def device_bytes(self) -> int:
        """On one device."""
        shapes = ((a.sharding.shard_shape(a.shape), a.dtype) for a in self._placed.values())
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes)

    def sharding(self, name: str) -> jax.sharding.Sharding:
        """Where a weight goes."""
        if self.place_of.single:
            return jax.sharding.SingleDeviceSharding(self.place_of.devices[0])
        return self.place_of.sharding(self._layouts.get(name, ()))

    def place(self, arrays: Mapping[str, Array]) -> None:
        """Puts what is not there yet. On a CPU, aligned arrays are used where they lie.

        On a mesh each device gets its piece, and no device or host holds more than that.
        """
        with jax.enable_x64(True):
            for name, array in arrays.items():
                if name not in self._placed:
                    self._placed[name] = self._put(array, self.sharding(name))

    def adopt(self, arrays: Mapping[str, jax.Array]) -> None:
        """Takes what lies there already, as `sharding` says."""
        self._placed.update(arrays)

    def bind(self, names: Sequence[str]) -> list[jax.Array]:
        return [self._placed[name] for name in names]

    def _put(self, array: Array, sharding: jax.sharding.Sharding) -> jax.Array:
        if self.place_of.single:
            one: jax.Array = jax.device_put(array, self.place_of.devices[0])
            return one
        return jax.make_array_from_callback(
            array.shape, sharding, array.__getitem__, dtype=array.dtype
        )
