"""Ops that pass values on, choose, loop, check, and keep lists of tensors."""

from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.plan import DEAD
from jaxrt.converters.host.rules import Array, Value, op
from jaxrt.converters.host.text import summary
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES


@op("Const", "HostConst", rowwise=True)
def const(node: Node) -> Array:
    found: Array = node.attrs["value"]
    return found


@op(
    "Identity",
    "StopGradient",
    "PreventGradient",
    "Snapshot",
    "PlaceholderWithDefault",
    "LoopCond",
    "ReadVariableOp",
    rowwise=True,
)
def identity(node: Node, x: Value) -> Value:
    return x


@op("IdentityN", rowwise=True)
def identity_n(node: Node, *inputs: Value) -> tuple[Value, ...]:
    return inputs


@op("NoOp", "ControlTrigger")
def no_op(node: Node) -> tuple[()]:
    return ()


@op("Placeholder", "PlaceholderV2", pure=False)
def placeholder(node: Node) -> Value:
    text = DTYPES[node.attrs["dtype"]].text
    raise InvalidArgument(
        f"You must feed a value for placeholder tensor '{node.name}' with dtype {text}"
    )


@op("Assert", pure=False, summarize=3)
def check(node: Node, condition: Array, *data: Array) -> tuple[()]:
    if not condition.all():
        lines = [summary(value, node.attrs["summarize"]) for value in data]
        raise InvalidArgument("assertion failed: " + " ".join(f"[{line}]" for line in lines))
    return ()


@op("If", "StatelessIf")
def if_(node: Node, condition: Array, *inputs: Value) -> tuple[Value, ...]:
    branch = "then_branch" if _truth(condition) else "else_branch"
    found: tuple[Value, ...] = node.attrs[branch](*inputs)
    return found


@op("Case", "StatelessCase")
def case(node: Node, index: Array, *inputs: Value) -> tuple[Value, ...]:
    branches = node.attrs["branches"]
    at = int(index)
    found: tuple[Value, ...] = branches[at if 0 <= at < len(branches) else -1](*inputs)
    return found


@op("While", "StatelessWhile")
def while_(node: Node, *inputs: Value) -> tuple[Value, ...]:
    condition, body = node.attrs["cond"], node.attrs["body"]
    while _truth(condition(*inputs)[0]):
        inputs = body(*inputs)
    return inputs


def _truth(value: Array) -> bool:
    """tensorflow/core/kernels/functional_ops.cc, ToBool: a scalar's value, else non-empty."""
    if value.ndim:
        return value.size > 0
    return bool(value.item())


@op("Switch", "RefSwitch")
def switch(node: Node, data: Value, predicate: Array) -> tuple[Value, Value]:
    return (DEAD, data) if predicate else (data, DEAD)


@op("Merge", "RefMerge")
def merge(node: Node, *inputs: Value) -> tuple[Value, Array]:
    at = next(i for i, value in enumerate(inputs) if value is not DEAD)
    return inputs[at], np.asarray(at, np.int32)


class TensorList:
    """A variant that holds tensors; None is one that was never set. Never changed in place."""

    def __init__(self, dtype: str, shape: tuple[int | None, ...] | None, items: list[Any]) -> None:
        self.dtype, self.shape, self.items = dtype, shape, items

    def replaced(self, items: list[Any]) -> "TensorList":
        return TensorList(self.dtype, self.shape, items)


def _sizes(shape: Array) -> tuple[int | None, ...] | None:
    """An element shape as a tensor; a scalar -1 is an unknown rank."""
    if not shape.ndim:
        return None
    return tuple(None if n < 0 else n for n in shape.tolist())


def _zeros(values: TensorList, shape: tuple[int | None, ...] | None) -> Array:
    """What TensorFlow gives for an item that was never set, where its shape is known."""
    known = next((s for s in (shape, values.shape) if s is not None and None not in s), None)
    if known is None:
        known = next((v.shape for v in values.items if v is not None), None)
    if known is None:
        raise InvalidArgument(
            "Trying to read an uninitialized tensor but element_shape is not fully defined: "
            "write every item of the list"
        )
    if values.dtype == "string":
        return np.full(known, b"", object)
    return np.zeros(known, DTYPES[values.dtype].numpy)


@op("TensorListReserve")
def list_reserve(node: Node, shape: Array, count: Array) -> TensorList:
    return TensorList(node.attrs["element_dtype"], _sizes(shape), [None] * int(count))


@op("EmptyTensorList")
def list_empty(node: Node, shape: Array, limit: Array) -> TensorList:
    return TensorList(node.attrs["element_dtype"], _sizes(shape), [])


@op("TensorListFromTensor")
def list_from_tensor(node: Node, tensor: Array, shape: Array) -> TensorList:
    items = [_item(tensor, row) for row in range(len(tensor))]
    return TensorList(node.attrs["element_dtype"], _sizes(shape), items)


def _item(tensor: Array, row: int) -> Array:
    """One row as an array, also where numpy would give a scalar or bytes."""
    found: Array = tensor[row : row + 1].reshape(tensor.shape[1:])
    return found


@op("TensorListSetItem", resize_if_index_out_of_bounds=False)
def list_set(node: Node, values: TensorList, index: Array, item: Value) -> TensorList:
    items, at = list(values.items), int(index)
    if node.attrs["resize_if_index_out_of_bounds"] and at >= len(items):
        items += [None] * (at + 1 - len(items))
    _in_range(at, items, "set")
    items[at] = item
    return values.replaced(items)


