"""SavedModels compiled in a process of their own: a server's memory and latency stay as they are.

A compiler that dies, or is killed for its memory, takes nobody with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from jaxrt.cli.choices import Choices
from jaxrt.cli.precompile import Order, read
from jaxrt.errors import ModelError, Unavailable

if TYPE_CHECKING:
    from jaxrt.cli.savedmodels import Cache

PATIENCE = 10.0
"""Seconds that a process gets to clean up in when it is told to end."""

SHAREABLE = ("cpu", "gpu")
"""Platforms of devices that two processes can use at once; a TPU belongs to one."""


class Apart:
    """Fills the cache that the server reads from. Its methods block; any thread may call them."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def artifact(self, cache: "Cache", name: str, path: Path, *, calm: bool) -> Path:
        """The artifact of a SavedModel, compiled unless the cache has it.

        Raises what the compile raised, and ModelError when its process died.
        """
        found = cache.find(path)
        if found is not None:
            return found
        if cache.target.platform not in SHAREABLE:
            return cache.artifact(name, path)
        self._compile(name, path, calm)
        found = cache.find(path)
        if found is None:
            raise ModelError(f"{path}: changed while it was compiled; it is compiled again")
        return found

    def stop(self) -> None:
        """Ends the processes, which remove what they wrote halfway; no other one starts."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
            for process in running:
                process.terminate()
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _compile(self, name: str, path: Path, calm: bool) -> None:
        reader, writer = os.pipe()
        with os.fdopen(reader) as result:
            try:
                process = self._start(writer)
            finally:
                os.close(writer)
            order = Order(
                name=name, path=str(path), choices=self._choices, calm=calm, result=writer
            )
            assert process.stdin is not None
            text = ""
            with process:
                # It watches its standard input, which closes when it has ended.
                with contextlib.suppress(BrokenPipeError):  # its exit code says more
                    process.stdin.write(json.dumps(order.to_json()) + "\n")
                    process.stdin.flush()
                    text = result.read()
                code = process.wait()
            with self._lock:
                self._running.discard(process)
        if self._stopped:
            raise Unavailable("the server is shutting down")
        if not text:
            raise ModelError(
                f"{path}: the process that compiled it {_ending(code)}; see the log before this, "
                "and whether the machine has the memory"
            )
        if (error := json.loads(text)) is not None:
            raise read(error)

    def _start(self, result: int) -> "subprocess.Popen[str]":
        # A GPU's memory is the server's, and is not to be taken whole a second time.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        with self._lock:
            if self._stopped:
                raise Unavailable("the server is shutting down")
            process = subprocess.Popen(
                [sys.executable, "-m", "jaxrt.cli.precompile"],
                stdin=subprocess.PIPE,
                stdout=sys.stderr,  # what libraries print there belongs to the log
                pass_fds=(result,),
                env=environment,
                text=True,
            )
            self._running.add(process)
        return process


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
