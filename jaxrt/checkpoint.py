"""Weights of a mesh as Orbax checkpoints: written part by part, each device restores its piece.

    weights.json        which weight lies where
    weights/00000/...   Orbax checkpoints of about `GROUP` bytes, each with some of the weights

Files are zarr arrays without compression, which float weights do not repay; Orbax's own default,
OCDBT, wrote 239 MB for 102 MB of random weights. Orbax takes up to two seconds to import and is
imported where such weights are written or read, and nowhere else.
"""

import contextlib
import dataclasses
import importlib.util
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.errors import ArtifactError, UsageError
from jaxrt.fields import Fields
from jaxrt.mesh import MeshShape, Spec
from jaxrt.weights import CARRIED, TAGS, Array

INDEX = "weights.json"
DIRECTORY = "weights"

GROUP = 512 << 20
"""Bytes of one checkpoint, of which Orbax makes a copy in memory while it writes."""
LARGEST, SMALLEST = 16 << 20, 1 << 20
"""Bytes of the chunks that arrays are stored in: what is read at once. Between these, one for each
piece of a weight that is split."""

_DTYPES = {dtype.name: dtype for dtype in (*TAGS.values(), *CARRIED)}
"""What weights are made of."""
_STORED = {"uint4": np.dtype(np.uint8)}
"""dtypes that TensorStore does not know → what their values are stored as."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One weight: its checkpoint, and its name there."""

    group: str
    key: str
    dtype: str
    """NumPy's name, ml_dtypes' included."""
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize

    @property
    def stored(self) -> np.dtype[Any]:
        return _STORED.get(self.dtype, _DTYPES[self.dtype])

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Any, where: str) -> "Entry":
        with Fields(data, where) as fields:
            return cls(
                group=fields.text("group"),
                key=fields.text("key"),
                dtype=fields.text("dtype"),
                shape=fields.parsed("shape", _shape),
            )


