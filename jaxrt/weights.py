"""Weights in a safetensors file: written tensor by tensor, read by mmap without a copy.

The format (https://github.com/huggingface/safetensors, "Format"): eight bytes N little-endian, N
bytes of JSON that may end in spaces, then the data; tensors lie in it without overlap or hole.
"""

import dataclasses
import json
import math
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import ml_dtypes
import numpy as np

from jaxrt.errors import ArtifactError

Array = np.ndarray[Any, Any]

ALIGNMENT = 64
"""Bytes. XLA:CPU borrows a host buffer that starts on such a boundary and copies any other."""
HEADER_LIMIT = 100_000_000
"""Bytes of JSON; the safetensors package reads no more."""
PAD = "__pad__."
"""Tensors of this prefix fill the gaps between aligned ones, as the format allows no hole."""
METADATA = "__metadata__"
REAL_DTYPES = "jaxrt.dtypes"
"""Metadata key: JSON of name → dtype, for tensors whose dtype has no tag of its own."""

TAGS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "C64": np.dtype(np.complex64),
}

# dtypes without a tag: real dtype → tag it is stored under, dimensions that adds at the end. Other
# readers then see the numbers they can: int4 as int8, complex128 as pairs of float64.
CARRIED: dict[np.dtype[Any], tuple[str, tuple[int, ...]]] = {
    np.dtype(ml_dtypes.int4): ("I8", ()),
    np.dtype(ml_dtypes.uint4): ("U8", ()),
    np.dtype(np.complex128): ("F64", (2,)),
}
_STORED = {dtype: (tag, ()) for tag, dtype in TAGS.items()} | CARRIED
_CARRIED_NAMES = {dtype.name: dtype for dtype in CARRIED}


