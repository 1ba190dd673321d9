"""What TensorFlow answers to functions that a test file names, recorded by a process of its own.

python tests/host_recordings.py TEST_FILE OUT    # runs its `cases(tf)`

`cases` gives name → (function, list of argument tuples). Strings are object arrays of bytes.
"""

import dataclasses
import importlib.util
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.converters.host import graph, native
from jaxrt.errors import RequestError

Array = np.ndarray[Any, Any]
Case = tuple[Callable[..., Any], Sequence[tuple[Any, ...]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Arrays in, arrays out; or the kernel's message."""

    arguments: tuple[Any, ...]
    results: tuple[Any, ...]
    error: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """One function: its GraphDef, and what it answered."""

    graph: bytes
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    runs: tuple[Run, ...]


def record(test_file: str, out: Path) -> dict[str, Recording]:
    done = subprocess.run(
        [sys.executable, __file__, test_file, str(out)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:].decode(errors="replace")
    stored: dict[str, Recording] = {}
    for name, (data, feeds, fetches, runs) in pickle.loads(out.read_bytes()).items():
        stored[name] = Recording(data, feeds, fetches, tuple(Run(*run) for run in runs))
    return stored


def check(recording: Recording) -> None:
    """The native executor gives every answer of the recording, bit for bit."""
    outputs = {f"y{i}": name for i, name in enumerate(recording.fetches)}
    inputs = {f"x{i}": name for i, name in enumerate(recording.feeds)}
    executor = native.Executor(graph.parse(recording.graph), inputs, outputs, {})
    for run in recording.runs:
        arguments = {f"x{i}": array for i, array in enumerate(run.arguments)}
        try:
            found = list(executor.run(arguments).values())
        except RequestError as error:
            assert run.error == _until_zero(str(error))
        else:
            assert run.error is None, f"TensorFlow said {run.error}; found {found}"
            for ours, theirs in zip(found, run.results, strict=True):
                assert_same(ours, theirs)


def assert_same(found: Array, wanted: Array) -> None:
    """Dtype, shape and bits."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if found.dtype == object:
        assert found.tolist() == wanted.tolist()
    else:
        unequal = np.flatnonzero(_bits(found) != _bits(wanted))
        assert not unequal.size, (
            unequal[:5],
            found.ravel()[unequal[:5]],
            wanted.ravel()[unequal[:5]],
        )


def strings(*values: bytes) -> Array:
    """[n] objects."""
    out = np.empty(len(values), object)
    out[:] = values
    return out


def scalar(value: bytes) -> Array:
    """[] object."""
    out = np.empty((), object)
    out[()] = value
    return out


def _bits(array: Array) -> Array:
    flat = np.ascontiguousarray(array).ravel()
    return flat.view(f"u{flat.itemsize}") if flat.itemsize in (1, 2, 4, 8) else flat


def _until_zero(message: str) -> str:
    """TensorFlow's Python cuts a message at its first zero byte."""
    raw = message.encode("utf-8", "surrogateescape").partition(b"\0")[0]
    return raw.decode("utf-8", "surrogateescape")


def _message(message: str) -> str:
    """The kernel's own words, without the names of the node and of the function."""
    text = re.sub(r"^(\{\{\w+ [^}]*\}\} ?)+", "", message)
    return re.split(r"\n\t \[\[| \[Op:", text)[0]


def _array(tensor: Any) -> Any:
    value = tensor.numpy()
    return scalar(value) if isinstance(value, bytes) else value


def _run(function: Any, arguments: tuple[Any, ...], tf: Any) -> tuple[Any, ...]:
    try:
        results = function(*[tf.constant(a) for a in arguments])
    except tf.errors.OpError as error:
        return arguments, (), _message(error.message)
    except UnicodeDecodeError as error:  # of TensorFlow's Python, on the way to its exception
        return arguments, (), _message(error.object.decode("utf-8", "surrogateescape"))
    return arguments, tuple(_array(result) for result in results), None


def _trace(case: Case, tf: Any) -> tuple[Any, ...]:
    function, runs = case
    tensors = [tf.constant(a) for a in runs[0]]
    specs = [tf.TensorSpec([None] * t.shape.rank, t.dtype) for t in tensors]
    flat = tf.function(
        lambda *a: tf.nest.flatten(function(*a), expand_composites=True), autograph=False
    )
    concrete = flat.get_concrete_function(*specs)
    return (
        concrete.graph.as_graph_def().SerializeToString(),
        tuple(tensor.name for tensor in concrete.inputs),
        tuple(tensor.name for tensor in concrete.outputs),
        [_run(concrete, run, tf) for run in runs],
    )


def _main(test_file: str, out: str) -> None:
    import tensorflow as tf

    spec = importlib.util.spec_from_file_location("cases", test_file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stored = {name: _trace(case, tf) for name, case in module.cases(tf).items()}
    Path(out).write_bytes(pickle.dumps(stored))


if __name__ == "__main__":
    _main(*sys.argv[1:])
