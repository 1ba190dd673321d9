"""How single ops pass on rows: see jaxrt.converters.host.rowwise."""

import math
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rowwise import (
    BATCH,
    Extent,
    Kind,
    Part,
    Pieces,
    Places,
    Rows,
    Shared,
    Sizes,
    Unknown,
    elementwise,
    rows,
)

Dims = tuple[int | None, ...]


def known_of(kind: Kind) -> list[Any] | None:
    """The elements of a known vector or scalar."""
    if isinstance(kind, Shared) and isinstance(kind.value, np.ndarray):
        return list(kind.value.ravel().tolist())
    return None


def ranked_of(kind: Kind) -> Dims | None:
    return kind.dims if isinstance(kind, Rows) else None


def _axis(kind: Kind, rank: int) -> int | None:
    """A known axis, counted from the front."""
    found = known_of(kind)
    return None if found is None or len(found) != 1 else found[0] % rank


def parts_of(kind: Kind) -> tuple[Part, ...] | None:
    if isinstance(kind, Sizes):
        return kind.parts
    found = known_of(kind)
    return None if found is None else tuple(found)


def _sizes(parts: tuple[Part, ...], scalar: bool = False) -> Kind:
    return Sizes(parts, scalar) if BATCH in parts else Shared()


def shape_of(parts: tuple[Part, ...]) -> Kind:
    """What has the shape `parts`, of a value that all rows share."""
    if not parts or parts[0] != BATCH or BATCH in parts[1:]:
        return Unknown()
    return Rows(tuple(n if isinstance(n, int) and n >= 0 else None for n in parts[1:]))


@rows("Shape")
def shape(node: Node, x: Kind) -> Kind:
    dims = ranked_of(x)
    return Unknown() if dims is None else Sizes((BATCH, *dims))


@rows("ZerosLike", "OnesLike", "StringStrip", "EnsureShape")
def alike(node: Node, x: Kind) -> Kind:
    return x


@rows("Identity", "StopGradient", "PreventGradient", "Snapshot", "PlaceholderWithDefault")
def identity(node: Node, x: Kind) -> Kind:
    return x


@rows("IdentityN")
def identity_n(node: Node, *inputs: Kind) -> tuple[Kind, ...]:
    return inputs


@rows("Assert", "NoOp")
def check(node: Node, *inputs: Kind) -> tuple[Kind, ...]:
    return ()


@rows("Cast")
def cast(node: Node, x: Kind) -> Kind:
    narrowing = isinstance(x, Sizes | Places | Extent) and node.attrs["DstT"] not in (
        "int32",
        "int64",
    )
    return Unknown() if narrowing else x


@rows("LookupTableFindV2", "LookupTableFind")
def find(node: Node, table: Kind, keys: Kind, default: Kind) -> Kind:
    """Of a table whose values are scalars."""
    scalar = isinstance(table, Shared) and is_scalar_of(default)
    return keys if scalar and isinstance(keys, Rows | Pieces) else Unknown()


@rows("StridedSlice")
def strided_slice(node: Node, x: Kind, begin: Kind, end: Kind, strides: Kind) -> Kind:
    first, last, steps = known_of(begin), known_of(end), known_of(strides)
    if first is None or last is None or steps is None:
        return Unknown()
    if isinstance(x, Sizes | Extent) and len(first) == 1 and not _masks(node, "new_axis"):
        return _cut_sizes(node, x, first[0], last[0], steps[0])
    dims = ranked_of(x)
    if dims is None or _masks(node, "ellipsis") or not first:
        return Unknown()
    whole = _whole(node, first[0], steps[0]) and not (_masks(node, "new_axis") & 1)
    if not whole or _masks(node, "shrink_axis") & 1:
        return Unknown()
    kept: list[int | None] = []
    at = 0
    for i in range(1, len(first)):
        if _masks(node, "new_axis") >> i & 1:
            kept.append(1)
            continue
        if not _masks(node, "shrink_axis") >> i & 1:
            size = dims[at] if at < len(dims) else None
            begin_ = None if _masks(node, "begin") >> i & 1 else first[i]
            end_ = None if _masks(node, "end") >> i & 1 else last[i]
            taken = slice(begin_, end_, steps[i])
            kept.append(None if size is None else len(range(*taken.indices(size))))
        at += 1
    return Rows((*kept, *dims[at:]))


