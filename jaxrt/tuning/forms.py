"""Passes that need no choice: computations written in the form that XLA:CPU runs fastest."""

import dataclasses
from collections.abc import Callable, Collection

from jaxrt.passes import loop_products, pooling, tables, topk, vector_dots
from jaxrt.program import Program


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One pass."""

    name: str
    """Its switch."""
    apply: Callable[[Program], tuple[Program, int]]
    """The rewritten program, and how many places were."""
    gain: str
    """What the report says, after the count."""


FORMS = (
    Form(name="vector-dots", apply=vector_dots.transpose, gain="with transposed weights"),
    Form(name="loop-products", apply=loop_products.hoist, gain="of all steps before loops"),
    Form(name="tables", apply=tables.join, gain="joined, for one look-up"),
    Form(name="pooling", apply=pooling.slice_windows, gain="windows as slices"),
    Form(name="top-k", apply=topk.split, gain="in two steps"),
)
"""In the order they are applied."""


def rewritten(program: Program, without: Collection[str]) -> tuple[Program, list[str]]:
    """The program after all forms but `without`, and a line for each that changed something."""
    gains = []
    for form in FORMS:
        if form.name not in without:
            program, count = form.apply(program)
            if count:
                gains.append(f"{form.name}: {count} {form.gain}")
    return program, gains
