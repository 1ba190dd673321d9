"""How much worse answers may become: the user's budget, in the words of the command line."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrt.compression.errors import OutputError
from jaxrt.errors import UsageError

ROUNDING = 1e-5
"""Relative RMS error that the order of float32 sums makes: a program that is this far away from
another one computes the same, so that a budget of 0 leaves what is exact."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Of every output; None: no limit."""

    max_error: float | None = None
    """Relative RMS error: 0.005 is 0.5 %."""
    min_agreement: float | None = None
    """Share of rows that name the same class: 0.999 is 99.9 %."""
    spare_rows: int = 0
    """Rows that may name another class however few rows there are: one of 64 is 1.6 %."""

    @property
    def is_given(self) -> bool:
        return self.max_error is not None or self.min_agreement is not None

    def holds(self, found: Iterable[OutputError]) -> bool:
        return self.broken(found) is None

    def used(
        self, found: Iterable[OutputError], own: Mapping[str, OutputError] | None = None
    ) -> float:
        """Which share of the budget the worst output takes; above 1 it is over it, 0 without one.

        `own`: what the program does without compression, by output. Where that is ROUNDING it
        counts for nothing, and rows that it turns, which are ties, may turn.
        """
        shares = [0.0]
        for error in found:
            plain = None if own is None else own.get(error.output)
            if self.max_error is not None:
                shares.append(_share(error.rms, max(self.max_error, ROUNDING)))
            if self.min_agreement is not None and error.agreement is not None:
                is_same = plain is not None and plain.rms <= ROUNDING
                ties = _turned(plain) if plain is not None and is_same else 0
                shares.append(_share(_turned(error), max(ties, self._may_turn(error))))
        return max(shares)

    def broken(self, found: Iterable[OutputError]) -> str | None:
        """The first output that breaks it, and how far; None where it holds."""
        for error in found:
            if self.max_error is not None and not error.rms <= max(self.max_error, ROUNDING):
                return f"output {error.output!r}: error {spell(error.rms)}"
            if _turned(error) > self._may_turn(error):
                return f"output {error.output!r}: agreement {spell(error.agreement or 0.0)}"
        return None

    def unlimited(self, found: Iterable[OutputError]) -> list[str]:
        """Outputs that it says nothing of: an agreement alone, and one number a row."""
        if self.max_error is not None or self.min_agreement is None:
            return []
        return [error.output for error in found if error.agreement is None]

    def _may_turn(self, error: OutputError) -> float:
        """How many rows may name another class."""
        if self.min_agreement is None:
            return math.inf
        # The last bits of 1 - 0.99 are to turn no row.
        return max(self.spare_rows, (1 - self.min_agreement) * error.judged + 1e-6)

    def __str__(self) -> str:
        """`error ≤ 0.5 %, agreement ≥ 99.9 %`."""
        said = []
        if self.max_error is not None:
            said.append(f"error ≤ {spell(self.max_error)}")
        if self.min_agreement is not None:
            spare = f" or all rows but {self.spare_rows}" if self.spare_rows else ""
            said.append(f"agreement ≥ {spell(self.min_agreement)}{spare}")
        return ", ".join(said) or "none"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _turned(error: OutputError) -> int:
    """Rows that name another class."""
    return 0 if error.agreement is None else round((1 - error.agreement) * error.judged)


def _share(found: float, allowed: float) -> float:
    return found / allowed if allowed > 0 else math.inf if found > 0 else 0.0


DEFAULT = Budget(max_error=0.01, min_agreement=0.99, spare_rows=1)
"""Where nobody says one and something has to be chosen."""


def share(flag: str, text: str) -> float:
    """`0.5%` or `0.005` → 0.005; raises UsageError for what is no share of the whole."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    found = number / 100 if text.endswith("%") else number
    if not 0 <= found <= 1:
        raise UsageError(f"{flag} {text!r}: want a share from 0% to 100%, such as 0.5% or 0.005")
    return found


def spell(found: float) -> str:
    """`0.512 %`, as many digits as matter near 0 and near 1."""
    if not math.isfinite(found):
        return str(found)
    return f"{100 * found:.4g} %"