def _masks(node: Node, name: str) -> int:
    return int(node.attrs[f"{name}_mask"])


def _whole(node: Node, begin: int, step: int) -> bool:
    """Whether the first dimension is taken as it is."""
    starts = begin == 0 or _masks(node, "begin") & 1
    return bool(starts and _masks(node, "end") & 1 and step == 1)


def _cut_sizes(node: Node, x: Sizes | Extent, begin: int, end: int, step: int) -> Kind:
    shrink = _masks(node, "shrink_axis") & 1
    if isinstance(x, Extent):
        return Sizes((BATCH,), True) if shrink and begin == 0 else Unknown()
    if x.scalar:
        return Unknown()
    if shrink:
        return _sizes((x.parts[begin],), True)
    first = None if _masks(node, "begin") & 1 else begin
    last = None if _masks(node, "end") & 1 else end
    return _sizes(x.parts[slice(first, last, step)])


@rows("Pack")
def pack(node: Node, *inputs: Kind) -> Kind:
    axis = node.attrs["axis"]
    dims = [ranked_of(kind) for kind in inputs]
    if None not in dims:
        rank = len(dims[0] or ()) + 2
        at = axis % rank
        found = list(dims[0] or ())
        found.insert(at - 1, len(inputs))
        return Rows(tuple(found)) if at else Unknown()
    parts = [parts_of(kind) if is_scalar_of(kind) else None for kind in inputs]
    if axis % 2 or not all(p is not None and len(p) == 1 or p == () for p in parts):
        return _packed(inputs)
    return _sizes(tuple(p[0] for p in parts if p))


def _packed(inputs: tuple[Kind, ...]) -> Kind:
    """Scalars, some of them shared and not known here."""
    parts: list[Part] = []
    for kind in inputs:
        if isinstance(kind, Sizes) and kind.scalar:
            parts += kind.parts
        elif isinstance(kind, Shared):
            parts += known_of(kind) or [None]
        else:
            return Unknown()
    return _sizes(tuple(parts))


def is_scalar_of(kind: Kind) -> bool:
    if isinstance(kind, Sizes):
        return kind.scalar
    return isinstance(kind, Shared) and isinstance(kind.value, np.ndarray) and not kind.value.ndim


@rows("ConcatV2")
def concat(node: Node, *inputs: Kind) -> Kind:
    *values, axis = inputs
    dims = [ranked_of(kind) for kind in values]
    if None not in dims:
        at = _axis(axis, len(dims[0] or ()) + 1)
        return _joined([d or () for d in dims], at) if at else Unknown()
    parts = [parts_of(kind) for kind in values]
    if any(p is None for p in parts) or not any(isinstance(v, Sizes) for v in values):
        return Unknown()
    return _sizes(tuple(part for p in parts for part in p or ()))


def _joined(dims: list[Dims], at: int) -> Kind:
    widths = [d[at - 1] for d in dims]
    total = None if None in widths else sum(n or 0 for n in widths)
    return Rows((*dims[0][: at - 1], total, *dims[0][at:]))


@rows("Reshape")
def reshape(node: Node, x: Kind, sizes: Kind) -> Kind:
    parts, dims = parts_of(sizes), ranked_of(x)
    if parts is None or not isinstance(x, Rows) or not parts:
        return Unknown()
    if parts[0] == BATCH:
        return shape_of(parts)
    # -1 stands for the rows only where what follows is as large as a row.
    inner = [n for n in parts[1:] if isinstance(n, int) and n >= 0]
    if dims is None or None in dims or parts[0] != -1 or len(inner) != len(parts) - 1:
        return Unknown()
    same = math.prod(inner) == math.prod(n or 0 for n in dims)
    return Rows(tuple(inner)) if same else Unknown()


