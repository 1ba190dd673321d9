"""Changes of variables, taken out of a graph whose answers do not show them."""

import dataclasses
from typing import Any

from jaxrt.converters.bodies import Body, called_functions, copied, pruned, read, write
from jaxrt.converters.opnames import CHANGES
from jaxrt.converters.subgraph import Node, producer


def without_writes(body: Body, library: dict[str, Any]) -> Body:
    """The body and, in place, the functions of `library` that it calls, without such ops.

    What only they read goes too: Keras advances the state of its random numbers in every layer
    that might draw some, and draws none when it does not train.
    """
    for name in called_functions(body.nodes.values(), library):
        inner = read(library[name], library)
        quiet = _quiet(inner)
        if quiet is not inner:
            library[name] = write(name, quiet, library)
    return _quiet(body)


def _quiet(body: Body) -> Body:
    gone = _gone(body)
    if not gone:
        return body
    nodes: dict[str, Node] = {}
    for name, original in body.nodes.items():
        if name not in gone:
            nodes[name] = copied(original)
            del nodes[name].input[:]
            nodes[name].input.extend(i for i in original.input if producer(i) not in gone)
    control = tuple(c for c in body.control if c not in gone)
    return pruned(dataclasses.replace(body, nodes=nodes, control=control))


def _gone(body: Body) -> set[str]:
    """Names of the nodes that change a variable, and of what reads data from them."""
    readers: dict[str, list[str]] = {}
    for of in body.nodes.values():
        for name in (i for i in of.input if not i.startswith("^")):
            readers.setdefault(producer(name), []).append(of.name)
    found: set[str] = set()
    stack = [n.name for n in body.nodes.values() if CHANGES.match(n.op)]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += readers.get(name, [])
    return found
