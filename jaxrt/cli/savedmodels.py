"""SavedModels served directly: compiled into the cache first, unplanned shapes when asked for."""

import dataclasses
import importlib.util
import logging
import shutil
from pathlib import Path
from typing import Any

from jaxlib import version as jaxlib_version

from jaxrt import __version__, digest
from jaxrt.buckets import Buckets
from jaxrt.cli import batching, building
from jaxrt.cli.building import Bridges, SavedModelPath
from jaxrt.cli.compressed import compression_notes
from jaxrt.cli.devices import Meshing
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.cli.tables import errors
from jaxrt.compiler import Weights
from jaxrt.converters import ondemand
from jaxrt.converters.build import Options
from jaxrt.errors import ModelError
from jaxrt.store import Store, entry_key
from jaxrt.target import Target
from jaxrt.tuning.optimizer import Passes, optimizer
from jaxrt.tuning.tuner import Autotune

log = logging.getLogger("jaxrt.serving")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Compiles SavedModels into a store, all with the same choices."""

    store: Store
    target: Target
    bridges: Bridges
    batch_sizes: Buckets
    shapes: tuple[str, ...]
    tags: tuple[str, ...]
    optimize: bool = True
    """False: TensorFlow runs every signature as it is."""
    passes: Passes = Passes()
    compression: CompressionFlags = CompressionFlags()
    meshing: Meshing = Meshing()
    """How programs share several devices."""
    per_model_batching: bool = False
    """Whether a batching_params.pbtxt beside a model says which batch sizes it is compiled for."""

    def sizes(self, path: Path) -> Buckets:
        """The batch sizes of the SavedModel at `path`. Raises ModelError."""
        return batching.of_version(
            path, per_model=self.per_model_batching, otherwise=self.batch_sizes
        )

    def find(self, path: Path) -> Path | None:
        """The artifact of the SavedModel at `path`, if the store has it."""
        return self.store.find(self._key(path)[0])

    def artifact(self, name: str, path: Path) -> Path:
        """The artifact of the SavedModel at `path`, compiled now unless the store has it.

        Raises ModelError when its files change meanwhile.
        """
        key, content, options = self._key(path)

        def build(destination: Path) -> None:
            log.info("%s: compiling %s", name, path)
            _, report = building.build(
                SavedModelPath(name=name, path=path, given=str(path)),
                destination,
                options,
                target=self.target,
                bridges=self.bridges,
                steps=_Quiet(),
                allow_empty=True,
                choices=self.store.root / building.TUNING,
                lay_out=self.meshing.lay_out(self.target),
            )
            if digest.content_hash(path) != content:
                shutil.rmtree(destination)  # else it would be taken for what it was made from
                raise ModelError(f"{path}: its files changed while they were compiled")
            for line in compression_notes(report):
                log.info("%s: compression: %s", name, line)
            for row in errors(report):
                if not row[-1].startswith("ok"):
                    log.warning("%s: against TensorFlow: %s", name, " ".join(filter(None, row)))

        return self.store.get_or_build(key, build)

    def _key(self, path: Path) -> tuple[str, str, Options]:
        """The key in the store, the content of the SavedModel, and how it is compiled."""
        options = self._options(path)
        content = digest.content_hash(path)
        key = entry_key(
            content=content,
            options=options.to_json(),
            fingerprint={"key": self.target.fingerprint, **self._layout()},
            versions={"jaxrt": __version__, "jaxlib": jaxlib_version.__version__},
        )
        return key, content, options

    def _layout(self) -> dict[str, Any]:
        """What an artifact for several devices depends on beside their kind; none for one."""
        target = self.target
        if target.num_devices == 1:
            return {}
        devices = {"topology": target.topology, "devices": target.num_devices}
        return devices | {"meshing": self.meshing.to_json()}

    def on_demand(self, path: Path, weights: Weights) -> ondemand.Compiler | None:
        """Compiles shapes nobody planned; `weights` are those of the loaded artifact.

        None where TensorFlow is not installed: what the cache has is served without it.
        """
        if importlib.util.find_spec("tensorflow") is None:
            return None
        return ondemand.Compiler(
            path,
            self.tags,
            tensorflow=self.bridges.start,
            weights=weights,
            target=self.passes.suited(self.target),
            # A request waits for it: rules choose, nothing is timed.
            optimize=optimizer(
                self.target, dataclasses.replace(self.passes, autotune=Autotune.OFF)
            ),
        )

    def _options(self, path: Path) -> Options:
        return building.choose(
            path,
            batch_sizes=self.sizes(path),
            shapes=self.shapes,
            tags=self.tags,
            check=True,
            optimize=self.optimize,
            passes=self.passes,
            compression=self.compression,
            served=True,
        )


class _Quiet:
    """Steps of one model among several: the bar counts models."""

    def total(self, steps: int) -> None:
        pass

    def step(self, text: str) -> None:
        log.debug("%s", text)
