"""The `jaxrt` command as its users have it: real processes, files and sockets."""

import contextlib
import dataclasses
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from click.testing import CliRunner

import jaxrt
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.cli import main
from jaxrt.manifest import Manifest

READY_WITHIN = 120.0
"""Seconds; a machine that runs other tests too is slow."""

Array = np.ndarray[Any, Any]

ROWS = (1, 2, 4, 7, 8, 9, 24)
"""Below, between, at and above the buckets, and three times the largest."""


def environment(home: Path, *, path: str = "", **more: str) -> dict[str, str]:
    """Of a process whose caches and temporary files are below `home`; `path` is for imports."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("JAXRT_", "XLA_", "PYTHON"))}
    code = str(Path(jaxrt.__file__).parent.parent)
    own = {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, (path, code))),
        "TMPDIR": str(home / "tmp"),
        "XDG_CACHE_HOME": str(home),
    }
    return kept | own | more


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "jaxrt", *map(str, arguments)]


def run(
    *arguments: str | Path, home: Path, timeout: float = 300, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end in the folder `home`; `more` is environment."""
    return subprocess.run(
        command(*arguments),
        cwd=home,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_here(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """As `run`, in this process: for errors that come before a device is chosen."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The error a command ended with; nothing else is on its standard error."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("jaxrt: error: ")
    return line


class Server:
    """`jaxrt serve`, ready to be asked (unless told not to wait) until the block is left."""

    def __init__(self, *arguments: str | Path, home: Path, wait: bool = True, **more: str) -> None:
        self._wait = wait
        self.log_path = home / f"server.{time.monotonic_ns()}.log"
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                command("serve", *arguments, "--rest_api_port", "auto"),
                cwd=home,
                env=environment(home, **more),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.port = 0

    def __enter__(self) -> Self:
        if not self._wait:
            return self
        try:
            self.port = int(self.wait_for(r"ready in .*localhost:(\d+)/")[1])
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_for(self, pattern: str, within: float = READY_WITHIN) -> "re.Match[str]":
        """The first place in the log that the pattern fits."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            running = self.process.poll() is None
            if found := re.search(pattern, self.log):
                return found
            assert running, f"it ended with {self.process.returncode}:\n{self.log}"
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} after {within} s:\n{self.log}")

    def connect(self, timeout: float = 120) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("localhost", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer; JSON is parsed."""
        with contextlib.closing(self.connect()) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text)
            answer = connection.getresponse()
            content = answer.read()
            is_json = "json" in (answer.getheader("content-type") or "")
            return answer.status, json.loads(content) if is_json else content.decode()

    def predict(
        self, model: str, inputs: Mapping[str, Any], signature: str = "serving_default"
    ) -> tuple[int, Any]:
        """Columns in; status, and columns or the error out."""
        body = {
            "signature_name": signature,
            "inputs": {alias: np.asarray(x).tolist() for alias, x in inputs.items()},
        }
        status, answer = self.ask("POST", f"/v1/models/{model}:predict", body)
        return status, answer["outputs" if status == 200 else "error"]

    def stop(self, number: int = signal.SIGTERM, within: float = 60) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(within)

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """The artifact of `rows`, and what its compile printed."""

    path: Path
    stdout: str
    stderr: str
    seconds: float


def questions() -> dict[str, tuple[str, dict[str, Array]]]:
    """Name → signature of `rows` and inputs, to be asked of TensorFlow and of jaxrt."""
    random = np.random.default_rng(1)
    found: dict[str, tuple[str, dict[str, Array]]] = {}
    for n in ROWS:
        x = random.normal(size=(n, 4)).astype(np.float32)
        found[f"dense {n}"] = ("serving_default", {"x": x})
    for n in (1, 3, 4, 8):
        x = random.normal(size=(n, 3)).astype(np.float32)
        found[f"centered {n}"] = ("centered", {"x": x})
    for n, length in ((1, 4), (3, 6), (9, 4), (2, 5), (1, 9)):
        ids = random.integers(0, 10, (n, length)).astype(np.int32)
        found[f"tokens {n}x{length}"] = ("tokens", {"ids": ids})
    found["slow"] = ("slow", {"x": np.full((1, 1), 100, np.float32)})
    return found


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A question and TensorFlow's answer."""

    signature: str
    inputs: dict[str, Array]
    answer: dict[str, Array]

    def assert_answered(self, status: int, outputs: Any) -> None:
        """By the columns of an HTTP answer, to float32's precision."""
        assert status == 200, outputs
        found = outputs if len(self.answer) > 1 else {next(iter(self.answer)): outputs}
        assert found.keys() == self.answer.keys()
        for alias, want in self.answer.items():
            got = np.asarray(found[alias], want.dtype)
            assert got.shape == want.shape
            exact = want.dtype.kind in "iu"
            np.testing.assert_allclose(got, want, rtol=0, atol=0 if exact else 2e-6, err_msg=alias)


def without_tensorflow(home: Path) -> str:
    """A folder for PYTHONPATH that makes Python think that TensorFlow is not installed."""
    folder = home / "hidden"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['tensorflow'] = None\n")
    return str(folder)


def signed(artifact: Path, home: Path, change: Callable[[Manifest], Manifest]) -> Path:
    """A copy whose manifest was changed by the library, so that all hashes are right."""
    path = home / "changed.jaxrt"
    with open_artifact(artifact) as found, ArtifactWriter(path) as writer:
        for name in found.manifest.files:
            shutil.copy(found.file(name), writer.file(name))
        writer.commit(change(found.manifest))
    return path


def debris(directory: Path) -> list[str]:
    """Hidden files, which are the unfinished or replaced ones."""
    return sorted(p.name for p in directory.iterdir() if p.name.startswith("."))


def bridges_of(home: Path) -> Iterator[int]:
    """Processes of TensorFlow's side whose scratch directory is below `home`."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace")
                if "jaxrt.converters.bridge" in words and str(home) in words:
                    yield int(process.name)


def wait_for_bridge(home: Path) -> int:
    """The process of TensorFlow's side, once it runs."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for pid in bridges_of(home):
            return pid
        time.sleep(0.01)
    raise AssertionError("TensorFlow's process did not start")
