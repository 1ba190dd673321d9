"""TF1's while frames (Enter, Merge, Switch, NextIteration, Exit) as functional While ops."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrt.converters.bodies import (
    Body,
    Uncuttable,
    copied,
    dtype,
    fresh,
    node,
    pruned,
    write,
)
from jaxrt.converters.subgraph import Node, canonical, producer

_PLUMBING = {"Enter", "Merge", "Switch", "NextIteration", "LoopCond", "Exit"}
_FRAME = "frame_name"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Variable:
    """A tensor that a loop carries from one iteration to the next."""

    enter: Node
    merge: Node
    following: Node
    """NextIteration."""
    switch: Node | None
    """None when the body never reads it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    name: str
    variables: tuple[_Variable, ...]
    invariants: tuple[Node, ...]
    """Enters of what the body reads and no iteration changes."""
    condition: str
    """The tensor behind LoopCond."""
    nodes: frozenset[str]
    exits: Mapping[str, int]
    """Exit → number of the variable."""

    @property
    def plumbing(self) -> set[str]:
        """Nodes that are gone once the loop is a While."""
        parts = [(v.enter, v.merge, v.following, v.switch) for v in self.variables]
        return {n.name for part in parts for n in part if n is not None} | {
            e.name for e in self.invariants
        }


def functional_loops(
    body: Body, library: dict[str, Any], within: Callable[[Body, dict[str, Any]], Body]
) -> Body:
    """`within` makes what is inside of a loop functional once the loops are."""
    nodes = {name: copied(n) for name, n in body.nodes.items()}
    results = dict(body.results)
    while depths := _depths(nodes):
        name = max(depths, key=lambda n: (depths[n][0], n))  # the innermost first
        frame = _frame(name, depths[name][1], nodes)
        made = _while(frame, body, nodes, library, within)
        renamed = {f"{exit_name}:0": f"{made.name}:{i}" for exit_name, i in frame.exits.items()}
        for gone in (*frame.nodes, *frame.exits):
            del nodes[gone]
        nodes[made.name] = made
        redirect(nodes.values(), renamed)
        results = {n: renamed.get(t, t) for n, t in results.items()}
    return pruned(dataclasses.replace(body, nodes=nodes, results=tuple(results.items())))


def redirect(nodes: Iterable[Node], renamed: Mapping[str, str]) -> None:
    """Reads from other tensors, in place; a control edge follows its node's first tensor."""
    moved = {producer(old): producer(new) for old, new in renamed.items()}
    for n in nodes:
        for index, name in enumerate(n.input):
            if name.startswith("^"):
                n.input[index] = f"^{moved.get(name[1:], name[1:])}"
            else:
                n.input[index] = renamed.get(canonical(name), name)


def _depths(nodes: Mapping[str, Node]) -> dict[str, tuple[int, frozenset[str]]]:
    """Frame → its depth from 1 and the nodes directly in it."""
    frames = _frames(nodes)
    found: dict[str, tuple[int, frozenset[str]]] = {}
    for path in set(frames.values()):
        if path:
            inside = frozenset(n for n, p in frames.items() if p == path)
            if path[-1] in found:
                raise Uncuttable(f"The while frame {path[-1]} is entered from two places.")
            found[path[-1]] = (len(path), inside)
    return found


def _frames(nodes: Mapping[str, Node]) -> dict[str, tuple[str, ...]]:
    """Node → the frames that it is in, outermost first."""
    found: dict[str, tuple[str, ...]] = {}
    stack = [(name, False) for name in nodes]
    entered: set[str] = set()
    while stack:
        name, done = stack.pop()
        if name in found or (name in entered and not done):
            continue
        entered.add(name)
        # Around a loop's back edge the frame is known from its Enter.
        inputs = [producer(i) for i in nodes[name].input if producer(i) in nodes]
        if nodes[name].op == "Merge":
            inputs = [i for i in inputs if nodes[i].op != "NextIteration"]
        if not done:
            stack.append((name, True))
            stack += [(i, False) for i in inputs if i not in found]
            continue
        paths = [found[i] for i in inputs if i in found]
        path = max(paths, key=len, default=())
        match nodes[name].op:
            case "Enter":
                path = (*path, nodes[name].attr[_FRAME].s.decode())
            case "Exit":
                path = path[:-1]
        found[name] = path
    return found


