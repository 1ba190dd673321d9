"""A list of steps made once from nodes, and run many times."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Function, FunctionRef, Node, canonical, producer
from jaxrt.converters.host.inline import bound, inline
from jaxrt.converters.host.rules import OPS, Rule, Value, string_array
from jaxrt.errors import JaxrtError, UnsupportedOps

DEAD = object()
"""The value of a tensor on the side of a Switch that is not taken."""

CHECKS = frozenset({"Assert", "If", "Case", "While"})
"""Ops that run where only a control edge asks for them: they may stop a run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One op: slots of its inputs, slots of its results, numbers of the nodes before it."""

    run: Callable[..., Value]
    node: Node
    arguments: tuple[int, ...]
    results: tuple[int, ...]
    number: int
    controls: tuple[int, ...]


class Plan:
    """Nodes as steps over slots; constants are computed here, and only what is needed runs.

    `feeds` and `fetches` are tensors, `node:index`. `known` are values by node, in place of what
    the node would give (tables). `targets` are nodes that run for their effect. Raises
    UnsupportedOps that names every op without a rule.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        functions: Mapping[str, Function],
        feeds: Sequence[str],
        fetches: Sequence[str],
        known: Mapping[str, Value],
        targets: Sequence[str] = (),
    ) -> None:
        flat = inline(nodes, functions)
        self._functions = functions
        self._known = known
        self._slots: dict[str, int] = {}
        self._template: list[Value] = []
        self._constant: set[int] = set()
        self._numbers: dict[str, int] = {}
        self.feeds = tuple(self._slot(canonical(name)) for name in feeds)
        wanted = needed(flat, {canonical(f) for f in feeds}, fetches, known, targets)
        lacking = sorted({node.op for node in wanted if lacks(node, known)})
        if lacking:
            raise UnsupportedOps("native host ops", lacking)
        # A value of one side of a TF1 cond may be a constant that only a control edge ties to it.
        self._branches = any(node.op in ("Switch", "RefSwitch") for node in wanted)
        widths = _widths(wanted, fetches)
        self._steps: list[Step] = []
        for node in wanted:
            self._add(node, widths.get(node.name, 0))
        self.fetches = tuple(self._slots[canonical(name)] for name in fetches)

    def __call__(self, *arguments: Value) -> tuple[Value, ...]:
        """Values of the feeds, in order → values of the fetches, in order."""
        with np.errstate(all="ignore"):  # C++ does not warn
            return self._run(arguments)

    def _run(self, arguments: tuple[Value, ...]) -> tuple[Value, ...]:
        values = self._template.copy()
        for slot, value in zip(self.feeds, arguments, strict=True):
            values[slot] = value
        if self._branches:
            self._run_branches(values)
        else:
            for step in self._steps:
                result = step.run(step.node, *[values[a] for a in step.arguments])
                _store(values, step.results, result)
        return tuple(values[slot] for slot in self.fetches)

    def _run_branches(self, values: list[Value]) -> None:
        dead: set[int] = set()
        for step in self._steps:
            inputs = [values[a] for a in step.arguments]
            lost = [value is DEAD for value in inputs]
            merges = step.node.op in ("Merge", "RefMerge")
            if all(lost) if merges else any(lost) or not dead.isdisjoint(step.controls):
                dead.add(step.number)
                for slot in step.results:
                    values[slot] = DEAD
            else:
                _store(values, step.results, step.run(step.node, *inputs))

    def _slot(self, tensor: str) -> int:
        if tensor not in self._slots:
            self._slots[tensor] = len(self._template)
            self._template.append(None)
        return self._slots[tensor]

    def _add(self, node: Node, width: int) -> None:
        results = tuple(self._slot(f"{node.name}:{i}") for i in range(width))
        fixed = [slot for slot in results if slot not in self.feeds]
        if node.name in self._known:
            for slot in fixed:
                self._template[slot] = self._known[node.name]
                self._constant.add(slot)
            return
        rule = OPS[node.op]
        prepared = self._prepared(node, rule)
        step = Step(
            rule.run,
            prepared,
            tuple(self._slots[tensor] for tensor in node.inputs),
            results,
            len(self._numbers),
            tuple(self._numbers[name] for name in node.controls if name in self._numbers)
            if self._branches
            else (),
        )
        self._numbers[node.name] = step.number
        foldable = rule.pure and self._constant.issuperset(step.arguments)
        if not (foldable and len(fixed) == len(results) and self._fold(step)):
            self._steps.append(step)

    def _prepared(self, node: Node, rule: Rule) -> Node:
        """With the defaults of absent attributes, and functions as plans of their own."""
        attrs = {**rule.defaults, **node.attrs}
        for name, value in attrs.items():
            if isinstance(value, FunctionRef):
                attrs[name] = self._compiled(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], FunctionRef):
                attrs[name] = tuple(self._compiled(reference) for reference in value)
        return dataclasses.replace(node, attrs=attrs)

    def _compiled(self, reference: FunctionRef) -> "Plan":
        function = bound(reference, self._functions)
        return function_plan(function, self._functions, self._known)

    def _fold(self, step: Step) -> bool:
        """Whether the step's results are constants; one that fails does so in each run."""
        if step.node.op in CHECKS or step.controls:
            return False
        try:
            with np.errstate(all="ignore"):
                result = step.run(step.node, *[self._template[a] for a in step.arguments])
        except JaxrtError:
            return False
        _store(self._template, step.results, result)
        self._constant.update(step.results)
        return True


