"""TF1's control flow as functions: frames become While ops, Switch and Merge become If ops."""

from typing import Any

from jaxrt.converters.bodies import Body, Uncuttable, pruned
from jaxrt.converters.branches import functional_branches
from jaxrt.converters.loops import functional_loops
from jaxrt.converters.opnames import CONTROL_FLOW


def functionalize(body: Body, library: dict[str, Any]) -> Body:
    """The same graph without Enter, Exit, Switch, Merge and their like.

    New functions are added to `library`. Raises Uncuttable where the graph is none that TF1's
    `cond` and `while_loop` write.
    """
    if not any(n.op in CONTROL_FLOW for n in body.nodes.values()):
        return body
    looped = functional_loops(body, library, functional_branches)
    found = pruned(functional_branches(looped, library))
    left = sorted({n.op for n in found.nodes.values()} & CONTROL_FLOW)
    if left:
        raise Uncuttable(f"TF1 control flow of an unknown form is left: {', '.join(left)}.")
    return found