def _frame(name: str, inside: frozenset[str], nodes: Mapping[str, Node]) -> _Frame:
    readers: dict[str, list[Node]] = {}
    for n in nodes.values():
        for i in n.input:
            readers.setdefault(producer(i), []).append(n)

    def read_by(of: Node, op: str) -> list[Node]:
        return [r for r in readers.get(of.name, []) if r.op == op]

    conditions = [n for n in nodes.values() if n.op == "LoopCond" and n.name in inside]
    if len(conditions) != 1:
        raise Uncuttable(f"The while frame {name} has {len(conditions)} conditions, want one.")
    variables, invariants = [], []
    for enter in (n for n in nodes.values() if n.op == "Enter" and n.name in inside):
        merges = read_by(enter, "Merge")
        if not merges:
            invariants.append(enter)
            continue
        (merge,) = merges
        following = nodes[producer(merge.input[1])]
        if following.op != "NextIteration":
            raise Uncuttable(f"The while frame {name} has no next iteration at {merge.name}.")
        switches = [s for s in read_by(merge, "Switch") if producer(s.input[0]) == merge.name]
        switch = switches[0] if switches else None
        variables.append(_Variable(enter=enter, merge=merge, following=following, switch=switch))
    by_switch = {v.switch.name: i for i, v in enumerate(variables) if v.switch is not None}
    return _Frame(
        name=name,
        variables=tuple(variables),
        invariants=tuple(invariants),
        condition=canonical(conditions[0].input[0]),
        nodes=inside,
        exits={
            n.name: by_switch[producer(n.input[0])]
            for n in nodes.values()
            if n.op == "Exit" and producer(n.input[0]) in by_switch
        },
    )


def _while(
    frame: _Frame,
    body: Body,
    nodes: Mapping[str, Node],
    library: dict[str, Any],
    within: Callable[[Body, dict[str, Any]], Body],
) -> Node:
    carried = [v.enter for v in frame.variables] + list(frame.invariants)
    fed = [canonical(e.input[0]) for e in carried]
    args = tuple((f"a{i}", _dtype(body, nodes, t, library)) for i, t in enumerate(fed))
    known = {f"{e.name}:0": f"a{i}:0" for i, e in enumerate(carried)}
    for i, v in enumerate(frame.variables):
        known[f"{v.merge.name}:0"] = f"a{i}:0"
        if v.switch is not None:
            known[f"{v.switch.name}:1"] = f"a{i}:0"
    following = [canonical(v.following.input[0]) for v in frame.variables]
    passed = [f"a{i}:0" for i in range(len(frame.variables), len(carried))]
    calls = {
        "cond": _inner(frame, nodes, known, args, [frame.condition]),
        "body": _inner(frame, nodes, known, args, following, passed),
    }
    names = {}
    for kind, inner in calls.items():
        names[kind] = fresh(f"{frame.name}/{kind}".replace("/", "_"), library)
        library[names[kind]] = write(names[kind], within(inner, library), library)
    return node(
        fresh(f"{frame.name}/functional", nodes),
        "While",
        fed,
        T=("types", [number for _, number in args]),
        cond=("func", names["cond"]),
        body=("func", names["body"]),
        output_shapes=("shapes", ()),
        parallel_iterations=10,
    )


def _dtype(body: Body, nodes: Mapping[str, Node], tensor: str, library: Mapping[str, Any]) -> int:
    args = dict(body.args)
    return args.get(producer(tensor)) or dtype(nodes, tensor, library)


def _inner(
    frame: _Frame,
    nodes: Mapping[str, Node],
    known: Mapping[str, str],
    args: tuple[tuple[str, int], ...],
    wanted: list[str],
    passed: Iterable[str] = (),
) -> Body:
    """What `wanted` tensors need inside of the frame."""
    found: dict[str, Node] = {}
    stack = [producer(t) for t in wanted if t not in known]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        original = nodes[name]
        if name not in frame.nodes and original.op != "Const":
            raise Uncuttable(f"The while frame {frame.name} reads {name} from outside.")
        if original.op in _PLUMBING - {"Switch", "Merge"}:
            raise Uncuttable(f"The while frame {frame.name} is irregular at {name}.")
        made = found[name] = copied(original)
        kept = []
        for i in original.input:
            if not i.startswith("^"):
                kept.append(known.get(canonical(i), canonical(i)))
            elif producer(i) in frame.nodes and producer(i) not in frame.plumbing:
                kept.append(i)
        del made.input[:]
        made.input.extend(kept)
        arguments = {a for a, _ in args}
        stack += [producer(i) for i in kept if producer(i) not in arguments]
    results = [known.get(t, t) for t in wanted] + list(passed)
    return pruned(
        Body(args=args, nodes=found, results=tuple((f"r{i}", t) for i, t in enumerate(results)))
    )
