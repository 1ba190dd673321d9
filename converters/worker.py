"""Drives the process that knows TensorFlow; nothing here imports it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jaxrt
from jaxrt.converters import arrays
from jaxrt.converters.arrays import Array
from jaxrt.converters.child import Child, Crash, Timeout, last_words, receive, send
from jaxrt.converters.records import (
    Kind,
    Lowered,
    ModelRecord,
    Refused,
    Sample,
    Segmented,
    TableContents,
)
from jaxrt.converters.scratch import scratch
from jaxrt.errors import ConversionError, ModelError
from jaxrt.manifest import HostEntry

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


class Bridge:
    """One TensorFlow process for many models: started when first needed, again after a crash.

    A context manager: leaving it ends the process and deletes its files (arrays already mapped
    stay valid). Its methods may be called from any thread; they take turns. All raise ModelError
    when TensorFlow is not installed or the SavedModel cannot be read.
    """

    def __init__(
        self,
        *,
        timeout: float = 1800.0,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        """`timeout` is for one request, in seconds; `environment` is os.environ by default."""
        self._timeout = timeout
        self._environment = environment
        self._python = python
        self._lock = threading.RLock()
        self._child: Child | None = None
        self._directory: Path | None = None
        self._files = contextlib.ExitStack()
        self._starts = 0
        self._lowered: dict[tuple[str, ...], dict[str, tuple[str, bool]]] = {}
        self._weights: dict[tuple[str, ...], dict[str, Array]] = {}
        self._closed: dict[tuple[str, ...], set[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process and deletes its files. The bridge may be used again."""
        with self._lock:
            self._stop()
            self._files.close()
            self._directory = None
            self._weights.clear()

    @property
    def pid(self) -> int | None:
        """Of TensorFlow's process; None when it does not run."""
        with self._lock:
            return None if self._child is None else self._child.process.pid

    def open_model(self, path: str | Path, tags: Sequence[str] = ("serve",)) -> ModelRecord:
        """Reads signatures, not weights. `path` is a version's directory."""
        where = os.fspath(Path(path).absolute())
        request = {"do": "open", "path": where, "tags": list(tags)}
        with self._lock:
            return ModelRecord.from_json(self._ask(request)["model"])

    def close_model(self, model: ModelRecord) -> None:
        """Frees TensorFlow's memory of the model; it may be used again, which loads it again."""
        with self._lock:
            if self._child is not None:
                self._ask({"do": "close", **self._which(model)})

    def forget(self, path: str, tags: Sequence[str]) -> None:
        """As if the model at `path`, absolute, had never been opened: another may come there."""
        with self._lock:
            for known in (self._lowered, self._weights, self._closed):
                known.pop((path, *tags), None)
            if self._child is not None:
                self._ask({"do": "close", "path": path, "tags": list(tags), "closed": []})

    def segment(
        self, model: ModelRecord, signature: str, *, open_sizes: bool = True
    ) -> Segmented | Refused:
        """The signature cut into host and device stages, checked against TensorFlow's answers.

        `open_sizes`: values that cross may have sizes that the signature leaves open beside the
        rows. Whoever lowers a stage later gets that of the last cut.
        The files of host stages live as long as the bridge is open. Raises ConversionError for
        an unknown signature.
        """
        with self._lock:
            closed = self._closed.setdefault(_key(model), set())
            (closed.discard if open_sizes else closed.add)(signature)
            request = {"do": "segment", "signature": signature, **self._which(model)}
            answer = self._tried(request, "cut")
            if isinstance(answer, Refused):
                return answer
            return Segmented.from_json(answer["segmented"])

    def tables(self, model: ModelRecord, signature: str, stage: int) -> dict[str, TableContents]:
        """The contents of the hash tables of a host stage, by node.

        Raises ConversionError for a signature that has no such stage.
        """
        request = {"do": "tables", "signature": signature, "stage": stage, **self._which(model)}
        with self._lock:
            answer = self._ask(request)
            return {name: _table(found) for name, found in answer["tables"].items()}

    def lower(
        self,
        model: ModelRecord,
        signature: str,
        shapes: Mapping[str, Sequence[int]],
        stage: int | None = None,
    ) -> Lowered | Refused:
        """The signature, or a device stage of it, at one set of input shapes, or why not.

        Shapes are by alias, or by the names of the values that the stage takes. A crash or a
        timeout of TensorFlow is a refusal too. Raises ConversionError for an unknown signature
        or stage, or when `shapes` does not name exactly its inputs.
        """
        request = {
            "do": "lower",
            "signature": signature,
            "shapes": {alias: [int(n) for n in shape] for alias, shape in shapes.items()},
            "stage": stage,
            **self._which(model),
        }
        with self._lock:
            answer = self._tried(request, "lowered")
            if isinstance(answer, Refused):
                return answer
            file = Path(answer["file"])
            lowered = Lowered.from_json(answer["lowered"], file.read_bytes())
            file.unlink()
            names = self._lowered.setdefault(_key(model), {})
            for weight in lowered.weights:
                names.setdefault(weight.name, (signature, stage is not None))
            return lowered

    def _tried(self, request: Mapping[str, Any], done: str) -> dict[str, Any] | Refused:
        """The answer, or the refusal in it; a crash or a timeout is one too."""
        key = request["signature"]
        try:
            answer = self._request(request)
        except Crash as crash:
            reason = f"TensorFlow's process died on it: {crash}"
            return Refused(signature=key, kind=Kind.CRASH, reason=reason)
        except Timeout:
            reason = f"TensorFlow had not {done} it after {self._timeout:g} s."
            return Refused(signature=key, kind=Kind.TIMEOUT, reason=reason)
        return Refused.from_json(answer["refused"]) if "refused" in answer else answer

    def weights(self, model: ModelRecord, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Name → array, read-only, mapped from disk: of all lowered signatures, or those named.

        Raises KeyError for a name that no lowered signature has.
        """
        with self._lock:
            known = self._lowered.get(_key(model), {})
            wanted = list(known) if names is None else list(names)
            found = self._weights.setdefault(_key(model), {})
            missing = [name for name in wanted if name not in found]
            if missing:
                request = {
                    "do": "weights",
                    "names": missing,
                    "signatures": sorted({known[n][0] for n in missing if not known[n][1]}),
                    "staged": sorted({known[n][0] for n in missing if known[n][1]}),
                    **self._which(model),
                }
                answer = self._ask(request)
                found |= {d["name"]: arrays.load(d) for d in answer["arrays"]}
            return {name: found[name] for name in wanted}

    def run(
        self, model: ModelRecord, signature: str, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """TensorFlow's own answers, by alias, on the CPU.

        Strings are object arrays of bytes. Raises ConversionError for inputs that are not the
        signature's, and where TensorFlow itself fails.
        """
        with self._lock, tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
            for alias in inputs:
                if alias not in model.signatures[signature].inputs:
                    raise ConversionError(
                        f"{model.path}: signature {signature!r}: found an input {alias!r}, want "
                        f"{sorted(model.signatures[signature].inputs)}"
                    )
            given = _given(inputs, Path(folder))
            answer = self._ask(
                {"do": "run", "signature": signature, "inputs": given, **self._which(model)}
            )
            return {d["name"]: _taken(d) for d in answer["arrays"]}

    def sample(self, model: ModelRecord, signature: str, rows: int, seed: int) -> Sample | Refused:
        """Inputs of so many rows, or of the declared sizes, that TensorFlow takes, and its answer.

        Refused where it takes none, or where a request changes what the next one is answered.
        """
        request = {"do": "sample", "signature": signature, "rows": rows, "seed": seed}
        with self._lock:
            answer = self._tried({**request, **self._which(model)}, "sampled")
            if isinstance(answer, Refused):
                return answer
            return Sample(
                inputs={d["name"]: _taken(d) for d in answer["inputs"]},
                answers={d["name"]: _taken(d) for d in answer["answers"]},
            )

    def run_host(
        self,
        model: ModelRecord,
        host: HostEntry,
        inputs: Mapping[str, Array],
        *,
        file: Callable[[str], Path],
    ) -> dict[str, Array]:
        """A host segment's answer to one request, by what a server runs it with.

        `file` says where the files that the entry names are. Raises ModelError where it fails.
        """
        with self._lock, tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
            request = {
                "do": "host",
                "executor": host.executor,
                "host_signature": host.signature,
                "graph": str(file(host.graph)) if host.graph else None,
                "feeds": dict(host.feeds),
                "fetches": dict(host.fetches),
                "targets": list(host.targets),
                "tables": {node: str(file(name)) for node, name in host.tables.items()},
                "inputs": _given(inputs, Path(folder)),
            }
            answer = self._ask({**request, **self._which(model)})
            return {d["name"]: _taken(d) for d in answer["arrays"]}

    def _which(self, model: ModelRecord) -> dict[str, Any]:
        closed = sorted(self._closed.get(_key(model), ()))
        return {"path": model.path, "tags": list(model.tags), "closed": closed}

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`_request`, where a crash is an error."""
        try:
            return self._request(request)
        except Crash as crash:
            raise ModelError(
                f"{request['path']}: TensorFlow's process died ({crash}); see whether "
                "tf.saved_model.load takes the model"
            ) from None
        except Timeout:
            raise ModelError(
                f"{request['path']}: TensorFlow gave no answer in {self._timeout:g} s"
            ) from None

    def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        child = self._running()
        logged = child.log.stat().st_size
        try:
            send(child, json.dumps(request).encode() + b"\n")
            answer = receive(child, time.monotonic() + self._timeout)
        except Timeout:
            self._stop()
            raise
        except (BrokenPipeError, EOFError):
            code = self._stop()
            raise Crash(last_words(child.log, logged, code)) from None
        except BaseException:  # an interrupt: the answer may come late and be taken for another
            self._stop()
            raise
        if "error" in answer:
            raise (ConversionError if answer["conversion"] else ModelError)(answer["error"])
        return answer

    def _running(self) -> Child:
        if self._child is not None and self._child.process.poll() is not None:
            self._stop()  # it died between requests: nobody's fault
        return self._child if self._child is not None else self._start()

    def _start(self) -> Child:
        self._starts += 1
        folder = self._scratch() / str(self._starts)
        folder.mkdir()
        child_reads, requests = os.pipe()
        answers, child_writes = os.pipe()
        log = folder / "log"
        arguments = [str(child_reads), str(child_writes), str(folder)]
        # The kernel's signal comes when the thread that started the child ends, not the process:
        # only the main thread may ask for it.
        if threading.current_thread() is threading.main_thread():
            arguments += ["--die-with-parent", str(os.getpid())]
        try:
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [self._python, "-P", "-m", "jaxrt.converters.bridge", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    pass_fds=(child_reads, child_writes),
                    env=self._child_environment() | {"TMPDIR": str(folder)},
                )
        except BaseException:
            os.close(requests)
            os.close(answers)
            raise
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self._child = Child(process, requests, answers, log)
        return self._child

    def _child_environment(self) -> dict[str, str]:
        given = os.environ if self._environment is None else self._environment
        # XLA_FLAGS is jax's: TensorFlow's XLA aborts on a flag that it does not know.
        kept = {k: v for k, v in given.items() if k != "XLA_FLAGS"}
        home = str(Path(jaxrt.__file__).parent.parent)
        paths = [p for p in (kept.get("PYTHONPATH"), home) if p]
        return {**kept, **_QUIET, "PYTHONPATH": os.pathsep.join(paths)}

    def _stop(self) -> int | None:
        """Kills the child if it runs. Returns its exit code: what it died of, if it did."""
        child, self._child = self._child, None
        if child is None:
            return None
        for fd in (child.requests, child.answers):
            with contextlib.suppress(OSError):
                os.close(fd)
        try:
            return child.process.wait(timeout=5)  # it ends by itself when the pipe does
        except subprocess.TimeoutExpired:
            child.process.kill()
            return child.process.wait()

    def _scratch(self) -> Path:
        if self._directory is None:
            self._directory = self._files.enter_context(scratch())
        return self._directory


def _given(inputs: Mapping[str, Array], folder: Path) -> list[dict[str, Any]]:
    """Writes arrays into the folder, and says where."""
    described = []
    for number, (alias, array) in enumerate(inputs.items()):
        file = folder / str(number)
        arrays.write(file, array)
        dtype = "string" if array.dtype.kind in "OSU" else array.dtype.name
        described.append(arrays.describe(alias, array, dtype, file))
    return described


def _taken(described: Mapping[str, Any]) -> Array:
    """Loads an array and removes its file: a mapping keeps the bytes."""
    found = arrays.load(described)
    arrays.remove(Path(described["file"]))
    return found


def _table(described: Mapping[str, Any]) -> TableContents:
    keys, values = described["keys"], described["values"]
    return TableContents(
        key_dtype=keys["dtype"],
        value_dtype=values["dtype"],
        keys=_taken(keys),
        values=_taken(values),
    )


def _key(model: ModelRecord) -> tuple[str, ...]:
    return (model.path, *model.tags)
