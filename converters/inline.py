"""Calls of functions replaced by the functions' nodes, so that a whole signature is one graph."""

import dataclasses

from jaxrt.converters.bodies import Body, Library, Uncuttable, copied, pruned, read
from jaxrt.converters.subgraph import Node, canonical, producer

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_LARGEST = 200_000
"""Nodes. Functions that call functions can unfold to more than any memory holds."""


def inlined(body: Body, library: Library) -> Body:
    """The body without calls; branches and loops stay functions.

    Raises Uncuttable for a template function, or one that unfolds without end.
    """
    nodes = dict(body.nodes)
    control, results = list(body.control), dict(body.results)
    while calls := [n for n in nodes.values() if called(n, library) is not None]:
        if len(nodes) > _LARGEST:
            raise Uncuttable(f"Its functions unfold to more than {_LARGEST} nodes.")
        renamed: dict[str, str] = {}
        effects: dict[str, list[str]] = {}
        for call in calls:
            function = read(library[str(called(call, library))], library)
            del nodes[call.name]
            nodes |= _unfolded(call, function, renamed, effects)
        _follow(nodes, renamed, effects)
        results = {n: _last(t, renamed) for n, t in results.items()}
        control = [e for c in control for e in effects.get(c, [c])]
        # What a call would run for its effect runs still.
        control += [e for found in effects.values() for e in found]
        control = list(dict.fromkeys(c for c in control if c in nodes))
    return pruned(
        dataclasses.replace(
            body, nodes=nodes, control=tuple(control), results=tuple(results.items())
        )
    )


def called(node: Node, library: Library) -> str | None:
    """The function that a node does nothing but call."""
    if node.op in _CALLS:
        return str(node.attr["f"].func.name)
    return node.op if node.op in library else None


def _unfolded(
    call: Node, function: Body, renamed: dict[str, str], effects: dict[str, list[str]]
) -> dict[str, Node]:
    """The function's nodes under the call's name; `renamed` and `effects` learn what replaces
    the call's tensors and control edges."""
    data = [canonical(i) for i in call.input if not i.startswith("^")]
    given = {f"{a}:0": t for (a, _), t in zip(function.args, data, strict=True)}

    def inside(tensor: str) -> str:
        if tensor.startswith("^"):
            return f"^{call.name}/{tensor[1:]}"
        return given.get(tensor) or f"{call.name}/{tensor}"

    made = {}
    for name, original in function.nodes.items():
        copy = copied(original)
        copy.name = f"{call.name}/{name}"
        del copy.input[:]
        copy.input.extend(inside(i) for i in original.input)
        made[copy.name] = copy
    for index, (_, tensor) in enumerate(function.results):
        renamed[f"{call.name}:{index}"] = inside(tensor)
    effects[call.name] = [f"{call.name}/{c}" for c in function.control]
    return made


def _follow(nodes: dict[str, Node], renamed: dict[str, str], effects: dict[str, list[str]]) -> None:
    """Rewrites inputs that read from calls, in place of copies."""
    for name, original in nodes.items():
        if any(producer(i) in effects for i in original.input):
            copy = nodes[name] = copied(original)
            del copy.input[:]
            for i in original.input:
                if i.startswith("^"):
                    copy.input.extend(f"^{e}" for e in effects.get(i[1:], [i[1:]]))
                else:
                    copy.input.append(_last(canonical(i), renamed))


def _last(tensor: str, renamed: dict[str, str]) -> str:
    while tensor in renamed:
        tensor = renamed[tensor]
    return tensor