class Checkpoint(Mapping[str, Array]):
    """The weights of an artifact by name; each access reads one of them whole."""

    def __init__(self, path: Path, entries: Mapping[str, Entry]) -> None:
        """`path`: of the artifact."""
        self._path = path
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        if not math.prod(entry.shape):
            return np.zeros(entry.shape, _DTYPES[entry.dtype])
        ocp = _orbax(str(self._path))
        kind = ocp.RestoreArgs(restore_type=np.ndarray)
        found = self._read(entry.group, {entry.key: kind})[entry.key]
        return np.asarray(found).astype(_DTYPES[entry.dtype], copy=False)

    def __contains__(self, name: object) -> bool:
        """Reads none of them, where Mapping would."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def close(self) -> None:
        """Nothing stays open."""

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restore(self, shardings: Mapping[str, Any]) -> dict[str, Any]:
        """Name → jax.Array that lies as its sharding says; this process reads its pieces alone.

        KeyError for a weight that is not there, ArtifactError when Orbax cannot read it.
        """
        import jax

        entries = {name: self._entries[name] for name in shardings}
        found: dict[str, Any] = {}
        with jax.enable_x64(True):
            for name, entry in entries.items():
                if entry.dtype in _STORED or not math.prod(entry.shape):
                    whole = self[name]
                    found[name] = jax.make_array_from_callback(
                        entry.shape, shardings[name], whole.__getitem__, dtype=whole.dtype
                    )
            for group in dict.fromkeys(entry.group for entry in entries.values()):
                names = [n for n, e in entries.items() if e.group == group and n not in found]
                found |= self._restore(group, {name: shardings[name] for name in names})
        return found

    def _restore(self, group: str, shardings: Mapping[str, Any]) -> dict[str, Any]:
        import jax

        if not shardings:
            return {}
        ocp = _orbax(str(self._path))
        kinds = {
            self._entries[name].key: ocp.ArrayRestoreArgs(
                restore_type=jax.Array,
                sharding=sharding,
                dtype=self._entries[name].stored,
                global_shape=self._entries[name].shape,
            )
            for name, sharding in shardings.items()
        }
        read = self._read(group, kinds)
        return {name: read[self._entries[name].key] for name in shardings}

    def _read(self, group: str, kinds: Mapping[str, Any]) -> Any:
        ocp = _orbax(str(self._path))
        where = self._path / DIRECTORY / group
        arguments = ocp.args.PyTreeRestore(
            item=dict.fromkeys(kinds, 0), restore_args=dict(kinds), partial_restore=True
        )
        try:
            with _checkpointer(ocp) as checkpointer:
                return checkpointer.restore(where.absolute(), args=arguments)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(
                f"{where}: Orbax cannot read it ({reason}); recompile with `jaxrt compile`"
            ) from error


def write_checkpoint(
    path: Path,
    tensors: Iterable[tuple[str, Array]],
    layouts: Mapping[str, Spec],
    mesh: MeshShape,
    *,
    group_bytes: int = GROUP,
) -> None:
    """Writes weights into the artifact at `path`, at most a group of them in memory at once.

    Raises UsageError when Orbax is not installed.
    """
    ocp = _orbax(str(path))
    entries: dict[str, Entry] = {}
    for number, members in enumerate(_groups(tensors, group_bytes)):
        group = f"{number:05d}"
        tree, arguments = {}, {}
        for key, (name, array) in enumerate(members):
            entry = Entry(group=group, key=str(key), dtype=array.dtype.name, shape=array.shape)
            entries[name] = entry
            if array.size:
                tree[entry.key] = np.ascontiguousarray(array.astype(entry.stored, copy=False))
                chunk = _chunk(entry, layouts.get(name, ()), mesh)
                arguments[entry.key] = ocp.SaveArgs(chunk_byte_size=chunk)
        if tree:
            where = (path / DIRECTORY / group).absolute()
            with _checkpointer(ocp) as checkpointer:
                checkpointer.save(where, args=ocp.args.PyTreeSave(item=tree, save_args=arguments))
    index = {name: entry.to_json() for name, entry in entries.items()}
    (path / INDEX).write_text(json.dumps(index, indent=1))


def open_checkpoint(path: Path) -> Checkpoint:
    """The weights of the artifact at `path`; nothing is read but their index.

    Raises ArtifactError when that is damaged.
    """
    where = path / INDEX
    try:
        data = json.loads(where.read_bytes())
        if not isinstance(data, dict):
            raise ValueError("want an object of weights by name")
        entries = {name: Entry.from_json(entry, name) for name, entry in data.items()}
        for name, entry in entries.items():
            _check(name, entry)
    except OSError as error:
        raise ArtifactError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{where}: {error}; recompile with `jaxrt compile`") from error
    return Checkpoint(path, entries)


def _check(name: str, entry: Entry) -> None:
    if not entry.group.isdecimal() or entry.dtype not in _DTYPES:
        raise ValueError(
            f"{name}: found group {entry.group!r}, dtype {entry.dtype!r}; want a number, and one "
            f"of {', '.join(sorted(_DTYPES))}"
        )


def _shape(value: Any) -> tuple[int, ...]:
    if type(value) is not list or not all(type(n) is int and n >= 0 for n in value):
        raise ValueError(f"found {value!r}, want a list of sizes")
    return tuple(value)


def _groups(tensors: Iterable[tuple[str, Array]], limit: int) -> Iterator[list[tuple[str, Array]]]:
    """Consecutive ones of at most `limit` bytes together, or a single larger one."""
    group: list[tuple[str, Array]] = []
    held = 0
    for name, array in tensors:
        if group and held + array.nbytes > limit:
            yield group
            group, held = [], 0
        group.append((name, array))
        held += array.nbytes
    if group:
        yield group


def _chunk(entry: Entry, spec: Spec, mesh: MeshShape) -> int:
    """Orbax cuts the largest dimension until a chunk is so small: then it lies in one piece."""
    parts = math.prod(mesh.sizes[axis] for axis in spec if axis is not None)
    nbytes = math.prod(entry.shape) * entry.stored.itemsize
    return max(SMALLEST, min(LARGEST, math.ceil(nbytes / parts)))


@contextlib.contextmanager
def _checkpointer(ocp: Any) -> Iterator[Any]:
    """Each process for itself: none waits for another."""
    import jax

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jaxrt{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_compression=False, multiprocessing_options=alone
    )
    told = logging.getLogger("absl")
    level = told.level
    told.setLevel(logging.ERROR)  # it warns of what is wanted here: no OCDBT, one process alone
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            yield checkpointer
    finally:
        told.setLevel(level)


def _orbax(where: str) -> Any:
    if importlib.util.find_spec("orbax") is None:
        raise UsageError(
            f"{where}: weights of several devices are Orbax checkpoints, and orbax-checkpoint is "
            "not installed; pip install 'jaxrt[tpu]' or 'jaxrt[cuda]'"
        )
    import orbax.checkpoint as ocp

    return ocp
