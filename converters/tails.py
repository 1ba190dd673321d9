"""Tails of loops: what a loop computes of each element last, computed of all elements behind it.

`map_fn` over files of images decodes, casts and scales one after the other. No device has strings,
so the loop stays on the host; casting and scaling, behind the loop, may leave it, and bytes cross
instead of floats.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from jaxrt.converters.bodies import Body, copied, fresh, pruned, read, write
from jaxrt.converters.maps import argument, counts_up, readers, source
from jaxrt.converters.simplify import constant
from jaxrt.converters.subgraph import Node, canonical, producer

LOOPS = ("While", "StatelessWhile")
_BY_ELEMENT = {
    "Add", "AddV2", "Cast", "Maximum", "Minimum", "Mul", "Neg", "RealDiv", "Square", "Sub",
}  # fmt: skip
_PASSING = ("EnsureShape", "Identity")
_COUNTING = {"Const", "Identity", "Less", "LogicalAnd"}
_SET, _STACK, _RESERVE = "TensorListSetItem", "TensorListStack", "TensorListReserve"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Tail:
    """What one loop computes last of the elements of one list."""

    stacks: tuple[Node, ...]
    """What reads the list behind the loop."""
    setting: Node
    ops: tuple[Node, ...]
    """From the last one to the first one."""
    passing: tuple[Node, ...]
    """Between and behind them, in the same order; they stay, and check what is now the last."""
    element: str
    """What the list holds from now on."""


def without_tails(body: Body, library: dict[str, Any]) -> Body:
    """The same values; functions of loops that lost something are new ones in `library`."""
    for name in [n.name for n in body.nodes.values() if n.op in LOOPS]:
        for index in range(len(body.nodes[name].input)):
            loop = body.nodes[name]
            function = read(library[loop.attr["body"].func.name], library)
            tail = _found(body, function, loop, index, library)
            if tail is not None:
                body = _moved(body, function, loop, index, tail, library)
    return body


def _found(
    body: Body, function: Body, loop: Node, index: int, library: Mapping[str, Any]
) -> _Tail | None:
    """The tail of one of the loop's lists, None for what is no list or has none."""
    reserve = body.nodes.get(producer(loop.input[index]))
    if reserve is None or reserve.op != _RESERVE:
        return None
    read_here = _reading(body, f"{reserve.name}:0")
    stacks = _reading(body, f"{loop.name}:{index}")
    own = read_here == [loop] and [canonical(i) for i in loop.input].count(f"{reserve.name}:0") == 1
    tensors = {t for _, t in body.results}
    gone = tensors & {f"{reserve.name}:0", f"{loop.name}:{index}"}
    if not own or gone or not stacks or any(of.op != _STACK for of in stacks):
        return None
    setting = function.nodes.get(producer(source(function, function.results[index][1])))
    counters = _counters(body, function, loop)
    if (
        setting is None
        or setting.op != _SET
        or [of.name for of, _ in readers(function, index)] != [setting.name]
        or source(function, canonical(setting.input[0])) != argument(function, index)
        or source(function, canonical(setting.input[1])) not in counters
        or not _is_full(loop, counters, function, reserve, library)
    ):
        return None
    rank = min((_rank(body, of) for of in stacks), default=0)
    return _chain(function, setting, tuple(stacks), rank)


def _reading(body: Body, tensor: str) -> list[Node]:
    return [n for n in body.nodes.values() if tensor in (canonical(i) for i in n.input)]


def _counters(body: Body, function: Body, loop: Node) -> dict[str, int]:
    """Arguments that are the number of the step → their places."""
    nodes = dict(body.nodes)
    zeros = [i for i, tensor in enumerate(loop.input) if _is_zero(constant(nodes, tensor))]
    return {argument(function, i): i for i in zeros if counts_up(function, i)}


def _is_zero(value: Any) -> bool:
    return value is not None and value.shape == () and value.dtype.kind == "i" and value == 0


def _is_full(
    loop: Node,
    counters: Mapping[str, int],
    function: Body,
    reserve: Node,
    library: Mapping[str, Any],
) -> bool:
    """Whether each element is written: the loop counts to the number of them, and to no other.

    What nobody wrote is zeros behind the loop, and a tail would make something else of them.
    """
    condition = read(library[loop.attr["cond"].func.name], library)
    every = range(len(condition.args))
    places = {argument(condition, i): i for i in every}
    fixed = [i for i in every if source(function, function.results[i][1]) == argument(function, i)]
    size = canonical(reserve.input[1])
    limits = {i for i in fixed if canonical(loop.input[i]) == size}
    asked = [n for n in condition.nodes.values() if n.op == "Less"]
    pairs = [[places.get(source(condition, canonical(i))) for i in n.input] for n in asked]
    plain = all(n.op in _COUNTING for n in condition.nodes.values())
    counted = all(a in counters.values() and b in limits for a, b in pairs)
    return plain and counted and bool(pairs) and condition.control == function.control == ()