class Shaped(Protocol):
    """What a tensor will be: an array or a jax.ShapeDtypeStruct is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the header: begin and end are bytes from the start of the data."""

    tag: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Weights(Mapping[str, Array]):
    """The tensors of one file, by name: read-only arrays that share the file's pages.

    The pages stay mapped until `close` was called and the last array is gone: an array outlives
    its Weights safely. The file may be deleted meanwhile; truncating it kills readers (SIGBUS).
    """

    path: Path
    _arrays: dict[str, Array] = dataclasses.field(repr=False)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays.values())

    def close(self) -> None:
        """Let go of the arrays: the mapping is empty afterwards."""
        self._arrays.clear()

    def __enter__(self) -> "Weights":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_weights(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write `tensors` in their order; arrays may be memory-mapped, of any strides and byte order.

    Raises ValueError for a name or dtype that the format cannot hold.
    """
    stream_weights(path, tensors, ((name, np.asarray(a)) for name, a in tensors.items()))


def stream_weights(
    path: Path, layout: Mapping[str, Shaped], tensors: Iterable[tuple[str, Array]]
) -> None:
    """Write each tensor as it comes, in any order, where `layout` (name → shape, dtype) puts it.

    At most one tensor is copied in memory (a strided one). Raises ValueError when a tensor comes
    twice, never, unannounced or other than announced.
    """
    entries = _lay_out(layout)
    header = _encode_header(entries, layout)
    size = max((entry.end for entry in entries.values()), default=0)
    waiting = set(layout)
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)  # the pads are never written: they read as zeros
        for name, array in tensors:
            if name not in waiting:
                why = "came twice" if name in layout else "is not in the layout"
                raise ValueError(f"{path}: tensor {name!r} {why}; give each name once")
            waiting.remove(name)
            _check_announced(path, name, array, layout[name])
            file.seek(len(header) + entries[name].begin)
            file.write(_stored_bytes(array).data)
    if waiting:
        raise ValueError(f"{path}: tensors {sorted(waiting)} never came; give every name once")


def open_weights(path: Path) -> Weights:
    """Map a safetensors file, ours or another's.

    Raises ArtifactError that names the file and the rule it breaks.
    """
    try:
        with open(path, "rb") as file:
            length = _header_length(path, file)
            entries, real = _decode_header(path, file.read(length))
            size = os.fstat(file.fileno()).st_size
            _check_offsets(path, entries, size - 8 - length)
            # Through mmap's buffer numpy keeps the mapping alive, and sees that it is read-only.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    arrays: dict[str, Array] = {}
    for name, entry in entries.items():
        if not name.startswith(PAD):
            shape, dtype = _logical(path, name, entry, real.get(name))
            try:
                arrays[name] = np.ndarray(shape, dtype, mapped, 8 + length + entry.begin)
            except ValueError as error:
                raise _broken(path, f"tensor {name!r} has shape {shape}: {error}") from error
    return Weights(path, arrays)


def _lay_out(layout: Mapping[str, Shaped]) -> dict[str, _Entry]:
    """Entries in file order, pads between them, every one but the pads aligned."""
    entries: dict[str, _Entry] = {}
    end = 0
    for name, like in layout.items():
        if name == METADATA or name.startswith(PAD):
            raise ValueError(f"tensor {name!r}: the name is reserved; rename the variable")
        dtype = np.dtype(like.dtype).newbyteorder("=")
        if dtype not in _STORED:
            known = ", ".join(sorted(d.name for d in _STORED))
            raise ValueError(f"tensor {name!r}: dtype {dtype} cannot be stored; want {known}")
        if gap := -end % ALIGNMENT:
            entries[f"{PAD}{len(entries)}"] = _Entry("U8", (gap,), end, end + gap)
        tag, extra = _STORED[dtype]
        shape = (*(int(n) for n in like.shape), *extra)
        begin = end + -end % ALIGNMENT
        end = begin + math.prod(shape) * TAGS[tag].itemsize
        entries[name] = _Entry(tag, shape, begin, end)
    return entries


def _encode_header(entries: Mapping[str, _Entry], layout: Mapping[str, Shaped]) -> bytes:
    """The length, the JSON and spaces up to the next aligned byte."""
    dtypes = {name: np.dtype(like.dtype).newbyteorder("=") for name, like in layout.items()}
    real = {name: dtype.name for name, dtype in dtypes.items() if dtype in CARRIED}
    header: dict[str, Any] = {METADATA: {REAL_DTYPES: json.dumps(real)}} if real else {}
    for name, entry in entries.items():
        offsets = [entry.begin, entry.end]
        header[name] = {"dtype": entry.tag, "shape": entry.shape, "data_offsets": offsets}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > HEADER_LIMIT:
        raise ValueError(
            f"the header of {len(layout)} tensors has {len(text)} bytes, safetensors allows "
            f"{HEADER_LIMIT}; give the weights shorter names"
        )
    return struct.pack("<Q", len(text)) + text


def _check_announced(path: Path, name: str, array: Array, like: Shaped) -> None:
    wanted = tuple(like.shape), np.dtype(like.dtype).newbyteorder("=")
    if (array.shape, array.dtype.newbyteorder("=")) != wanted:
        raise ValueError(
            f"{path}: tensor {name!r} is {array.dtype}{list(array.shape)}, the layout says "
            f"{wanted[1]}{list(wanted[0])}; give what was announced"
        )


def _stored_bytes(array: Array) -> Array:
    """[...] → uint8[n], the bytes of the array as the file holds them."""
    tag, extra = _STORED[array.dtype.newbyteorder("=")]
    # A value cast, not a view: the upper four bits of an ml_dtypes int4 in memory are arbitrary.
    dtype = array.dtype.newbyteorder("<") if extra else TAGS[tag]
    flat: Array = np.asarray(array, dtype=dtype, order="C").reshape(-1)
    return flat.view(np.uint8)


def _broken(path: Path, rule: str) -> ArtifactError:
    return ArtifactError(f"{path}: not a valid safetensors file: {rule}; write it again")


def _header_length(path: Path, file: IO[bytes]) -> int:
    first, size = file.read(8), os.fstat(file.fileno()).st_size
    if len(first) < 8:
        raise _broken(path, f"{size} bytes, want at least the 8 of the header's length")
    length: int = struct.unpack("<Q", first)[0]
    if length > HEADER_LIMIT:
        raise _broken(path, f"header too large: {length} bytes, at most {HEADER_LIMIT} are read")
    if length > size - 8:
        raise _broken(path, f"truncated: the header has {length} bytes, the file {size - 8} more")
    return length


def _decode_header(path: Path, text: bytes) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Entries in file order, and name → real dtype of those carried under another's tag."""
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"the header is not JSON: {error}") from error
    if not isinstance(header, dict) or not text.startswith(b"{"):
        raise _broken(path, "the header is not a JSON object that starts with its first byte")
    real = _decode_metadata(path, header.pop(METADATA, {}))
    entries = {name: _decode_entry(path, name, value) for name, value in header.items()}
    if lost := sorted(real.keys() - entries.keys()):
        raise _broken(path, f"the metadata gives dtypes of tensors that are not there: {lost}")
    by_place = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    return dict(by_place), real


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate names {sorted({n for n in names if names.count(n) > 1})}")
    return found


