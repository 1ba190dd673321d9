"""A flat graph and the stage of each node → parts: what each stage runs, takes and gives."""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from jaxrt.converters.bodies import Uncuttable, copied, dtype, node
from jaxrt.converters.flat import INT32, RESOURCE, STRING, VARIANT, Flat
from jaxrt.converters.placement import Placement, Sizes, can_cross
from jaxrt.converters.records import Value
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.subgraph import Node, canonical, producer
from jaxrt.specs import SignatureSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One stage: some of the flat graph's nodes, which read from arguments and weights."""

    on_device: bool
    nodes: Mapping[str, Node]
    takes: Mapping[str, str]
    """Value's name → argument of the nodes."""
    gives: Mapping[str, str]
    """Value's name → tensor."""
    values: Mapping[str, Value]
    """All that it takes and gives."""
    effects: tuple[str, ...]
    """Nodes that run for the errors that they may raise."""
    reasons: Mapping[str, str]
    """Node → why it is on the host."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A flat graph and where its nodes run."""

    flat: Flat
    spec: SignatureSpec
    sizes: Sizes
    placement: Placement
    phases: Mapping[str, int]
    """Node → stage, for those that depend on inputs; odd stages are on the device."""

    @property
    def stages(self) -> list[int]:
        found = self._computing
        late = (t for alias, t in self.flat.body.results if self._is_late(alias, t))
        if found[-1] % 2 and any(self.dtype(t) == STRING for t in late):
            found.append(found[-1] + 1)  # no device gives strings
        return found

    @property
    def _computing(self) -> list[int]:
        return sorted(set(self.phases.values())) or [0]

    def _is_late(self, alias: str, tensor: str) -> bool:
        """Whether the last stage gives an answer, wherever it is known first."""
        if self.alias(tensor) == alias:
            return False
        return self.home(tensor) is None or alias in self.spec.inputs

    def home(self, tensor: str) -> int | None:
        """The stage that computes a tensor; None for inputs and what any stage can compute."""
        return self.phases.get(producer(tensor))

    def alias(self, tensor: str) -> str | None:
        """Of the input that the tensor is."""
        named = {argument: alias for alias, argument in self.flat.inputs.items()}
        return named.get(producer(tensor))

    def answers(self) -> dict[str, tuple[str, int]]:
        """Alias → tensor and the stage that gives it; inputs that are answers as well are absent.

        A name that an input has too is given last, when nobody reads the input any more.
        """
        found = {}
        for alias, tensor in self.flat.body.results:
            home = self.home(tensor)
            if home is None or self._is_late(alias, tensor):
                # A constant has no rows: on a device it would keep requests from sharing a run.
                of = self.flat.body.nodes.get(producer(tensor))
                hosted = self.dtype(tensor) == STRING or (of is not None and of.op == "Const")
                home = (self.stages if hosted else self._computing)[-1]
            if self.alias(tensor) != alias:
                found[alias] = (tensor, home)
        return found

    def dtype(self, tensor: str) -> int:
        args = dict(self.flat.body.args)
        if producer(tensor) in args:
            return args[producer(tensor)]
        return dtype(self.flat.body.nodes, tensor, self.flat.library)

    def has_rows(self, tensor: str) -> bool:
        shape = self.value("", tensor).shape
        return shape is not None and shape[:1] == (None,)

    def value(self, name: str, tensor: str) -> Value:
        alias = self.alias(tensor)
        shape = self.sizes.crossing(tensor)
        like: tuple[tuple[str, int] | None, ...] = ()
        if alias is not None:
            shape = self.spec.inputs[alias].shape
            like = tuple((alias, i) if i and n is None else None for i, n in enumerate(shape or ()))
        elif (opened := self.sizes.opened(tensor)) is not None:
            shape = tuple(n if isinstance(n, int) else None for n in opened)
            like = tuple(n if isinstance(n, tuple) else None for n in opened)
        elif shape is None:
            shape = self._partly(tensor)
        if not any(like):
            like = ()
        number = self.dtype(tensor)
        return Value(name=name, dtype=tf.as_dtype(number).name, shape=shape, like=like)

    def _partly(self, tensor: str) -> tuple[int | None, ...] | None:
        """The shape of what stays on the host, with all unknown sizes in it."""
        pair = (self.sizes.first.shapes.get(tensor), self.sizes.second.shapes.get(tensor))
        first, second = pair
        if first is None or second is None or len(first) != len(second):
            return None
        return tuple(a if a == b else None for a, b in zip(first, second, strict=True))


def parts(cut: Cut) -> list[Part]:
    """In their order. Raises Uncuttable where a value would have to cross that cannot."""
    nodes = {stage: _nodes(cut, stage) for stage in cut.stages}
    answers = cut.answers()
    needs = {stage: _needs(cut, stage, nodes[stage]) for stage in cut.stages}
    names: dict[str, str] = {}
    for alias, (tensor, stage) in answers.items():
        if cut.home(tensor) == stage:
            names.setdefault(tensor, alias)
    for stage in cut.stages:
        for tensor in needs[stage]:
            names.setdefault(tensor, cut.alias(tensor) or f"%{len(names)}")
    made = []
    for stage in cut.stages:
        gives = {alias: tensor for alias, (tensor, home) in answers.items() if home == stage}
        later = {t for s in cut.stages if s > stage for t in needs[s]}
        gives |= {names[t]: t for t in sorted(later) if cut.home(t) == stage}
        made.append(_part(cut, stage, nodes[stage], {names[t]: t for t in needs[stage]}, gives))
    return made


