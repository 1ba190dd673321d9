"""Loops whose lists grow: decoders that write a token a step until every row has had its last.

Such a loop gives as many elements as data decide, so no device takes it. What decides is known,
though: numbers that all rows share, and questions that are asked of all rows at once.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from jaxrt.converters.bodies import Body, input_dtypes, outputs, read
from jaxrt.converters.flat import STRING, VARIANT, Flat, deep_nodes
from jaxrt.converters.maps import argument, counts_up, readers, source
from jaxrt.converters.opnames import DRAWS, HOST, SEEDED, SIZED_BY_DATA
from jaxrt.converters.placement import HANDLES, Sizes
from jaxrt.converters.shapes_tf import Inferred, Shape, infer_body
from jaxrt.converters.simplify import constant
from jaxrt.converters.subgraph import Node, canonical, producer

LOOPS = ("While", "StatelessWhile")
_WIDEST = 1 << 14
"""Bytes a row and a step of what is kept of each step: more would cost more than it saves."""
_SET, _GROWS = "TensorListSetItem", "resize_if_index_out_of_bounds"
_MEASURING = ("Shape", "ShapeN", "Size", "Rank")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is kept of each step: a tensor of the loop's functions."""

    tensor: str
    dtype: int
    shape: tuple[int | None, ...]
    """None for rows, which come first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of all rows before a step: `All` or `Any` of a tensor of the condition."""

    of: Kept
    op: str
    ends: bool
    """The answer that ends the loop."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Growing:
    """A loop that a device can run step by step for each row on its own. Numbers are those of the
    loop's arguments."""

    loop: Node
    condition: Body
    body: Body
    counter: int
    """The number of the step, from 0; what the lists are written at."""
    counters: frozenset[int]
    """All that are as large."""
    fixed: frozenset[int]
    """What no step changes."""
    lists: Mapping[int, Kept]
    """What each step writes."""
    states: Mapping[int, Kept]
    """The rest."""
    shared: tuple[str, ...]
    """Conditions that no row decides: all must hold."""
    questions: tuple[Question, ...]
    read: frozenset[int]
    """States that somebody reads behind the loop."""


def has_rows(kept: Kept) -> bool:
    return kept.shape[:1] == (None,)


def growing(loop: Node, flat: Flat, sizes: Sizes) -> Growing | None:
    """What the loop is, if it is one of these."""
    if loop.op not in LOOPS or loop.name in flat.body.control:
        return None
    inner = [s.inner.get(loop.name) for s in (sizes.first, sizes.second)]
    body = read(flat.library[loop.attr["body"].func.name], flat.library)
    condition = read(flat.library[loop.attr["cond"].func.name], flat.library)
    if inner[0] is None or inner[1] is None or _acts(body) or _acts(condition):
        return None
    return _Reader(loop, flat, _sizes(sizes, inner[0], inner[1]), body, condition).found()


def _acts(body: Body) -> bool:
    """Whether it does something beside computing its results, such as checking."""
    definitions = [op_def_registry.get(body.nodes[name].op) for name in body.control]
    return any(found is None or found.is_stateful for found in definitions)


def _sizes(sizes: Sizes, first: Inferred, second: Inferred) -> Sizes:
    return Sizes(rows=sizes.rows, first=first, second=second, filled=first)


