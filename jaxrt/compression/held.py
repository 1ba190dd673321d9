"""An array as it is held while a program is written, and how its parts follow its moves."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from jaxrt.compression.moves import Move
from jaxrt.compression.quantize import Form, decode


@dataclasses.dataclass(frozen=True)
class Held:
    """What was encoded of one array."""

    parts: tuple[Any, ...]
    form: Form
    shape: tuple[int, ...]

    @functools.cached_property
    def decoded(self) -> Any:
        """f32[shape], written once."""
        return decode(self.parts, self.form, self.shape)

    def moved(self, moves: Sequence[Move]) -> tuple[Any, Any] | None:
        """(few bits, scales) after `moves`, which share dimensions; None for other forms."""
        if len(self.parts) != 2 or self.parts[0].ndim != len(self.shape):
            return None
        values, scale = self.parts
        if values.shape != self.shape:
            return None
        axes: tuple[int, ...] = self.form.axes
        for move in moves:
            after = move.axes_after(axes)
            if after is None:
                return None
            values, scale, axes = move.of(values), move.of_scale(scale, after), after
        return values, scale
