"""Loops whose lists grow, run on the device for so many steps; the host goes on from there.

The device asks no row whether to stop: it runs as many steps as the numbers say that all rows
share, at most `STEPS`, and keeps what each step wrote and what the rows would have answered. So
rows stay apart, and strangers share a batch. The host asks its request's rows how many of the
steps there were, and cuts the lists there. Where the loop goes on beyond, the host runs it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import Body, copied, fresh, node, outputs, pruned, write
from jaxrt.converters.extents import written
from jaxrt.converters.flat import BOOL, INT32, VARIANT, Flat
from jaxrt.converters.growing import LOOPS, Growing, Kept, growing, has_rows
from jaxrt.converters.maps import argument
from jaxrt.converters.opnames import LONGER
from jaxrt.converters.placement import ON_DEVICE, Sizes
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.subgraph import Node, canonical, producer

STEPS = 64
"""Of a loop on the device: sentences are seldom longer, and rows that end early wait for these."""
_GOES_ON = "goes_on"
"""The argument that says whether there may be more steps."""


def with_caps(flat: Flat, sizes: Sizes) -> Flat:
    """The same values, of a flat graph that has its rows' number as an argument."""
    found = [growing(of, flat, sizes) for of in flat.body.nodes.values() if of.op in LOOPS]
    for loop in found:
        if loop is not None:
            flat = _Rewriter(flat, loop).flat()
    return flat


def is_parted(name: str) -> bool:
    """Whether a node is there because a loop was parted."""
    return ON_DEVICE in name


