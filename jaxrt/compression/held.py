"""An array as it is held while a program is written, and how its parts follow its moves."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from jax import lax

from jaxrt.compression.moves import Move
from jaxrt.compression.quantize import Form, decode
from jaxrt.compression.schemes import Scheme
from jaxrt.compression.words import Rows


@dataclasses.dataclass(frozen=True)
class Held:
    """What was encoded of one array."""

    parts: tuple[Any, ...]
    form: Form
    shape: tuple[int, ...]
    dtype: Any
    """Of the array."""
    first: Move | None = None
    """From what was encoded to the array; `form` is that of what was encoded."""
    rows: Rows | None = None
    """Of a table in words, which `parts` begins with."""

    @functools.cached_property
    def decoded(self) -> Any:
        """The array, written once."""
        shape = self.shape if self.first is None else self.first.before
        parts = self.parts
        if self.rows is not None:
            parts = (*self.rows.unpack(parts[0]), *parts[1:])
        value = decode(parts, self.form, shape)
        value = value if self.first is None else self.first.of(value)
        return lax.convert_element_type(value, self.dtype)

    def moved(self, moves: Sequence[Move]) -> tuple[Any, Any] | None:
        """(few bits, scales) after `moves`, of one rank; None where scales cannot follow."""
        if len(self.parts) != 2 or self.rows or self.form.scheme is Scheme.INT4:
            return None
        values, scale = self.parts
        axes: tuple[int, ...] = self.form.axes
        for move in moves if self.first is None else (self.first, *moves):
            after = move.axes_after(axes)
            if after is None:
                return None
            values, scale, axes = move.of(values), move.of_scale(scale, after), after
        return values, scale