class _Reader:
    """Takes one loop apart."""

    def __init__(self, loop: Node, flat: Flat, inner: Sizes, body: Body, condition: Body) -> None:
        self._loop, self._flat, self._inner = loop, flat, inner
        self._body, self._condition = body, condition

    def found(self) -> Growing | None:
        body, every = self._body, range(len(self._body.args))
        nodes = dict(self._flat.body.nodes)
        fixed = {i for i in every if source(body, body.results[i][1]) == argument(body, i)}
        counters = {i for i in every if _is_zero(nodes, self._loop.input[i])}
        counters = {i for i in counters if counts_up(body, i)}
        written = {i: self._written(i, counters) for i in every if body.args[i][1] == VARIANT}
        at = {place for of, place in written.values() if of is not None}
        lists = {i: of for i, (of, _) in written.items() if of is not None}
        if not lists or len(lists) < len(written) or len(at) != 1 or not self._is_plain(len(lists)):
            return None
        rest = set(every) - fixed - counters - lists.keys()
        states = {i: self._kept(self._inner, body, argument(body, i)) for i in rest}
        known = {i: of for i, of in states.items() if of is not None}
        rowful = {i for i, of in known.items() if has_rows(of)} | self._rowful(fixed)
        asked = self._asked(rowful, lists.values())
        if len(known) < len(states) or asked is None:
            return None
        shared, questions = asked
        made = Growing(
            loop=self._loop,
            condition=self._condition,
            body=body,
            counter=at.pop(),
            counters=frozenset(counters),
            fixed=frozenset(fixed),
            lists=lists,
            states=known,
            shared=shared,
            questions=questions,
            read=frozenset(known) & self._read(),
        )
        return made if _width(made) <= _WIDEST else None

    def _rowful(self, fixed: Collection[int]) -> set[int]:
        """What has rows, or may have them."""
        shapes = {i: self._inner.crossing(argument(self._body, i)) for i in fixed}
        return {i for i, shape in shapes.items() if shape is None or shape[:1] == (None,)}

    def _read(self) -> set[int]:
        tensors = {canonical(i) for of in self._flat.body.nodes.values() for i in of.input}
        tensors |= {t for _, t in self._flat.body.results}
        every = range(len(self._body.args))
        return {i for i in every if f"{self._loop.name}:{i}" in tensors}

    def _is_plain(self, lists: int) -> bool:
        """Whether all that happens inside can happen on a device, more often than asked for."""
        inside = deep_nodes(self._loop, self._flat.library)[1:]
        named = any(p.match(n.op) for n in inside for p in (HOST, SEEDED, DRAWS))
        text = any(STRING in self._dtypes(n) for n in inside)
        grown = sum(n.op == _SET and n.attr[_GROWS].b for n in inside)
        return not (named or text or any(n.op in SIZED_BY_DATA for n in inside)) and grown == lists

    def _dtypes(self, of: Node) -> list[int]:
        library = self._flat.library
        return [*input_dtypes(of, library), *(number for _, number in outputs(of, library))]

    def _kept(self, sizes: Sizes, body: Body, tensor: str) -> Kept | None:
        shape, number = sizes.crossing(tensor), body.dtype(tensor, self._flat.library)
        if shape is None or number in HANDLES:
            return None
        return Kept(tensor=tensor, dtype=number, shape=shape)

    def _written(self, index: int, counters: Collection[int]) -> tuple[Kept | None, int]:
        """What each step adds to a list that starts empty and that nobody reads, and the counter
        it is added at."""
        body, nodes = self._body, self._flat.body.nodes
        made = nodes.get(producer(self._loop.input[index]))
        if made is None or made.op != "TensorListReserve" or readers(self._condition, index):
            return None, -1
        if not _is_zero(dict(nodes), made.input[1]):
            return None, -1
        found = readers(body, index)
        if len(found) != 1 or found[0][1] != 0 or found[0][0].op != _SET:
            return None, -1
        of = found[0][0]
        place = source(body, canonical(of.input[1]))
        at = [i for i in counters if argument(body, i) == place]
        if source(body, body.results[index][1]) != f"{of.name}:0" or not at:
            return None, -1
        others = [i for n in body.nodes.values() if n.op != "Identity" for i in n.input]
        if any(source(body, canonical(i)) == f"{of.name}:0" for i in others):
            return None, -1
        return self._kept(self._inner, body, canonical(of.input[2])), at[0]

    def _asked(
        self, rowful: Collection[int], lists: Collection[Kept]
    ) -> tuple[tuple[str, ...], tuple[Question, ...]] | None:
        """The condition taken apart; None where rows decide in another way."""
        first, second = (
            infer_body(self._condition, self._arguments(s), self._flat.library)
            for s in (self._inner.first, self._inner.second)
        )
        sizes = _sizes(self._inner, first, second)
        rows = {argument(self._condition, i) for i in rowful}
        shared, questions = [], []
        for tensor in _conjuncts(self._condition, self._condition.results[0][1]):
            if not _reads(self._condition, tensor, rows):
                shared.append(tensor)
                continue
            question = self._question(sizes, tensor)
            if question is None:
                return None
            questions.append(question)
        if self._mixes(rowful, lists):
            return None
        return tuple(shared), tuple(questions)

    def _arguments(self, body: Inferred) -> dict[str, Shape]:
        """The shapes of the condition's arguments, which are those of the body's."""
        pairs = zip(self._condition.args, self._body.args, strict=True)
        return {a: body.shapes[f"{b}:0"] for (a, _), (b, _) in pairs}

    def _question(self, sizes: Sizes, tensor: str) -> Question | None:
        ends = False
        of = self._condition.nodes.get(producer(source(self._condition, tensor)))
        while of is not None and of.op == "LogicalNot":
            ends = not ends
            of = self._condition.nodes.get(
                producer(source(self._condition, canonical(of.input[0])))
            )
        if of is None or of.op not in ("All", "Any"):
            return None
        kept = self._kept(sizes, self._condition, canonical(of.input[0]))
        if kept is None or not self._is_whole(of, len(kept.shape)):
            return None
        return Question(of=kept, op=of.op, ends=ends)

    def _is_whole(self, of: Node, rank: int) -> bool:
        """Whether a reduction is over all dimensions."""
        nodes = dict(self._condition.nodes)
        axes = constant(nodes, of.input[1])
        if axes is not None:
            return sorted(int(a) % rank for a in axes.ravel()) == list(range(rank))
        span = nodes.get(producer(source(self._condition, canonical(of.input[1]))))
        if span is None or span.op != "Range":
            return False
        counted = nodes.get(producer(span.input[1]))
        all_of = counted is not None and counted.op == "Rank"
        same = counted is not None and canonical(counted.input[0]) == canonical(of.input[0])
        bounds = [constant(nodes, span.input[i]) for i in (0, 2)]
        return all_of and same and bounds == [0, 1]

    def _mixes(self, rowful: Collection[int], lists: Collection[Kept]) -> bool:
        """Whether rows decide on what has none."""
        body = self._body
        rows = {argument(body, i) for i in rowful}
        alone = set(range(len(body.args))) - set(rowful)
        results = [body.results[i][1] for i in alone if body.args[i][1] not in HANDLES]
        results += [of.tensor for of in lists if not has_rows(of)]
        return any(_reads(body, tensor, rows) for tensor in results)


