"""The precision of products, convolutions and tables, chosen per target.

bf16: operands are rounded to bfloat16, sums are kept in f32 and what lies between products stays
f32, which XLA fuses into them; weights are rounded once, by the prepared part, and take half the
memory. tf32 and f32 say how a GPU or TPU multiplies f32 operands. Inputs and outputs keep their
dtypes. The optimized TensorFlow runtime does the same on TPUs, with a list of what is left out
(google/orbax, converter_options_v2.proto, BFloat16OptimizationOptions: scope, filterlist).
"""

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrt.errors import UsageError
from jaxrt.passes.owners import owners
from jaxrt.passes.rewrite import Rule, Site, inline, rewrite
from jaxrt.program import Program

F32, BF16 = np.dtype(np.float32), np.dtype(jnp.bfloat16)

TF32_BITS = 10
"""Of mantissa; the exponent is float32's."""


class Precision(enum.Enum):
    """Of products whose operands are f32."""

    F32 = "f32"
    """All bits: six bf16 passes on a TPU, the scalar cores of a GPU."""
    TF32 = "tf32"
    """A GPU's matrix units on f32 operands, 10 bits of mantissa; on a TPU three bf16 passes."""
    BF16 = "bf16"
    """7 bits of mantissa, half the memory."""


DEFAULTS = {"tpu": Precision.BF16, "cuda": Precision.TF32, "cpu": Precision.F32}
"""Platform → what is chosen when nobody chooses."""

PASSES = {
    Precision.F32: lax.Precision.HIGHEST,
    Precision.TF32: lax.Precision.HIGH,
    Precision.BF16: lax.Precision.DEFAULT,
}
"""What XLA is told of a product: HIGH is TF32 on a GPU that has it, three passes on a TPU."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """Which products are rounded, and how; raises UsageError for what is no regular expression."""

    precision: Precision | None = None
    """None: that of the platform."""
    kept: tuple[str, ...] = ()
    """Regular expressions: a product stays f32 when one is found in the name of a weight of it."""

    def __post_init__(self) -> None:
        for text in self.kept:
            try:
                re.compile(text)
            except re.error as error:
                raise UsageError(
                    f"--keep-f32 {text!r}: no regular expression: {error}; want one that is found "
                    "in the names of weights, such as 'head/.*kernel'"
                ) from None

    def on(self, platform: str) -> Precision:
        """The precision for one platform."""
        return self.precision or DEFAULTS[platform]

    def to_json(self) -> dict[str, Any]:
        chosen = None if self.precision is None else self.precision.value
        return {"precision": chosen, "kept": list(self.kept)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Rounding":
        chosen = data["precision"]
        return cls(precision=chosen and Precision(chosen), kept=tuple(data["kept"]))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rounded:
    """A program at a precision."""

    program: Program
    changed: int
    """Products, convolutions and tables that are at that precision."""
    kept: int
    """Those that are kept f32."""


def apply(program: Program, rounding: Rounding, platform: str) -> Rounded:
    """The program at the precision that `rounding` says for the platform."""
    closed = inline(program.jaxpr)
    rules = _Rules(program, closed, rounding, rounding.on(platform))
    table: dict[str, Rule] = {
        "dot_general": rules.product,
        "conv_general_dilated": rules.product,
    }
    if rounding.on(platform) is Precision.BF16:
        table["gather"] = rules.table
    found = dataclasses.replace(program, jaxpr=rewrite(closed, table))
    return Rounded(program=found, changed=rules.changed, kept=rules.kept)


def emulated(program: Program) -> Program:
    """The program with TF32's rounding of operands written out, for devices that have none.

    A GPU's matrix units read the upper 10 bits of mantissa of f32 operands and sum in f32; which
    products do so is in the program already. Sums of f32 products of such operands are theirs.
    """

    def rule(site: Site, left: Any, right: Any) -> Any:
        precision = site.params["precision"]
        if left.dtype != F32 or precision != (lax.Precision.HIGH, lax.Precision.HIGH):
            return None
        operands = (lax.reduce_precision(v, 8, TF32_BITS) for v in (left, right))
        params = dict(site.params) | {"precision": (lax.Precision.HIGHEST,) * 2}
        return site.emit(site.eqn.primitive, *operands, **params)

    rules: dict[str, Rule] = {"dot_general": rule, "conv_general_dilated": rule}
    return dataclasses.replace(program, jaxpr=rewrite(program.jaxpr, rules))


class _Rules:
    def __init__(
        self, program: Program, closed: Any, rounding: Rounding, precision: Precision
    ) -> None:
        self._owners = owners(closed, program.weight_names)
        self._precision = precision
        self._kept = [re.compile(text) for text in rounding.kept]
        self.changed = self.kept = 0

    def product(self, site: Site, left: Any, right: Any) -> Any:
        if left.dtype != F32 or right.dtype != F32:
            return None
        precision = Precision.F32 if self._is_kept(site) else self._precision
        if precision is Precision.BF16:
            left, right = (lax.convert_element_type(v, BF16) for v in (left, right))
        passes = PASSES[precision]
        params = dict(site.params)
        params |= {"precision": (passes, passes), "preferred_element_type": F32}
        return site.emit(site.eqn.primitive, left, right, **params)

    def table(self, site: Site, operand: Any, indices: Any) -> Any:
        """Rows looked up in a table of weights: the table is what takes the memory."""
        if operand.dtype != F32 or not self._owners[id(site.eqn)][0] or self._is_kept(site):
            return None
        params = dict(site.params)
        if params.get("fill_value") is not None:
            params["fill_value"] = np.asarray(params["fill_value"]).astype(BF16).item()
        rounded = lax.convert_element_type(operand, BF16)
        found = site.emit(site.eqn.primitive, rounded, indices, **params)
        return lax.convert_element_type(found, F32)

    def _is_kept(self, site: Site) -> bool:
        """Counts the equation too."""
        names = frozenset().union(*self._owners[id(site.eqn)])
        kept = any(pattern.search(name) for pattern in self._kept for name in names)
        self.kept, self.changed = self.kept + kept, self.changed + (not kept)
        return kept