def _nodes(cut: Cut, stage: int) -> dict[str, Node]:
    """The stage's nodes, with the constants that they read, and nodes of earlier stages that are
    computed again because their tensors cannot cross."""
    stack = [name for name, phase in cut.phases.items() if phase == stage]
    stack += [producer(t) for t, home in cut.answers().values() if home == stage]
    found: set[str] = set()
    while stack:
        name = stack.pop()
        if name in found or name not in cut.flat.body.nodes:
            continue
        if cut.phases.get(name, stage) != stage and not _is_again(cut, name, stage):
            continue
        found.add(name)
        stack += [
            producer(i)
            for i in cut.flat.body.nodes[name].input
            if not _crosses(cut, canonical(i), stage)
        ]
    return {name: of for name, of in cut.flat.body.nodes.items() if name in found}


def _crosses(cut: Cut, tensor: str, stage: int) -> bool:
    """Whether the stage takes the tensor from an earlier one."""
    home = cut.home(tensor)
    if home is None or home == stage:
        return False
    if home % 2 == stage % 2 == 0:  # from host to host
        return cut.dtype(tensor) not in (RESOURCE, VARIANT)
    return can_cross(cut.flat, cut.sizes, tensor)


def _is_again(cut: Cut, name: str, stage: int) -> bool:
    """Whether the node may run in this stage and in its own. Raises Uncuttable if not."""
    op = cut.flat.body.nodes[name].op
    tensors = [t for t, home in cut.answers().values() if home == stage]
    if name in map(producer, tensors) and cut.home(f"{name}:0") != stage:
        return False  # an answer given late, from where it was computed
    if (stage % 2 and name in cut.placement.reasons) or "Random" in op:
        raise Uncuttable(f"{op} {name} would have to run on the host and on the device.")
    return True


def _needs(cut: Cut, stage: int, nodes: Mapping[str, Node]) -> list[str]:
    """Tensors that the stage takes: inputs and what earlier stages computed."""
    read = [canonical(i) for of in nodes.values() for i in of.input]
    read += [t for t, home in cut.answers().values() if home == stage]
    outside = [t for t in dict.fromkeys(read) if producer(t) not in nodes]
    found = [t for t in outside if cut.alias(t) is not None or cut.home(t) is not None]
    if f"{ROWS}:0" in outside and not any(cut.has_rows(t) for t in found):
        found.append(_any_rows(cut, stage))
    return found


def _any_rows(cut: Cut, stage: int) -> str:
    """A tensor whose rows a stage can count that reads none."""
    inputs = [f"{argument}:0" for argument in cut.flat.inputs.values()]
    earlier = [f"{n}:0" for n in cut.flat.body.nodes if cut.phases.get(n, stage) < stage]
    for tensor in [*inputs, *earlier]:
        plain = cut.dtype(tensor) not in (RESOURCE, VARIANT, *((STRING,) if stage % 2 else ()))
        if plain and cut.has_rows(tensor):
            return tensor
    raise Uncuttable("A stage asks for the number of rows and takes nothing that has any.")


def _part(
    cut: Cut,
    stage: int,
    nodes: Mapping[str, Node],
    needs: Mapping[str, str],
    gives: Mapping[str, str],
) -> Part:
    values = {name: cut.value(name, tensor) for name, tensor in {**needs, **gives}.items()}
    takes = {name: f"taken_{number}" for number, name in enumerate(needs)}
    renamed = {tensor: f"{takes[name]}:0" for name, tensor in needs.items()}
    copies = {}
    for name, of in nodes.items():
        copies[name] = copied(of)
        for index, tensor in enumerate(of.input):
            copies[name].input[index] = renamed.get(canonical(tensor), tensor)
    if any(producer(i) == ROWS for of in copies.values() for i in of.input):
        copies = _counted(list(needs), takes, values) | copies
    return Part(
        on_device=stage % 2 == 1,
        nodes=copies,
        takes=takes,
        gives={name: renamed.get(t, t) for name, t in gives.items()},
        values=values,
        effects=tuple(e for e in cut.flat.body.control if e in nodes),
        reasons={n: r for n, r in cut.placement.reasons.items() if n in nodes},
    )


def _counted(
    needs: Sequence[str], takes: Mapping[str, str], values: Mapping[str, Value]
) -> dict[str, Node]:
    """The nodes that count a stage's rows, under the name of the argument that stood for them."""
    source = next(n for n in needs if (values[n].shape or (0,))[0] is None)
    number = tf.as_dtype(values[source].dtype).as_datatype_enum
    made = [node(f"{ROWS}/shape", "Shape", [f"{takes[source]}:0"], T=("type", number))]
    made[0].attr["out_type"].type = INT32
    for name, value in (("begin", 0), ("end", 1), ("stride", 1)):
        proto = tf.make_tensor_proto([value], tf.int32)
        made.append(node(f"{ROWS}/{name}", "Const", dtype=("type", INT32), value=proto))
    bounds = [f"{ROWS}/{name}:0" for name in ("shape", "begin", "end", "stride")]
    strided = node(ROWS, "StridedSlice", bounds, T=("type", INT32), Index=("type", INT32))
    strided.attr["shrink_axis_mask"].i = 1
    return {of.name: of for of in [*made, strided]}
