"""What the user chose of a build, and how its artifact is named."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrt.buckets import Buckets
from jaxrt.compression.goals import Wanted
from jaxrt.converters import planning
from jaxrt.program import Shapes
from jaxrt.tuning.optimizer import Passes


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user chose. `to_json` is part of the cache's key and of the manifest."""

    buckets: Buckets
    rules: tuple[planning.ShapeRule, ...] = ()
    tags: tuple[str, ...] = ("serve",)
    signatures: tuple[str, ...] = ()
    """Those to compile; empty: all."""
    optimize: bool = True
    """False: TensorFlow runs every signature as it is."""
    check: bool = True
    """Compare each signature with TensorFlow once."""
    passes: Passes = Passes()
    """What the `optimize` of a build was made with."""
    compression: Wanted | None = None
    """None: weights are kept as they are."""
    fallback: bool = True
    """Keep the SavedModel for shapes that no program takes, where there may be such."""
    observed: Mapping[str, Sequence[Shapes]] = dataclasses.field(default_factory=dict)
    """Signature → shapes of its warm-up requests."""

    def to_json(self) -> dict[str, Any]:
        return {
            "batch_sizes": list(self.buckets.sizes),
            "shapes": [
                {"names": list(r.names), "sizes": [list(s) for s in r.sizes]} for r in self.rules
            ],
            "tags": list(self.tags),
            "signatures": list(self.signatures),
            "optimize": self.optimize,
            "check": self.check,
            "passes": self.passes.to_json(),
            "compression": self.compression and self.compression.to_json(),
            "fallback": self.fallback,
            "observed": {
                name: [{a: list(s) for a, s in found.items()} for found in shapes]
                for name, shapes in self.observed.items()
            },
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """What the manifest says of the model: its name, and where it came from."""

    model: str
    path: str
    """As the user gave it."""
    content_sha256: str