@rows("ExpandDims")
def expand_dims(node: Node, x: Kind, axis: Kind) -> Kind:
    dims = ranked_of(x)
    at = None if dims is None else _axis(axis, len(dims) + 2)
    if dims is None or not at:
        return Unknown()
    return Rows((*dims[: at - 1], 1, *dims[at - 1 :]))


@rows("Squeeze")
def squeeze(node: Node, x: Kind) -> Kind:
    dims, axes = ranked_of(x), node.attrs["squeeze_dims"]
    if dims is None or not axes:
        return Unknown()
    gone = {a % (len(dims) + 1) for a in axes}
    kept = tuple(n for i, n in enumerate(dims, 1) if i not in gone)
    return Unknown() if 0 in gone else Rows(kept)


@rows("Sum", "Prod", "Max", "Min", "Mean", "All", "Any", "ReduceJoin")
def reduce(node: Node, x: Kind, axes: Kind) -> Kind:
    dims, found = ranked_of(x), known_of(axes)
    if dims is None or found is None:
        return Unknown()
    gone = {a % (len(dims) + 1) for a in found}
    if 0 in gone:
        return Unknown()
    if node.attrs["keep_dims"]:
        return Rows(tuple(1 if i in gone else n for i, n in enumerate(dims, 1)))
    return Rows(tuple(n for i, n in enumerate(dims, 1) if i not in gone))


@rows("ArgMax", "ArgMin")
def arg(node: Node, x: Kind, axis: Kind) -> Kind:
    dims = ranked_of(x)
    at = None if dims is None else _axis(axis, len(dims) + 1)
    return Rows((*dims[: at - 1], *dims[at:])) if dims is not None and at else Unknown()


@rows("TopKV2")
def top_k(node: Node, x: Kind, count: Kind) -> tuple[Kind, Kind]:
    dims = ranked_of(x)
    if not dims or not isinstance(count, Shared):
        return Unknown(), Unknown()
    found = Rows((*dims[:-1], None))
    return found, found


@rows("GatherV2")
def gather(node: Node, params: Kind, indices: Kind, axis: Kind) -> Kind:
    """Entries of a shared table."""
    if not isinstance(params, Shared) or not isinstance(params.value, np.ndarray):
        return Unknown()
    if known_of(axis) != [0] or node.attrs["batch_dims"]:
        return Unknown()
    inner = params.value.shape[1:]
    if isinstance(indices, Pieces):
        return Pieces(indices.cut, indices.dims + inner)
    dims = ranked_of(indices)
    return Unknown() if dims is None else Rows(dims + inner)


@rows("OneHot")
def one_hot(node: Node, indices: Kind, depth: Kind, on: Kind, off: Kind) -> Kind:
    dims, count = ranked_of(indices), known_of(depth)
    shared = all(isinstance(kind, Shared) for kind in (depth, on, off))
    if dims is None or not shared or node.attrs["axis"] != -1:
        return Unknown()
    return Rows((*dims, count[0] if count else None))


@rows("Tile")
def tile(node: Node, x: Kind, multiples: Kind) -> Kind:
    dims, parts = ranked_of(x), parts_of(multiples)
    if not parts or BATCH in parts[1:]:
        return Unknown()
    if dims is not None and parts[0] == 1:
        return Rows(tuple(None for _ in dims))
    if not isinstance(x, Shared) or not isinstance(x.value, np.ndarray) or parts[0] != BATCH:
        return Unknown()
    single = x.value.shape[:1] == (1,)
    return Rows((None,) * (len(parts) - 1)) if single else Unknown()