class _Rewriter:
    """Parts one loop."""

    def __init__(self, flat: Flat, loop: Growing) -> None:
        self._flat, self._loop = flat, loop
        self._nodes, self._library = dict(flat.body.nodes), dict(flat.library)
        self._at = f"{loop.loop.name}{ON_DEVICE}"

    def flat(self) -> Flat:
        loop = self._loop
        kept = [q.of for q in loop.questions]
        again = sorted(loop.read) if loop.questions else []
        kept += [loop.states[i] for i in again]
        run = self._device(kept, again)
        first = len(loop.body.args)
        steps = self._host(run, loop.counter, Kept(tensor="", dtype=INT32, shape=()))
        asked = [self._history(run, first + i, of) for i, of in enumerate(kept)]
        count, more = self._count(steps, asked)
        inputs = list(loop.loop.input)
        for index in loop.counters:
            inputs[index] = self._cast(count, INT32, loop.body.args[index][1])
        for index, of in loop.lists.items():
            inputs[index] = self._list(index, self._history(run, index, of), of, count)
        for index, of in loop.states.items():
            inputs[index] = self._host(run, index, of)
        for index, history in zip(again, asked[len(loop.questions) :], strict=True):
            inputs[index] = self._then(history, inputs[index], count, more, loop.states[index])
        self._rest([*inputs, more])
        body = pruned(dataclasses.replace(self._flat.body, nodes=self._nodes))
        return dataclasses.replace(self._flat, body=body, library=self._library)

    # What the device runs.

    def _device(self, kept: Sequence[Kept], again: Sequence[int]) -> str:
        """The loop of so many steps, which also lists what is kept. Gives its node."""
        loop = self._loop
        inputs = list(loop.loop.input)
        for index, of in loop.lists.items():
            inputs[index] = self._room(of)
        inputs += [self._room(of) for of in kept]
        wanted = fresh(f"{self._at}loop", self._nodes)
        made = self._nodes[wanted] = copied(loop.loop)
        made.name = wanted
        functions = (self._condition(kept), self._body(again))
        self._call(made, inputs, [VARIANT] * len(kept), functions, "_capped")
        return wanted

    def _call(
        self,
        made: Node,
        inputs: Sequence[str],
        more: Sequence[int],
        functions: tuple[Body, Body],
        suffix: str,
    ) -> None:
        """Turns a copy of the loop into one of these functions."""
        del made.input[:]
        made.input.extend(inputs)
        made.attr["T"].list.type.extend(more)
        if "output_shapes" in made.attr:
            del made.attr["output_shapes"].list.shape[:]
            made.attr["output_shapes"].list.SetInParent()
        for attr, function in zip(("cond", "body"), functions, strict=True):
            name = fresh(f"{made.attr[attr].func.name}{suffix}", self._library)
            self._library[name] = write(name, function, self._library)
            made.attr[attr].func.name = name

    def _room(self, of: Kept) -> str:
        """A list of zeros, one for each step."""
        sizes = tuple(ROWS if n is None else n for n in of.shape)
        size = written(f"{self._at}size", (STEPS, *sizes), self._nodes, INT32)
        zero = tf.zeros([], tf.as_dtype(of.dtype)).numpy()
        zeros = self._add(
            f"{self._at}zeros",
            "Fill",
            [size, self._const(zero, of.dtype)],
            T=("type", of.dtype),
            index_type=("type", INT32),
        )
        return self._from(f"{self._at}room", zeros, self._const(-1), of)

    def _condition(self, kept: Sequence[Kept]) -> Body:
        loop = self._loop
        nodes = dict(loop.condition.nodes)
        args = (*loop.condition.args, *((f"kept_{i}", VARIANT) for i, _ in enumerate(kept)))
        limit = _into(nodes, "limit", "Const", [], **_constant(np.int32(STEPS), INT32))
        inputs = [argument(loop.condition, loop.counter), limit]
        going = _into(nodes, "within", "Less", inputs, T=("type", INT32))
        for tensor in loop.shared:
            going = _into(nodes, "going", "LogicalAnd", [tensor, going])
        name = loop.condition.results[0][0]
        return pruned(Body(args=args, nodes=nodes, results=((name, going),)))

    def _body(self, again: Sequence[int]) -> Body:
        loop = self._loop
        nodes = {name: copied(of) for name, of in loop.body.nodes.items()}
        for index in loop.lists:
            self._fix(nodes, loop.body.results[index][1])
        tensors = [self._asked(nodes, q.of.tensor) for q in loop.questions]
        tensors += [argument(loop.body, i) for i in again]
        args, results = list(loop.body.args), list(loop.body.results)
        known = Body(args=loop.body.args, nodes=nodes, results=())
        for i, tensor in enumerate(tensors):
            number = ("type", known.dtype(tensor, self._library))
            args.append((f"kept_{i}", VARIANT))
            inputs = [f"kept_{i}:0", argument(loop.body, loop.counter), tensor]
            made = _into(nodes, f"keep_{i}", "TensorListSetItem", inputs, element_dtype=number)
            results.append((f"kept_out_{i}", made))
        return pruned(Body(args=tuple(args), nodes=nodes, results=tuple(results)))

    def _fix(self, nodes: dict[str, Node], tensor: str) -> None:
        """The list has all its elements from the start."""
        while nodes[producer(tensor)].op == "Identity":
            tensor = canonical(nodes[producer(tensor)].input[0])
        nodes[producer(tensor)].attr["resize_if_index_out_of_bounds"].b = False

    def _asked(self, nodes: dict[str, Node], tensor: str) -> str:
        """What the condition asks rows for, computed in the body, before its step."""
        condition, body = self._loop.condition, self._loop.body
        renamed = {argument(condition, i): argument(body, i) for i, _ in enumerate(condition.args)}
        asked = pruned(dataclasses.replace(condition, results=(("asked", tensor),)))
        for name, of in asked.nodes.items():
            made = copied(of)
            made.name = fresh(f"asked/{name}", nodes)
            given = [i for i in of.input if not i.startswith("^")]
            del made.input[:]
            made.input.extend(renamed.get(canonical(i), i) for i in given)
            nodes[made.name] = made
            for i, _ in enumerate(outputs(of, self._library)):
                renamed.setdefault(f"{name}:{i}", f"{made.name}:{i}")
        return renamed[tensor]

    # What crosses.

    def _host(self, run: str, index: int, of: Kept) -> str:
        """What the device's last step left, on the host."""
        tensor = f"{run}:{index}"
        return tensor if has_rows(of) else self._lone(self._shared(tensor, of.shape, of.dtype), of)

    def _history(self, run: str, index: int, of: Kept) -> str:
        """What each step left, as it crosses: [rows, STEPS, ...]."""
        stacked = self._add(
            f"{self._at}stacked",
            "TensorListStack",
            [f"{run}:{index}", self._const(-1)],
            element_dtype=("type", of.dtype),
            num_elements=STEPS,
        )
        if not has_rows(of):
            return self._shared(stacked, (STEPS, *of.shape), of.dtype)
        return self._turned(f"{self._at}rows_first", stacked, of)

    def _steps_first(self, history: str, of: Kept) -> str:
        if not has_rows(of):
            return self._lone(history, of)
        return self._turned(f"{self._loop.loop.name}/steps_first", history, of)

    def _turned(self, name: str, tensor: str, of: Kept) -> str:
        """Its first two dimensions exchanged."""
        turn = self._const([1, 0, *range(2, len(of.shape) + 1)])
        types = {"T": ("type", of.dtype), "Tperm": ("type", INT32)}
        return self._add(name, "Transpose", [tensor, turn], **types)

    def _shared(self, tensor: str, shape: Sequence[int | None], number: int) -> str:
        """The same for each row: what a device gives has rows."""
        sizes = tuple(n or 0 for n in shape)
        size = written(f"{self._at}size", (ROWS, *sizes), self._nodes, INT32)
        types = {"T": ("type", number), "Tidx": ("type", INT32)}
        return self._add(f"{self._at}shared", "BroadcastTo", [tensor, size], **types)

    def _lone(self, tensor: str, of: Kept) -> str:
        """What the rows share."""
        bounds = [self._const([n]) for n in (0, 1, 1)]
        types = {"T": ("type", of.dtype), "Index": ("type", INT32)}
        name = f"{self._loop.loop.name}/first"
        return self._add(name, "StridedSlice", [tensor, *bounds], shrink_axis_mask=1, **types)

    # What the host makes of it.

    def _count(self, steps: str, asked: Sequence[str]) -> tuple[str, str]:
        """How many steps there were for the request, and whether there may be more."""
        name = self._loop.loop.name
        count = steps
        numbers = self._const(list(range(STEPS)))
        for question, answers in zip(self._loop.questions, asked, strict=False):
            axes = self._const([0, *range(2, len(question.of.shape) + 1)])
            types = {"Tidx": ("type", INT32)}
            inputs = [answers, axes]
            ended = self._add(f"{name}/ended", question.op, inputs, keep_dims=False, **types)
            if not question.ends:
                ended = self._add(f"{name}/ended", "LogicalNot", [ended])
            inputs = [ended, numbers, self._const(STEPS)]
            at = self._add(f"{name}/at", "SelectV2", inputs, T=("type", INT32))
            types = {"T": ("type", INT32), "Tidx": ("type", INT32)}
            inputs = [at, self._const([0])]
            at = self._add(f"{name}/first_at", "Min", inputs, keep_dims=False, **types)
            count = self._add(f"{name}/count", "Minimum", [count, at], T=("type", INT32))
        inputs = [count, steps]
        return count, self._add(f"{name}/more", "Equal", inputs, T=("type", INT32))

    def _list(self, index: int, history: str, of: Kept, count: str) -> str:
        """The elements of the request's steps, as the list that the loop would have made."""
        name = self._loop.loop.name
        ends = [count, *(self._const(-1) for _ in of.shape)]
        size = self._add(f"{name}/size", "Pack", ends, T=("type", INT32), N=len(ends), axis=0)
        begin = self._const([0] * len(ends))
        types = {"T": ("type", of.dtype), "Index": ("type", INT32)}
        taken = self._add(
            f"{name}/taken", "Slice", [self._steps_first(history, of), begin, size], **types
        )
        reserved = self._nodes[producer(self._loop.loop.input[index])]
        return self._from(f"{name}/list", taken, reserved.input[0], of, reserved)

    def _then(self, history: str, last: str, count: str, more: str, of: Kept) -> str:
        """A state as it was when the request's steps were done."""
        name = self._loop.loop.name
        types = {"T": ("type", INT32)}
        at = self._add(f"{name}/within", "Minimum", [count, self._const(STEPS - 1)], **types)
        inputs = (
            [history, at, self._const(1)]
            if has_rows(of)
            else [self._lone(history, of), at, self._const(0)]
        )
        found = self._add(
            f"{name}/then",
            "GatherV2",
            inputs,
            Tparams=("type", of.dtype),
            Tindices=("type", INT32),
            Taxis=("type", INT32),
        )
        return self._add(f"{name}/state", "SelectV2", [more, last, found], T=("type", of.dtype))

    def _rest(self, inputs: Sequence[str]) -> None:
        """The loop itself, which goes on where more steps may be."""
        loop = self._loop
        nodes = dict(loop.condition.nodes)
        (result,) = loop.condition.results
        going = _into(nodes, "going", "LogicalAnd", [result[1], f"{_GOES_ON}:0"])
        args = (*loop.condition.args, (_GOES_ON, BOOL))
        condition = pruned(Body(args=args, nodes=nodes, results=((result[0], going),)))
        body = dataclasses.replace(
            loop.body,
            args=(*loop.body.args, (_GOES_ON, BOOL)),
            results=(*loop.body.results, (f"{_GOES_ON}_out", f"{_GOES_ON}:0")),
        )
        made = self._nodes[loop.loop.name] = copied(loop.loop)
        self._call(made, inputs, [BOOL], (condition, body), LONGER)

    # Small things.

    def _from(self, name: str, tensor: str, shape: str, of: Kept, like: Node | None = None) -> str:
        number = INT32 if like is None else like.attr["shape_type"].type
        types = {"element_dtype": ("type", of.dtype), "shape_type": ("type", number)}
        return self._add(name, "TensorListFromTensor", [tensor, shape], **types)

    def _cast(self, tensor: str, number: int, wanted: int) -> str:
        if number == wanted:
            return tensor
        types = {"SrcT": ("type", number), "DstT": ("type", wanted)}
        return self._add(f"{self._loop.loop.name}/cast", "Cast", [tensor], **types)

    def _const(self, value: Any, number: int = INT32) -> str:
        wanted = f"{self._loop.loop.name}/known"
        return self._add(wanted, "Const", [], **_constant(value, number))

    def _add(self, wanted: str, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        return _into(self._nodes, wanted, op, inputs, **attrs)


def _constant(value: Any, number: int) -> Mapping[str, Any]:
    made = tf.make_tensor_proto(value, tf.as_dtype(number))
    return {"dtype": ("type", number), "value": made}


def _into(nodes: dict[str, Node], wanted: str, op: str, inputs: Sequence[str], **attrs: Any) -> str:
    name = fresh(wanted, nodes)
    nodes[name] = node(name, op, inputs, **attrs)
    return f"{name}:0"
