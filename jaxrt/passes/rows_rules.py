"""The row rules, all registered, and the analysis of a whole program by them."""

import importlib

from jaxrt.passes import layout
from jaxrt.passes.layout import Value
from jaxrt.passes.rows_walk import Analysis
from jaxrt.program import Program

for _family in ("elementwise", "shape", "contraction", "indexing", "control"):
    importlib.import_module(f"jaxrt.passes.rows_{_family}")


def analyse(
    program: Program, batch: int, shared: frozenset[str] = frozenset()
) -> tuple[Analysis, list[Value]]:
    """The layouts of a program's values and of its outputs.

    Inputs are [batch, ...]; those named in `shared` have no rows: a whole batch sees one value.
    """
    analysis = Analysis(batch)
    inputs = [
        layout.of_weight(a.shape) if name in shared else layout.of_input(a.shape)
        for name, a in zip(program.input_names, program.input_avals, strict=True)
    ]
    weights = [layout.of_weight(a.shape) for a in program.weight_avals]
    return analysis, analysis.closed(program.jaxpr, [*weights, *inputs])
