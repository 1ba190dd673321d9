"""Loops that turn the i-th elements of lists into the i-th elements of lists: map_fn."""

from collections.abc import Collection, Mapping
from typing import Any

from jaxrt.converters.bodies import Body, read
from jaxrt.converters.simplify import constant
from jaxrt.converters.subgraph import Node, canonical, producer

_READS = {"TensorListGetItem": 1, "TensorListSetItem": 1}
"""Op → the input that says which element."""


def maps_elements(
    loop: Node,
    library: Mapping[str, Any],
    lists: Collection[int],
    counts: Collection[int],
    zeros: Collection[int],
) -> bool:
    """Whether element i of each list that a While gives depends on elements i it takes alone.

    `lists`, `counts` and `zeros` are the inputs that are lists with an element a row, that say
    how many rows there are, and that are the number 0.
    """
    body = read(library[loop.attr["body"].func.name], library)
    condition = read(library[loop.attr["cond"].func.name], library)
    counters = {i for i in zeros if counts_up(body, i)}
    others = set(range(len(body.args))) - counters - set(lists)
    if any(source(body, body.results[i][1]) != argument(body, i) for i in others):
        return False  # something is carried from one element to the next
    if any("Random" in of.op for of in body.nodes.values()):
        return False
    read_by = {i for i in range(len(condition.args)) if readers(condition, i)}
    if not read_by <= counters | set(counts):
        return False  # it may end before the last row
    fixed = all(_only_places(body, i) for i in counters) and not any(
        readers(body, i) for i in counts
    )
    return fixed and all(_is_mapped(body, i, counters) for i in lists)


def argument(body: Body, index: int) -> str:
    """The tensor that an argument is."""
    return f"{body.args[index][0]}:0"


def source(body: Body, tensor: str) -> str:
    """The tensor behind Identities."""
    while (of := body.nodes.get(producer(tensor))) is not None and of.op == "Identity":
        tensor = canonical(of.input[0])
    return tensor


def readers(body: Body, index: int) -> list[tuple[Node, int]]:
    """Nodes that compute with an argument, and which input it is."""
    found = argument(body, index)
    return [
        (of, position)
        for of in body.nodes.values()
        if of.op != "Identity"
        for position, tensor in enumerate(of.input)
        if not tensor.startswith("^") and source(body, canonical(tensor)) == found
    ]


def counts_up(body: Body, index: int) -> bool:
    """Whether each step makes an argument larger by one."""
    of = body.nodes.get(producer(source(body, body.results[index][1])))
    if of is None or of.op not in ("Add", "AddV2"):
        return False
    step = constant(dict(body.nodes), of.input[1])
    return source(body, canonical(of.input[0])) == argument(body, index) and step == 1


def _only_places(body: Body, index: int) -> bool:
    """Whether a counter says which element it is, and nothing else."""
    following = producer(source(body, body.results[index][1]))
    return all(
        of.name == following or _READS.get(of.op) == position
        for of, position in readers(body, index)
    )


def _is_mapped(body: Body, index: int, counters: Collection[int]) -> bool:
    """Whether a list is read and written at the counter only, and given where it came in."""
    arguments = {argument(body, i) for i in counters}
    result = source(body, body.results[index][1])
    for of, position in readers(body, index):
        at = source(body, canonical(of.input[1])) if of.op in _READS else ""
        if position != 0 or at not in arguments:
            return False
        if of.op == "TensorListSetItem" and f"{of.name}:0" != result:
            return False
    made = body.nodes.get(producer(result))
    return result == argument(body, index) or (
        made is not None
        and made.op == "TensorListSetItem"
        and source(body, canonical(made.input[0])) == argument(body, index)
    )
