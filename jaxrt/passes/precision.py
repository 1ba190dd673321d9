"""The precision of products, convolutions and tables, chosen per target.

bf16: operands are rounded to bfloat16, sums are kept in f32 and what lies between products stays
f32, which XLA fuses into them; weights are rounded once, by the prepared part, and take half the
memory. tf32 and f32 say how a GPU or TPU multiplies f32 operands. Inputs and outputs keep their
dtypes. The optimized TensorFlow runtime does the same by scope (google/orbax,
converter_options_v2.proto, bfloat16_optimization_options).
"""

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxrt.passes.jaxprs import ClosedJaxpr
from jaxrt.passes.prepare import VIEWS
from jaxrt.passes.rewrite import Rule, Site, inline, rewrite
from jaxrt.program import Program

F32, BF16 = np.dtype(np.float32), np.dtype(jnp.bfloat16)


class Precision(enum.Enum):
    """Of products whose operands are f32."""

    F32 = "f32"
    """All bits: six bf16 passes on a TPU, the scalar cores of a GPU."""
    TF32 = "tf32"
    """A GPU's matrix units on f32 operands, 10 bits of mantissa; elsewhere as F32."""
    BF16 = "bf16"
    """7 bits of mantissa, half the memory."""


DEFAULTS = {"tpu": Precision.BF16, "cuda": Precision.TF32, "cpu": Precision.F32}
"""Platform → what is chosen when nobody chooses."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """Which products are rounded, and how."""

    precision: Precision
    kept: tuple[str, ...] = ()
    """Regular expressions: a product stays f32 when one is found in the name of a weight of it."""

    def to_json(self) -> dict[str, Any]:
        return {"precision": self.precision.value, "kept": list(self.kept)}


def apply(program: Program, rounding: Rounding) -> tuple[Program, int]:
    """The program at that precision, and how many products, convolutions and tables it changed."""
    closed = inline(program.jaxpr)
    rules = _Rules(rounding, _weights(program, closed))
    table: dict[str, Rule] = {
        "dot_general": rules.product,
        "conv_general_dilated": rules.product,
    }
    if rounding.precision is Precision.BF16:
        table["gather"] = rules.table
    return dataclasses.replace(program, jaxpr=rewrite(closed, table)), rules.changed


_MOVED = VIEWS | {"transpose", "convert_element_type", "rev", "slice", "concatenate"}
"""What a weight may go through on the way to its product."""


def _weights(program: Program, closed: ClosedJaxpr) -> dict[int, frozenset[str]]:
    """Equation, by its id → names of the weights among its operands."""
    owners: dict[Any, frozenset[str]] = {
        variable: frozenset({name})
        for variable, name in zip(closed.jaxpr.invars, program.weight_names, strict=False)
    }
    found = {}
    for eqn in closed.jaxpr.eqns:
        sources = [owners.get(a, frozenset()) for a in eqn.invars if not isinstance(a, Literal)]
        found[id(eqn)] = frozenset().union(*sources)
        if eqn.primitive.name in _MOVED:
            owners[eqn.outvars[0]] = found[id(eqn)]
    return found


class _Rules:
    def __init__(self, rounding: Rounding, weights: Mapping[int, frozenset[str]]) -> None:
        self._weights = weights
        self._bf16 = rounding.precision is Precision.BF16
        exact = lax.Precision.HIGHEST
        self._precision = exact if rounding.precision is Precision.F32 else lax.Precision.DEFAULT
        self._kept = [re.compile(text) for text in rounding.kept]
        self.changed = 0

    def product(self, site: Site, left: Any, right: Any) -> Any:
        if left.dtype != F32 or right.dtype != F32:
            return None
        self.changed += 1
        params = dict(site.params)
        if self._is_kept(site):
            precision = lax.Precision.HIGHEST
        else:
            precision = self._precision
            if self._bf16:
                left, right = (lax.convert_element_type(v, BF16) for v in (left, right))
        params |= {"precision": (precision, precision), "preferred_element_type": F32}
        return site.emit(site.eqn.primitive, left, right, **params)

    def table(self, site: Site, operand: Any, indices: Any) -> Any:
        """Rows looked up in a table of weights: the table is what takes the memory."""
        if operand.dtype != F32 or self._is_kept(site):
            return None
        if site.maker(operand) is not None:  # an activation: nothing is saved
            return None
        self.changed += 1
        params = dict(site.params)
        if params.get("fill_value") is not None:
            params["fill_value"] = np.asarray(params["fill_value"]).astype(BF16).item()
        rounded = lax.convert_element_type(operand, BF16)
        found = site.emit(site.eqn.primitive, rounded, indices, **params)
        return lax.convert_element_type(found, F32)

    def _is_kept(self, site: Site) -> bool:
        names = self._weights.get(id(site.eqn), frozenset())
        return any(pattern.search(name) for pattern in self._kept for name in names)
