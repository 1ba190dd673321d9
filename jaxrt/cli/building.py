"""Building artifacts for the commands: what the path is, what the options mean, who runs it."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from jaxrt import digest, remote, warmups
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.cli import copies, extras, options
from jaxrt.cli.compression import wanted
from jaxrt.cli.console import Steps
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.converters import build as builder
from jaxrt.converters import planning
from jaxrt.converters.worker import Bridge
from jaxrt.errors import ModelError, UsageError
from jaxrt.layouts import LayOut
from jaxrt.manifest import Manifest
from jaxrt.passes.precision import Precision, Rounding
from jaxrt.serving.engine import source
from jaxrt.target import Target
from jaxrt.tuning.optimizer import PASSES, Passes, optimizer
from jaxrt.tuning.tuner import Autotune

TUNING = "tuning"
"""Below the cache: the lowerings that were measured to be best, per target."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedModelPath:
    """A SavedModel on disk."""

    name: str
    path: Path
    given: str
    """As the user wrote it."""


class Bridges:
    """TensorFlow's process, started when it is first needed, one for all models."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bridge: Bridge | None = None

    def start(self) -> Bridge:
        with self._lock:
            if self._bridge is None:
                self._bridge = Bridge()
            return self._bridge

    def forget(self, path: Path, tags: Sequence[str]) -> None:
        """Nothing of the SavedModel at `path` is kept: another one may lie there soon."""
        with self._lock:
            if self._bridge is not None:
                self._bridge.forget(os.path.abspath(path), tags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock, contextlib.ExitStack() as stack:
            if self._bridge is not None:
                stack.callback(self._bridge.close)
                self._bridge = None


def saved_model(given: Path | str) -> SavedModelPath:
    """The SavedModel a path or URI stands for: itself, or the highest version below it.

    That of a URI is copied to the user's cache first. Raises ModelError when there is none,
    UsageError when it is an artifact already.
    """
    if remote.is_remote(str(given)):
        return _copied(str(given))
    location = source.locate(Path(given))
    path = location.versions[0].path
    if source.kind_of(path) is source.Kind.ARTIFACT:
        raise UsageError(f"{path}: is an artifact already; serve it with `jaxrt serve {given}`")
    return SavedModelPath(name=location.name, path=path, given=str(given))


def _copied(uri: str) -> SavedModelPath:
    name, version, place = copies.locate(uri)
    if version is None:
        place = copies.highest(place)
    if copies.kind_of(place) is source.Kind.ARTIFACT:
        raise UsageError(f"{place}: is an artifact already; serve it with `jaxrt serve {uri}`")
    return SavedModelPath(name=name, path=copies.copies(None).fetch(place), given=uri)


def choose(
    path: Path,
    *,
    batch_sizes: Buckets,
    shapes: Sequence[str],
    tags: tuple[str, ...],
    signatures: tuple[str, ...] = (),
    check: bool,
    optimize: bool = True,
    passes: Passes | None = None,
    fallback: bool = True,
    served: bool = False,
    compression: CompressionFlags | None = None,
) -> builder.Options:
    """The options of a build; shapes of a warm-up file in the SavedModel become planned ones.

    `served`: for a server, which replays that file and says then what is wrong with it.
    """
    observed: dict[str, list[Any]] = {}
    try:
        for signature, found in warmups.planned_shapes(path):
            observed.setdefault(signature, []).append(found)
    except ModelError:
        if not served:
            raise
    return builder.Options(
        buckets=batch_sizes,
        rules=tuple(planning.parse_rule(text) for text in shapes),
        tags=tags,
        signatures=signatures,
        check=check,
        optimize=optimize,
        passes=passes or Passes(),
        fallback=fallback,
        observed=observed,
        compression=wanted(compression or CompressionFlags(), path),
    )


def passes(
    autotune: str, disabled: Sequence[str], precision: str, keep_f32: Sequence[str]
) -> Passes:
    """What the flags of these names mean; raises UsageError."""
    chosen = None if precision == options.PRECISION_DEFAULT else Precision(precision)
    return Passes(
        autotune=Autotune(autotune),
        disabled=tuple(disabled),
        rounding=Rounding(precision=chosen, kept=tuple(keep_f32)),
    )


def build(
    model: SavedModelPath,
    destination: Path,
    chosen: builder.Options,
    *,
    target: Target,
    bridges: Bridges,
    steps: Steps,
    allow_empty: bool = False,
    choices: Path | None = None,
    lay_out: LayOut | None = None,
) -> tuple[Manifest, dict[str, Any]]:
    """Compiles `model` into `destination`; gives the manifest and the report.

    `choices` is the directory of what was measured before; one in the user's cache by default.
    """
    target = chosen.passes.suited(target)
    with ArtifactWriter(destination) as writer:
        if not allow_empty:  # a server that compiles a SavedModel reads them there
            extras.carry(model.path, writer.file)
        manifest = builder.build(
            model.path,
            writer,
            naming=builder.Naming(
                model=model.name,
                path=model.given,
                content_sha256=digest.content_hash(model.path),
            ),
            options=chosen,
            target=target,
            tensorflow=bridges.start(),
            steps=steps,
            allow_empty=allow_empty,
            optimize=optimizer(
                target,
                _suited(chosen.passes, target),
                cache=choices or copies.default_cache() / TUNING,
            ),
            lay_out=lay_out,
        )
    with open_artifact(destination, verify=False) as artifact:
        return manifest, artifact.report()


PORTABLE = ("resize", "batch-norm", "lanes")
"""Passes that do work away wherever it runs, or on TPUs; the others are for how XLA:CPU runs it."""


def _suited(chosen: Passes, target: Target) -> Passes:
    """Without what suits one CPU alone, on other devices and on a mesh."""
    if target.platform == "cpu" and target.num_devices == 1:
        return chosen
    others = [name for name in PASSES if name not in PORTABLE]
    return dataclasses.replace(chosen, disabled=tuple(dict.fromkeys([*chosen.disabled, *others])))


def size_of(directory: Path) -> int:
    """Bytes of all files below."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
