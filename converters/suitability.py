"""Which signatures XLA cannot take, said before TensorFlow's bridge is asked and dies of it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

from jaxrt.converters import kernels, observed
from jaxrt.converters.opnames import (
    CHANGES,
    CONTROL_FLOW,
    FILLS,
    HOST,
    PLUMBING,
    SEEDED,
    SIZED_BY_DATA,
    VARIABLES,
)
from jaxrt.converters.records import Kind, Refused
from jaxrt.converters.subgraph import Node, Subgraph, callees, canonical, producer

_PASS = {"Identity", "Enter", "Switch", "Exit", "Merge", "NextIteration"}
_SET = "TensorListSetItem"
_BRANCHING = {"If", "StatelessIf", "Case", "StatelessCase"}
"""Calls whose first input is the predicate, not an argument."""


def refusals(parts: Mapping[str, Subgraph], meta_graph: Any) -> dict[str, Refused]:
    """Signature → why it cannot be lowered at any shape; the others are absent."""
    states = _states(parts)
    found = {}
    for key, part in sorted(parts.items()):
        signature = meta_graph.signature_def[key]
        refused = _host(key, part, signature) or _state(key, part, states)
        refused = refused or _unseen(key, part) or _control_flow(key, part)
        refused = refused or _growing(key, part) or _kernels(key, part) or _sizes(key, part)
        refused = refused or _seeded(key, part)
        if refused:
            found[key] = refused
    return found


def state(parts: Mapping[str, Subgraph], meta_graph: Any, key: str) -> Refused | None:
    """Why a signature cannot be cut: it changes variables or tables, or reads changed ones."""
    found = _state(key, parts[key], _states(parts))
    if found is not None:
        return found
    filling = sorted({n.op for n in parts[key].walk() if FILLS.match(n.op)})
    others = any(FILLS.match(n.op) for part in parts.values() for n in part.walk())
    mutable = sorted({n.op for n in parts[key].walk() if n.op.startswith("Mutable")})
    if filling or (others and mutable):
        ops = tuple(filling or mutable)
        reason = f"It changes tables, or reads changed ones: {_listed(ops)}."
        return Refused(signature=key, kind=Kind.STATE, reason=reason, ops=ops)
    return None


def _host(key: str, part: Subgraph, signature: Any) -> Refused | None:
    ops = sorted(
        _host_ops(part.nodes.values(), _graph_uses(part))
        | {
            op
            for name, body in part.bodies.items()
            for op in _host_ops(body, _body_uses(part.functions[name], body))
        }
    )
    infos = [*signature.inputs.items(), *signature.outputs.items()]
    carried = (types_pb2.DT_STRING, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
    for alias, info in sorted(infos, key=lambda item: item[0]):
        if info.dtype in carried:
            dtype = types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower()
            reason = f"{alias!r} is a {dtype} tensor, and no device carries those."
            return Refused(signature=key, kind=Kind.HOST, reason=reason, ops=_blamed(ops))
    if not ops:
        return None
    reason = f"No device runs {_listed(_blamed(ops))}."
    return Refused(signature=key, kind=Kind.HOST, reason=reason, ops=_blamed(ops))


def _blamed(ops: Sequence[str]) -> tuple[str, ...]:
    return tuple(op for op in ops if op not in PLUMBING) or tuple(ops)


def _host_ops(nodes: Iterable[Node], uses: Mapping[str, set[str]]) -> set[str]:
    return {
        node.op
        for node in nodes
        if HOST.match(node.op) or (_has_strings(node) and not _is_message(node, uses))
    }


def _is_message(node: Node, uses: Mapping[str, set[str]]) -> bool:
    """Whether the node is an Assert or a text that only Asserts read: XLA skips both."""
    return node.op == "Assert" or (
        node.op == "Const" and bool(uses.get(node.name)) and uses[node.name] == {"Assert"}
    )


def _graph_uses(part: Subgraph) -> dict[str, set[str]]:
    uses = _uses(part.nodes.values())
    for fetch in part.fetches:
        uses.setdefault(producer(fetch), set()).add("")
    return uses


def _body_uses(function: Any, body: Iterable[Node]) -> dict[str, set[str]]:
    uses = _uses(body)
    for tensor in function.ret.values():
        uses.setdefault(producer(tensor), set()).add("")
    return uses


def _uses(nodes: Iterable[Node]) -> dict[str, set[str]]:
    """Node → ops that read its tensors."""
    uses: dict[str, set[str]] = {}
    for node in nodes:
        for name in node.input:
            if not name.startswith("^"):
                uses.setdefault(producer(name), set()).add(node.op)
    return uses


def _has_strings(node: Node) -> bool:
    definition = op_def_registry.get(node.op)
    if definition is None:  # a function called by its name: its body is looked at
        return False
    arguments = [*definition.input_arg, *definition.output_arg]
    return any(types_pb2.DT_STRING in _dtypes(node, argument) for argument in arguments)


def _dtypes(node: Node, argument: Any) -> Sequence[int]:
    if argument.type_attr:
        return [node.attr[argument.type_attr].type]
    if argument.type_list_attr:
        listed: Sequence[int] = node.attr[argument.type_list_attr].list.type
        return listed
    return [argument.type]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _States:
    """By signature: the names of the variables that it changes, and that its answers show."""

    changed: Mapping[str, set[str]]
    seen: Mapping[str, set[str]]


def _states(parts: Mapping[str, Subgraph]) -> _States:
    return _States(
        changed={key: _changed(part) for key, part in parts.items()},
        seen={key: observed.variables(part) for key, part in parts.items()},
    )


def _state(key: str, part: Subgraph, states: _States) -> Refused | None:
    ops = _changing(part)
    changed = states.changed[key]
    if ops and (not changed or observed.has_visible_change(part) or changed & _any_of(states.seen)):
        names = f" ({_listed(sorted(changed))})" if changed else ""
        reason = f"It changes state{names}: {_listed(ops)}."
        return Refused(signature=key, kind=Kind.STATE, reason=reason, ops=ops)
    read = sorted(states.seen[key] & _any_of(states.changed))
    if read:
        reason = f"It reads state that another signature changes: {_listed(read)}."
        return Refused(signature=key, kind=Kind.STATE, reason=reason)
    return None


def _unseen(key: str, part: Subgraph) -> Refused | None:
    """XLA would hand changed variables back. A cut leaves out changes that no answer shows."""
    ops = _changing(part)
    if not ops:
        return None
    reason = f"It changes state that no answer shows: {_listed(ops)}."
    return Refused(signature=key, kind=Kind.STATE, reason=reason, ops=ops)


def _changing(part: Subgraph) -> tuple[str, ...]:
    return tuple(sorted({node.op for node in part.walk() if CHANGES.match(node.op)}))


def _any_of(found: Mapping[str, set[str]]) -> set[str]:
    return {name for names in found.values() for name in names}


def _kernels(key: str, part: Subgraph) -> Refused | None:
    ops = tuple(sorted(kernels.missing(part.walk(), part.functions)))
    if not ops:
        return None
    reason = f"TensorFlow's XLA bridge has no kernel for {_listed(ops)}."
    return Refused(signature=key, kind=Kind.BRIDGE, reason=reason, ops=ops)


def _sizes(key: str, part: Subgraph) -> Refused | None:
    ops = tuple(sorted({node.op for node in part.walk()} & SIZED_BY_DATA))
    if not ops:
        return None
    reason = f"Data decide on the shape of what it computes: {_listed(ops)}."
    return Refused(signature=key, kind=Kind.SHAPE, reason=reason, ops=ops)


def _control_flow(key: str, part: Subgraph) -> Refused | None:
    ops = sorted({node.op for node in part.walk()} & CONTROL_FLOW)
    if not ops:
        return None
    reason = f"TF1 control flow depends on inputs: {_listed(ops)}."
    return Refused(signature=key, kind=Kind.CONTROL_FLOW, reason=reason, ops=tuple(ops))


def _seeded(key: str, part: Subgraph) -> Refused | None:
    ops = tuple(sorted({node.op for node in part.walk() if SEEDED.match(node.op)}))
    if not ops:
        return None
    reason = f"XLA would draw other numbers from the same seed: {_listed(ops)}."
    return Refused(signature=key, kind=Kind.HOST, reason=reason, ops=ops)


def _growing(key: str, part: Subgraph) -> Refused | None:
    """A TensorArray with `dynamic_size`: XLA keeps the first size, and cuts what is beyond."""
    grows = (n.attr["resize_if_index_out_of_bounds"].b for n in part.walk() if n.op == _SET)
    if any(grows):
        reason = "A TensorArray grows while it runs, and XLA would keep its first size."
        return Refused(signature=key, kind=Kind.SHAPE, reason=reason, ops=(_SET,))
    return None


def _changed(part: Subgraph) -> set[str]:
    """Names of the variable nodes that the signature writes to."""
    writes: dict[str, set[int]] = {}
    growing = True
    while growing:  # functions may call one another: until nothing new is found
        before = sum(map(len, writes.values()))
        for name, function in part.functions.items():
            arguments = [a.name for a in function.signature.input_arg]
            sources = _written(part.bodies[name], writes)
            found = {i for i, argument in enumerate(arguments) if argument in sources}
            writes[name] = writes.get(name, set()) | found
        growing = sum(map(len, writes.values())) > before
    found_names = _written(part.nodes.values(), writes)
    return {n for n in found_names if n in part.nodes and part.nodes[n].op in VARIABLES}


def _written(nodes: Iterable[Node], writes: Mapping[str, set[int]]) -> set[str]:
    """Names of nodes or arguments whose variable some node writes to."""
    by_name = {node.name: node for node in nodes}
    targets: list[str] = []
    for node in by_name.values():
        data = [producer(canonical(i)) for i in node.input if not i.startswith("^")]
        if CHANGES.match(node.op):
            targets += data[:1]
        arguments = data[1:] if node.op in _BRANCHING else data
        for name in callees(node):
            targets += [arguments[i] for i in writes.get(name, set()) if i < len(arguments)]
    found: set[str] = set()
    while targets:
        name = targets.pop()
        if name in found:
            continue
        found.add(name)
        source = by_name.get(name)
        if source is not None and source.op in _PASS:
            targets += [producer(i) for i in source.input if not i.startswith("^")]
    return found


def _listed(names: Sequence[str]) -> str:
    """At most six names, and how many more there are."""
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
