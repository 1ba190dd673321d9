"""Inputs to try a signature with: numbers, words, serialized Examples, images."""

import base64
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.arrays import Array
from jaxrt.converters.bodies import Library, read
from jaxrt.converters.flat import INT32, STRING, Flat, deep_nodes
from jaxrt.converters.simplify import constant
from jaxrt.converters.subgraph import Node, Subgraph
from jaxrt.specs import SignatureSpec, TensorSpec

WORDS = (b"hello world", b"7", b"Cash", b"a", b"the quick brown fox", b"", b"n\xc3\xa9", b"3.5")
_KEYS = 64
_INNER = (7, 64)
_IDS = (5, 2, 1)
"""Bounds of random whole numbers: a small table has few rows."""

_LOWS = (-2.0, 0.01)
"""Bounds of random numbers from below: some signatures want them positive."""

_SMALL_IMAGE = (32, 32)
_SMALLEST_SIDE, _LARGEST_SIDE = 8, 2048
_IMAGE_SIZES = 6
"""Tried at most: some signatures take one size only."""

_Strings = Callable[[np.random.Generator], bytes]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Clues:
    """What a graph tells of the strings that it wants."""

    nodes: Sequence[Node]
    """All of them, those of functions too."""
    constants: Mapping[str, Node]
    """Nodes by name, among them those that name features."""
    keys: Callable[[], Sequence[bytes]]
    """Words that tables know: a lookup that finds nothing says little."""


def clues(flat: Flat) -> Clues:
    """Of a signature as one flat graph."""

    def keys() -> list[bytes]:
        found: list[bytes] = []
        for source in flat.tables.values():
            if source.key_dtype == STRING:
                found += source.read().keys[:_KEYS].tolist()
        return found

    nodes = [d for n in flat.body.nodes.values() for d in deep_nodes(n, flat.library)]
    return Clues(nodes=nodes, constants=_named(flat.body.nodes, flat.library), keys=keys)


def clues_of(part: Subgraph) -> Clues:
    """Of a signature that nobody could make flat."""
    constants = _named(part.nodes, part.functions)
    return Clues(nodes=list(part.walk()), constants=constants, keys=list)


def samples(clues: Clues, spec: SignatureSpec, rows: int, seed: int) -> Iterator[dict[str, Array]]:
    """Inputs by alias, one guess after another: a signature takes some of them or none."""
    tensors = spec.inputs.values()
    strings = _guesses(clues) if any(t.dtype == "string" for t in tensors) else [_digit]
    inners = _INNER if any(None in (t.shape or ())[1:] for t in tensors) else _INNER[:1]
    ids = _IDS if any("int" in t.dtype for t in tensors) else _IDS[:1]
    lows = _LOWS if any("float" in t.dtype for t in tensors) else _LOWS[:1]
    for make, inner, bound, low in itertools.product(strings, inners, ids, lows):
        draw = np.random.default_rng([seed, rows])
        yield {
            alias: _array(tensor, rows, make, inner, bound, low, draw)
            for alias, tensor in spec.inputs.items()
        }


def _array(
    tensor: TensorSpec,
    rows: int,
    strings: _Strings,
    inner: int,
    ids: int,
    low: float,
    draw: np.random.Generator,
) -> Array:
    declared = tensor.shape if tensor.shape is not None else (None,)
    sizes = [(rows if i == 0 else inner) if n is None else n for i, n in enumerate(declared)]
    if tensor.dtype == "string":
        found = np.empty(int(np.prod(sizes)), object)
        found[:] = [strings(draw) for _ in range(found.size)]
        return found.reshape(sizes)
    dtype = tf.as_dtype(tensor.dtype).as_numpy_dtype
    if tensor.dtype == "bool":  # a lone one is likely to switch on training, and dropout
        return np.asarray(draw.integers(0, 2, sizes).astype(bool) if sizes else False)
    if "int" in tensor.dtype:
        return np.asarray(draw.integers(0, ids, sizes).astype(dtype))
    return np.asarray(draw.uniform(low, 1.0, sizes).astype(dtype))


def _guesses(clues: Clues) -> list[_Strings]:
    """Ways to make strings, the likeliest first."""
    ops = {n.op for n in clues.nodes}
    found: list[_Strings] = []
    words = [*WORDS, *clues.keys()]
    features = _features(clues)
    if features:
        found.append(lambda draw: _example(features, words, draw))
    if any(op.startswith("Decode") for op in ops):
        encoders = (tf.io.encode_jpeg, tf.io.encode_png)
        raw = [_image(encode, *size) for size in _image_sizes(clues) for encode in encoders]
        if "DecodeBase64" in ops:
            raw = [base64.urlsafe_b64encode(image).rstrip(b"=") for image in raw]
        found += [functools.partial(_always, image) for image in raw]
    return [*found, functools.partial(_word, words), _digit]