def _decode_metadata(path: Path, metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, f"{METADATA} is not an object of strings")
    try:
        real = json.loads(metadata.get(REAL_DTYPES, "{}"))
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"{METADATA}.{REAL_DTYPES} is not JSON: {error}") from error
    if not isinstance(real, dict) or not all(isinstance(v, str) for v in real.values()):
        raise _broken(path, f"{METADATA}.{REAL_DTYPES} is not an object of strings")
    return real


def _decode_entry(path: Path, name: str, value: object) -> _Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"tensor {name!r} does not have dtype, shape and data_offsets alone")
    tag, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(tag, str) or tag not in TAGS:
        raise _broken(path, f"tensor {name!r} has dtype {tag!r}, want one of {', '.join(TAGS)}")
    if not _naturals(shape):
        raise _broken(path, f"tensor {name!r} has shape {shape!r}, want sizes of 0 or more")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _broken(path, f"tensor {name!r} has data_offsets {offsets!r}, want [begin, end]")
    size = math.prod(shape) * TAGS[tag].itemsize
    if offsets[1] - offsets[0] != size:
        raise _broken(
            path, f"tensor {name!r} spans bytes {offsets}, but {tag}{shape} takes {size} bytes"
        )
    return _Entry(tag, tuple(shape), offsets[0], offsets[1])


def _naturals(value: object) -> bool:
    # type() and not isinstance: JSON's true is no size.
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_offsets(path: Path, entries: Mapping[str, _Entry], size: int) -> None:
    end = 0
    for name, entry in entries.items():
        if entry.begin != end:
            what = "overlaps the one before" if entry.begin < end else "leaves a hole"
            raise _broken(path, f"tensor {name!r} {what}: begins at {entry.begin}, want {end}")
        end = entry.end
    if end != size:
        what = "truncated" if size < end else "bytes after the last tensor"
        raise _broken(path, f"{what}: the data has {size} bytes, the tensors take {end}")


def _logical(
    path: Path, name: str, entry: _Entry, real: str | None
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype as they were before a dtype without a tag was carried under another's."""
    if real is None:
        return entry.shape, TAGS[entry.tag]
    dtype = _CARRIED_NAMES.get(real)
    if dtype is None:
        known = ", ".join(_CARRIED_NAMES)
        raise _broken(path, f"tensor {name!r} has real dtype {real!r}, want one of {known}")
    tag, extra = CARRIED[dtype]
    kept = len(entry.shape) - len(extra)
    if entry.tag != tag or entry.shape[max(kept, 0) :] != extra:
        raise _broken(path, f"tensor {name!r} cannot carry {real}: {entry.tag}{entry.shape}")
    return entry.shape[:kept], dtype
