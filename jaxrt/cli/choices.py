"""How SavedModels are compiled: what a server and the processes that compile for it agree on."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrt.cli import options, threads
from jaxrt.cli.devices import Meshing
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.target import Target

if TYPE_CHECKING:  # imports the converters, which a server of artifacts does without
    from jaxrt.cli.building import Bridges
    from jaxrt.cli.savedmodels import Cache


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """Flags by their names, in a form that JSON can carry."""

    cache_dir: str | None
    """None: the user's cache."""
    device: str
    batch_sizes: str
    shapes: tuple[str, ...]
    tags: str
    autotune: str
    disabled_passes: tuple[str, ...]
    precision: str
    keep_f32: tuple[str, ...]
    compression: CompressionFlags
    meshing: Meshing
    replicas: int | None
    """None: as the plan has them."""
    disable_optimizer: bool
    intra_op_threads: int | None
    per_model_batching: bool
    verbose: bool

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Choices":
        lists = {name: tuple(value[name]) for name in ("shapes", "disabled_passes", "keep_f32")}
        compression = CompressionFlags.of(value["compression"])
        meshing = Meshing.from_json(value["meshing"])
        return cls(**{**value, **lists, "compression": compression, "meshing": meshing})

    def target(self) -> Target:
        """The device, attached to this process. Raises DeviceError."""
        from jaxrt import target

        with threads.pool(self.intra_op_threads):
            return target.select(self.device)

    def cache(self, attached: Target, bridges: "Bridges") -> "Cache":
        """What compiles in this process. Raises UsageError."""
        from jaxrt.cli import building, copies
        from jaxrt.cli.savedmodels import Cache
        from jaxrt.store import Store
        from jaxrt.tpu import targets

        directory = Path(self.cache_dir) if self.cache_dir else copies.default_cache()
        return Cache(
            store=Store(Path(os.path.abspath(directory))),
            target=targets.together(attached, self.replicas),
            bridges=bridges,
            batch_sizes=options.buckets(self.batch_sizes),
            shapes=self.shapes,
            tags=options.tag_list(self.tags),
            optimize=not self.disable_optimizer,
            per_model_batching=self.per_model_batching,
            passes=building.passes(
                self.autotune, self.disabled_passes, self.precision, self.keep_f32
            ),
            compression=self.compression,
            meshing=self.meshing,
        )