def _word(words: Sequence[bytes], draw: np.random.Generator) -> bytes:
    return words[int(draw.integers(len(words)))]


def _digit(draw: np.random.Generator) -> bytes:
    return str(draw.integers(10)).encode()


def _always(value: bytes, draw: np.random.Generator) -> bytes:
    return value


def _image(encode: Any, height: int, width: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    encoded: bytes = encode(pixels).numpy()
    return encoded


def _image_sizes(clues: Clues) -> list[tuple[int, int]]:
    """Heights and widths: a small one, and those that the graph speaks of."""
    shapes = [n.attr["shape"].shape for n in clues.nodes if n.op == "EnsureShape"]
    shapes += [s for n in clues.nodes for s in n.attr["_output_shapes"].list.shape]
    seen = [[d.size for d in shape.dim] for shape in shapes]
    seen += [
        np.ravel(tf.make_ndarray(n.attr["value"].tensor)).tolist()
        for n in clues.nodes
        if n.op == "Const" and n.attr["dtype"].type == INT32
    ]
    found = [tuple(dims[-3:-1]) for dims in seen if _is_image(dims)]
    return list(dict.fromkeys([_SMALL_IMAGE, *found]))[:_IMAGE_SIZES]


def _is_image(dims: Sequence[int]) -> bool:
    """Whether they are [height, width, channels], maybe after a batch."""
    if len(dims) not in (3, 4) or dims[-1] not in (1, 3, 4):
        return False
    return all(_SMALLEST_SIDE <= n <= _LARGEST_SIDE for n in dims[-3:-1])


def _example(
    features: Mapping[str, tuple[int, int]], words: Sequence[bytes], draw: np.random.Generator
) -> bytes:
    example = tf.train.Example()
    for name, (dtype, size) in sorted(features.items()):
        feature = example.features.feature[name]
        match dtype:
            case 7:
                feature.bytes_list.value.extend(_word(words, draw) for _ in range(size))
            case 1:
                feature.float_list.value.extend(draw.uniform(0, 20, size).tolist())
            case _:
                feature.int64_list.value.extend(draw.integers(0, 12, size).tolist())
    serialized: bytes = example.SerializeToString()
    return serialized


def _named(top: Mapping[str, Node], library: Library) -> dict[str, Node]:
    known = dict(top)
    for function in library.values():
        known |= {n.name: n for n in read(function, library).nodes.values()}
    return known


def _features(clues: Clues) -> dict[str, tuple[int, int]]:
    """Feature → DataType number and number of values, of every ParseExample."""
    found: dict[str, tuple[int, int]] = {}
    for of in clues.nodes:
        for keys, types, shapes in _specs(of, clues.constants):
            for index, key in enumerate(keys):
                dims = shapes[index].dim if shapes else ()
                size = int(np.prod([d.size for d in dims if d.size > 0], dtype=np.int64))
                found[key.decode()] = (types[index], max(1, size))
    return found


def _specs(of: Node, known: Mapping[str, Node]) -> list[tuple[list[bytes], Any, Any]]:
    def const(tensor: str) -> list[bytes]:
        value = constant(dict(known), tensor)
        return [] if value is None else [bytes(v) for v in np.ravel(value)]

    attr = of.attr
    dense = attr["dense_shapes"].list.shape
    match of.op:
        case "ParseExampleV2":
            return [
                (const(of.input[2]), attr["sparse_types"].list.type, None),
                (const(of.input[3]), attr["Tdense"].list.type, dense),
                (const(of.input[4]), attr["ragged_value_types"].list.type, None),
            ]
        case "ParseExample":
            sparse, count = attr["Nsparse"].i, attr["Ndense"].i
            keys = [b"".join(const(t)) for t in of.input[2 : 2 + sparse + count]]
            return [
                (keys[:sparse], attr["sparse_types"].list.type, None),
                (keys[sparse:], attr["Tdense"].list.type, dense),
            ]
        case "ParseSingleExample":
            return [
                (list(attr["sparse_keys"].list.s), attr["sparse_types"].list.type, None),
                (list(attr["dense_keys"].list.s), attr["Tdense"].list.type, dense),
            ]
    return []