def _is_zero(nodes: dict[str, Node], tensor: str) -> bool:
    value = constant(nodes, tensor)
    return value is not None and value.shape == () and value.dtype.kind == "i" and value == 0


def _conjuncts(body: Body, tensor: str) -> Iterable[str]:
    """What must hold, all of it, for a tensor to hold."""
    tensor = source(body, tensor)
    of = body.nodes.get(producer(tensor))
    if of is None or of.op != "LogicalAnd":
        yield tensor
        return
    for side in of.input[:2]:
        yield from _conjuncts(body, canonical(side))


def _reads(body: Body, tensor: str, sources: Collection[str]) -> bool:
    """Whether the tensor is computed from one of the sources, not from their shapes alone."""
    stack, seen = [tensor], {tensor}
    while stack:
        found = stack.pop()
        if found in sources:
            return True
        of = body.nodes.get(producer(found))
        if of is not None and of.op not in _MEASURING:
            following = {canonical(i) for i in of.input if not i.startswith("^")} - seen
            seen |= following
            stack += following
    return False


def _width(made: Growing) -> int:
    kept = [*made.lists.values(), *(q.of for q in made.questions)]
    if made.questions:
        kept += [made.states[i] for i in made.read]
    return sum(math.prod(n or 1 for n in k.shape) * max(1, tf.as_dtype(k.dtype).size) for k in kept)
