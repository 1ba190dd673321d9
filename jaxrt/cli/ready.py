"""A version, loaded: what the server runs, and what its start log says."""

import dataclasses
from pathlib import Path

from jaxrt import loader
from jaxrt.artifact import Artifact
from jaxrt.cli.placing import Spread
from jaxrt.serving.engine.version import Version


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """One version of one model, not warm yet."""

    version: Version
    model: loader.LoadedModel
    artifact: Artifact
    path: Path
    spread: Spread