def function_plan(
    function: Function, functions: Mapping[str, Function], known: Mapping[str, Value]
) -> Plan:
    """The plan of a body: its arguments are the feeds, its checks run too."""
    nodes, feeds, fetches = _body(function)
    return Plan(nodes, functions, feeds, fetches, known, [nodes[-1].name])


def function_nodes(
    function: Function, functions: Mapping[str, Function], known: Mapping[str, Value]
) -> list[Node]:
    """The nodes that a body runs, calls inlined."""
    nodes, feeds, fetches = _body(function)
    return needed(inline(nodes, functions), set(feeds), fetches, known, [nodes[-1].name])


def _body(function: Function) -> tuple[tuple[Node, ...], list[str], list[str]]:
    end = Node("<results>", "IdentityN", function.outputs, {}, function.controls)
    fetches = [f"{end.name}:{i}" for i in range(len(function.outputs))]
    return (*function.nodes, end), [f"{name}:0" for name in function.inputs], fetches


def lacks(node: Node, known: Mapping[str, Value]) -> bool:
    if node.name in known:
        return False
    rule = OPS.get(node.op)
    return rule is None or (rule.covers is not None and not rule.covers(node))


def needed(
    nodes: Sequence[Node],
    fed: set[str],
    fetches: Sequence[str],
    known: Mapping[str, Value],
    targets: Sequence[str] = (),
) -> list[Node]:
    """What the fetches depend on, in an order to run in, checks of control edges included."""
    by_name = {node.name: node for node in nodes}
    branches = any(node.op in ("Switch", "RefSwitch") for node in nodes)
    wanted: set[str] = set()
    seen: set[str] = set()
    stack = [(producer(t), True) for t in fetches if canonical(t) not in fed]
    stack += [(name, True) for name in targets]
    while stack:
        name, data = stack.pop()
        node = by_name.get(name)
        if node is None:
            raise ValueError(f"the graph has no node {name!r}")
        keep = data or branches or node.op in CHECKS
        if name in wanted or (name in seen and not keep):
            continue
        seen.add(name)
        if keep:
            wanted.add(name)
        if name not in known:
            stack += [(producer(t), keep) for t in node.inputs if t not in fed]
            stack += [(control, False) for control in node.controls if f"{control}:0" not in fed]
    return _ordered([by_name[name] for name in by_name if name in wanted], fed)


def _ordered(nodes: Sequence[Node], fed: set[str]) -> list[Node]:
    """Inlining puts bodies where their calls stood, so the order of the records still holds."""
    done: set[str] = set()
    for node in nodes:
        lost = [t for t in node.inputs if t not in fed and producer(t) not in done]
        if lost:
            raise UnsupportedOps("native host ops", [f"a loop through {lost[0]!r}"])
        done.add(node.name)
    return list(nodes)


def _widths(nodes: Iterable[Node], fetches: Sequence[str]) -> dict[str, int]:
    """Node → results of it that are read, up to the last one."""
    found: dict[str, int] = {}
    read = [t for node in nodes for t in node.inputs] + [canonical(t) for t in fetches]
    for tensor in read:
        name, _, index = tensor.rpartition(":")
        found[name] = max(found.get(name, 0), int(index) + 1)
    return found


def _store(values: list[Value], slots: tuple[int, ...], result: Value) -> None:
    results = result if isinstance(result, tuple) else (result,)
    for slot, value in zip(slots, results, strict=False):  # the last ones may be read by nobody
        values[slot] = value if type(value) is np.ndarray else _array(value)


def _array(value: Any) -> Value:
    """numpy gives scalars where it would give arrays of rank 0."""
    if isinstance(value, bytes):
        return string_array([value], ())
    return np.asarray(value) if isinstance(value, np.generic) else value