@rows("Fill")
def fill(node: Node, sizes: Kind, value: Kind) -> Kind:
    parts = parts_of(sizes)
    return shape_of(parts) if parts and isinstance(value, Shared) else Unknown()


@rows("BroadcastTo")
def broadcast_to(node: Node, x: Kind, sizes: Kind) -> Kind:
    parts = parts_of(sizes)
    if parts is None or not isinstance(x, Shared) or not isinstance(x.value, np.ndarray):
        return Unknown()
    along = x.value.ndim < len(parts) or x.value.shape[:1] == (1,)
    return shape_of(parts) if along else Unknown()


@rows("Select")
def select(node: Node, condition: Kind, x: Kind, y: Kind) -> Kind:
    if isinstance(condition, Rows) and condition.dims == () and isinstance(x, Rows):
        return elementwise((x, y)) if isinstance(y, Rows) else Unknown()
    return elementwise((condition, x, y))


@rows("DenseBincount")
def dense_bincount(node: Node, x: Kind, size: Kind, weights: Kind) -> Kind:
    dims, count = ranked_of(x), known_of(size)
    ok = dims is not None and len(dims) == 1 and known_of(weights) == []
    return Rows((count[0],)) if ok and count else Unknown()


@rows("Transpose")
def transpose(node: Node, x: Kind, permutation: Kind) -> Kind:
    dims, order = ranked_of(x), known_of(permutation)
    if dims is None or not order or order[0] != 0:
        return Unknown()
    return Rows(tuple(dims[i - 1] for i in order[1:]))


@rows("Split")
def split(node: Node, axis: Kind, x: Kind) -> tuple[Kind, ...]:
    dims, count = ranked_of(x), int(node.attrs["num_split"])
    at = None if dims is None else _axis(axis, len(dims) + 1)
    if dims is None or not at:
        return (Unknown(),) * count
    width = dims[at - 1]
    part = Rows((*dims[: at - 1], None if width is None else width // count, *dims[at:]))
    return (part,) * count


@rows("Unpack")
def unpack(node: Node, x: Kind) -> tuple[Kind, ...]:
    dims, count = ranked_of(x), int(node.attrs["num"])
    at = 0 if dims is None else node.attrs["axis"] % (len(dims) + 1)
    if dims is None or not at:
        return (Unknown(),) * count
    return (Rows((*dims[: at - 1], *dims[at:])),) * count


@rows("Slice")
def slice_(node: Node, x: Kind, begin: Kind, size: Kind) -> Kind:
    dims, first, sizes = ranked_of(x), known_of(begin), known_of(size)
    if dims is None or not first or not sizes or first[0] != 0 or sizes[0] != -1:
        return Unknown()
    return Rows(tuple(None if n < 0 else n for n in sizes[1:]))


@rows("Pad", "PadV2")
def pad(node: Node, x: Kind, paddings: Kind, *value: Kind) -> Kind:
    dims, found = ranked_of(x), known_of(paddings)
    if dims is None or not found or found[:2] != [0, 0]:
        return Unknown()
    shared = all(isinstance(kind, Shared) for kind in value)
    return Rows(tuple(None for _ in dims)) if shared else Unknown()


@rows("ReverseV2")
def reverse(node: Node, x: Kind, axes: Kind) -> Kind:
    dims, found = ranked_of(x), known_of(axes)
    if dims is None or found is None or 0 in {a % (len(dims) + 1) for a in found}:
        return Unknown()
    return x


@rows("StringJoin")
def string_join(node: Node, *inputs: Kind) -> Kind:
    """Scalars stand beside arrays of one shape; there is no other broadcasting."""
    found = {kind for kind in inputs if not isinstance(kind, Shared)}
    scalars = all(is_scalar_of(kind) for kind in inputs if isinstance(kind, Shared))
    return elementwise(inputs) if scalars and found else Unknown()
