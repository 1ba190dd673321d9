"""How far answers of compressed programs may be from TensorFlow's: what was recorded, and more."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

MARGIN = 3.0
"""Times what was recorded: few rows may be worse than all are together."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What compression does to one output: of `jaxrt.compression.errors.OutputError`."""

    rms: float
    """Relative; inf where all wanted values were 0."""
    max_error: float
    agreement: float | None
    judged: int

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """From JSON, which spells inf."""
        agreement = found["agreement"]
        return cls(
            rms=float(found["rms"]),
            max_error=float(found["max_error"]),
            agreement=None if agreement is None else float(agreement),
            judged=int(found["judged"]),
        )

    @property
    def allowed_rms(self) -> float:
        """Relative; 0 where nothing relative was recorded."""
        return MARGIN * self.rms if math.isfinite(self.rms) else 0.0

    @property
    def allowed_max(self) -> float:
        """Absolute, where nothing relative was recorded."""
        return 0.0 if math.isfinite(self.rms) else MARGIN * self.max_error

    def allowed_differing(self, values: int) -> int:
        """How many of whole numbers or strings, which rounded numbers choose, may be others."""
        least = 1 / max(self.judged, 1)
        differing = least if self.agreement is None else max(1 - self.agreement, least)
        return max(1, int(MARGIN * differing * values + 1e-6))


Outputs = Mapping[str, Recorded]
"""By output."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Margins:
    """Of a model whose weights are in few bits."""

    signatures: Mapping[str, Outputs]
    """Of those that could be tried."""
    worst: Recorded
    """Of all outputs, for those that could not be."""

    def of(self, signature: str, outputs: Iterable[str]) -> dict[str, Recorded]:
        known = self.signatures.get(signature, {})
        return {name: known.get(name, self.worst) for name in outputs}


def margins(report: Mapping[str, Any] | None, checks: Mapping[str, Any]) -> Margins | None:
    """From a report's account of compression, and its comparisons on other inputs by signature.

    None where nothing is compressed or pruned.
    """
    if report is None:
        return None
    found: dict[str, dict[str, Recorded]] = {}
    held = any(layer["scheme"] != "float" for layer in report["layers"])
    pruned = report["pruned"]["error"] if report["pruned"] else None
    if report["dropped"] or not (held or pruned):
        if pruned is None:
            return None
    else:
        for key, outputs in report["outputs"].items():
            found[key] = {each["output"]: Recorded.of(each) for each in outputs}
    for key, outputs in checks.items():
        known = found.setdefault(key, {})
        for each in outputs:
            name, other = each["output"], Recorded.of(each)
            known[name] = _worst([known[name], other]) if name in known else other
    every = [one for outputs in found.values() for one in outputs.values()]
    if pruned is not None:
        every.append(Recorded.of(pruned))
    return Margins(signatures=found, worst=_worst(every)) if every else None


def _worst(found: Sequence[Recorded]) -> Recorded:
    agreements = [one.agreement for one in found if one.agreement is not None]
    return Recorded(
        rms=max(one.rms for one in found),
        max_error=max(one.max_error for one in found),
        agreement=min(agreements, default=None),
        judged=max(one.judged for one in found),
    )