def _rank(body: Body, stack: Node) -> int:
    """Of the elements; 0 where it is not known."""
    shape = constant(dict(body.nodes), stack.input[1])
    return len(shape) if shape is not None and shape.ndim == 1 else 0


def _chain(function: Body, setting: Node, stacks: tuple[Node, ...], rank: int) -> _Tail | None:
    """Back from what is written, to where an element has the fewest bytes."""
    nodes = dict(function.nodes)
    found: list[_Tail] = []
    ops: list[Node] = []
    passing: list[Node] = []
    best = _width(setting.attr["element_dtype"].type)
    tensor = canonical(setting.input[2])
    while (of := nodes.get(producer(tensor))) is not None:
        if of.op in _BY_ELEMENT:
            data = _operand(nodes, of, rank)
            if data is None:
                break
            ops.append(of)
        elif of.op in _PASSING:
            data = 0
            passing.append(of)
        else:
            break
        tensor = canonical(of.input[data])
        width = _width(_taken(of)) if of.op in _BY_ELEMENT else best + 1
        if width and width <= best:
            best = width
            found.append(
                _Tail(
                    stacks=stacks,
                    setting=setting,
                    ops=tuple(ops),
                    passing=tuple(passing),
                    element=tensor,
                )
            )
    return found[-1] if found else None


def _operand(nodes: dict[str, Node], of: Node, rank: int) -> int | None:
    """Which input the element is, where the others are constants that give it no new shape."""
    if len(of.input) == 1:
        return 0
    values = [constant(nodes, i) for i in of.input]
    data = [i for i, value in enumerate(values) if value is None]
    plain = all(v.ndim == 0 or (v.size == 1 and v.ndim < rank) for v in values if v is not None)
    return data[0] if len(data) == 1 and plain else None


def _taken(of: Node) -> int:
    """DataType number of the element that an op takes."""
    return int(of.attr["SrcT" if of.op == "Cast" else "T"].type)


def _width(number: int) -> int:
    """Bytes; 0 for what has none of its own."""
    dtype = tf.as_dtype(number)
    return int(dtype.size) if dtype.is_numpy_compatible and dtype != tf.string else 0


def _moved(
    body: Body, function: Body, loop: Node, index: int, tail: _Tail, library: dict[str, Any]
) -> Body:
    number = _taken(tail.ops[-1])
    nodes = dict(body.nodes)
    reserve = copied(nodes[producer(loop.input[index])])
    reserve.attr["element_dtype"].type = number
    made = copied(loop)
    name = fresh(f"{loop.attr['body'].func.name}_short", library)
    library[name] = write(name, _shortened(function, tail, number), library)
    made.attr["body"].func.name = name
    nodes |= {reserve.name: reserve, made.name: made}
    for stack in tail.stacks:
        _behind(nodes, function, stack, tail.ops, number)
    return pruned(dataclasses.replace(body, nodes=nodes))


def _shortened(function: Body, tail: _Tail, number: int) -> Body:
    """The loop's function without the tail."""
    nodes = dict(function.nodes)
    tensor = tail.element
    for of in reversed(tail.passing):
        if of.op == "EnsureShape":
            made = copied(of)
            made.name = fresh(f"{of.name}/short", nodes)
            made.input[0], made.attr["T"].type = tensor, number
            nodes[made.name] = made
            tensor = f"{made.name}:0"
    setting = copied(tail.setting)
    setting.input[2], setting.attr["element_dtype"].type = tensor, number
    nodes[setting.name] = setting
    return pruned(dataclasses.replace(function, nodes=nodes))


def _behind(
    nodes: dict[str, Node], function: Body, stack: Node, ops: Sequence[Node], number: int
) -> None:
    """The tail of all elements; the last op takes the stack's name."""
    taken = dict(function.nodes)
    short = copied(stack)
    short.name = fresh(f"{stack.name}/short", nodes)
    short.attr["element_dtype"].type = number
    nodes[short.name] = short
    tensor = f"{short.name}:0"
    for of in reversed(ops):
        made = copied(of)
        made.name = stack.name if of is ops[0] else fresh(f"{stack.name}/{of.op}", nodes)
        for i, given in enumerate(of.input):
            known = taken[producer(given)]
            while known.op == "Identity":
                known = taken[producer(known.input[0])]
            if known.op != "Const":
                made.input[i] = tensor
                continue
            value = copied(known)
            value.name = fresh(f"{stack.name}/{of.op}/known", nodes)
            nodes[value.name] = value
            made.input[i] = f"{value.name}:0"
        nodes[made.name] = made
        tensor = f"{made.name}:0"
