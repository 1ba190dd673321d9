"""What was chosen for a convolution, and why; and the file that remembers it per target."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = 2
"""Of the file: another one is measured anew."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A lowering and the measurements it was chosen by; none where a rule chose."""

    lowering: str
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Candidate → seconds a call."""
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Candidate → error against float64, relative to the largest output."""

    @property
    def gain(self) -> float | None:
        """Times faster than XLA's own; None where that was not timed."""
        own, mine = self.seconds.get("xla"), self.seconds.get(self.lowering)
        return own / mine if own and mine else None

    def to_json(self) -> dict[str, Any]:
        return {
            "lowering": self.lowering,
            "seconds": {name: float(f"{s:.3g}") for name, s in self.seconds.items()},
            "errors": {name: float(f"{e:.2g}") for name, e in self.errors.items()},
        }


class Choices:
    """Choices of one target on disk, shared by processes: the last writer of a key wins."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        """`fingerprint` is the target's: jaxlib, device kind and CPU features are in it."""
        self._path = directory / f"{fingerprint}.json"
        self._known = self._read()

    def get(self, key: str) -> Choice | None:
        found = self._known.get(key)
        return None if found is None else Choice(**found)

    def put(self, key: str, choice: Choice) -> None:
        """Written at once: a killed compile keeps what it measured. A full disk is no error."""
        self._known = {**self._read(), **self._known, key: choice.to_json()}
        text = json.dumps({"version": VERSION, "choices": self._known}, indent=1, sort_keys=True)
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".", suffix=".json")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, self._path)

    def _read(self) -> dict[str, Any]:
        try:
            held = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet, or damaged: measured anew
            return {}
        if not isinstance(held, dict) or held.get("version") != VERSION:
            return {}
        return dict(held.get("choices", {}))