@op("TensorListGetItem")
def list_get(node: Node, values: TensorList, index: Array, shape: Array) -> Value:
    at = int(index)
    _in_range(at, values.items, "access")
    item = values.items[at]
    return _zeros(values, _sizes(shape)) if item is None else item


def _in_range(at: int, items: list[Any], verb: str) -> None:
    if not 0 <= at < len(items):
        raise InvalidArgument(
            f"Trying to {verb} element {at} in a list with {len(items)} elements."
        )


@op("TensorListStack", num_elements=-1)
def list_stack(node: Node, values: TensorList, shape: Array) -> Array:
    wanted = node.attrs["num_elements"]
    if wanted >= 0 and wanted != len(values.items):
        raise InvalidArgument(
            f"Operation expected a list with {wanted} elements but got a list with "
            f"{len(values.items)} elements."
        )
    return _stacked(values, _sizes(shape))


def _stacked(values: TensorList, sizes: tuple[int | None, ...] | None) -> Array:
    if not values.items:
        return np.zeros((0, *_defined(values.shape, sizes)), DTYPES[values.dtype].numpy)
    rows = [_zeros(values, sizes) if v is None else v for v in values.items]
    if len({row.shape for row in rows}) > 1:
        raise InvalidArgument("Tried to stack list with elements of different shapes; pad them")
    return np.stack(rows)


def _defined(*shapes: tuple[int | None, ...] | None) -> tuple[int, ...]:
    """What is known together of the shape of an element that there is none of."""
    known = [shape for shape in shapes if shape is not None]
    if len({len(shape) for shape in known}) > 1:
        raise InvalidArgument("Tried to stack a list whose elements have another rank; ask for it")
    columns = zip(*known, strict=True) if known else ()
    sizes = [next((n for n in column if n is not None), None) for column in columns]
    found = tuple(n for n in sizes if n is not None)
    if not known or len(found) < len(sizes):
        text = ",".join("?" if n is None else str(n) for n in sizes)
        raise InvalidArgument(
            "Tried to stack elements of an empty list with non-fully-defined element_shape: "
            + (f"[{text}]" if known else "<unknown>")
        )
    return found


@op("TensorListLength")
def list_length(node: Node, values: TensorList) -> Array:
    return np.asarray(len(values.items), np.int32)


@op("TensorListElementShape")
def list_shape(node: Node, values: TensorList) -> Array:
    dtype = DTYPES[node.attrs["shape_type"]].numpy
    if values.shape is None:
        return np.asarray(-1, dtype)
    return np.asarray([-1 if n is None else n for n in values.shape], dtype)


@op("TensorListPushBack")
def list_push(node: Node, values: TensorList, item: Value) -> TensorList:
    return values.replaced([*values.items, item])


@op("TensorListPopBack")
def list_pop(node: Node, values: TensorList, shape: Array) -> tuple[TensorList, Value]:
    if not values.items:
        raise InvalidArgument("Trying to pop from an empty list.")
    item = values.items[-1]
    return values.replaced(values.items[:-1]), _zeros(
        values, _sizes(shape)
    ) if item is None else item


@op("TensorListResize")
def list_resize(node: Node, values: TensorList, size: Array) -> TensorList:
    count = int(size)
    return values.replaced([*values.items[:count], *[None] * (count - len(values.items))])


@op("TensorListGather")
def list_gather(node: Node, values: TensorList, indices: Array, shape: Array) -> Array:
    for at in indices.tolist():
        _in_range(at, values.items, "access")
    items = [values.items[at] for at in indices.tolist()]
    return _stacked(values.replaced(items), _sizes(shape))


@op("TensorListConcatV2")
def list_concat(node: Node, values: TensorList, shape: Array, dims: Array) -> tuple[Array, Array]:
    """Items one after another, and the length of each; `dims` are those of unset items."""
    sizes, lengths = _sizes(shape), dims.tolist()
    rows = []
    for i, item in enumerate(values.items):
        length = lengths[i] if i < len(lengths) else None
        rows.append(_zeros(values, (length, *(sizes or ())[1:])) if item is None else item)
    if not rows:
        return _zeros(values, (0, *(sizes or ())[1:])), np.zeros(0, np.int64)
    return np.concatenate(rows), np.asarray([len(row) for row in rows], np.int64)


@op("TensorListScatterV2", "TensorListScatter")
def list_scatter(
    node: Node, tensor: Array, indices: Array, shape: Array, count: Array | None = None
) -> TensorList:
    size = max([-1, *indices.tolist()]) + 1
    items: list[Any] = [None] * (size if count is None or int(count) < 0 else int(count))
    for at, row in zip(indices.tolist(), range(len(tensor)), strict=True):
        _in_range(at, items, "scatter to")
        items[at] = _item(tensor, row)
    return TensorList(node.attrs["element_dtype"], _sizes(shape), items)


@op("TensorListScatterIntoExistingList")
def list_scatter_into(node: Node, values: TensorList, tensor: Array, indices: Array) -> TensorList:
    items, places = list(values.items), indices.tolist()
    items += [None] * (max([-1, *places]) + 1 - len(items))
    for row, at in enumerate(places):
        _in_range(at, items, "scatter to")
        items[at] = _item(tensor, row)
    return values.replaced(items)
