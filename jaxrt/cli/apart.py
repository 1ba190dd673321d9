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

SHAREABLE = ("cpu",)
"""Platforms of devices that two processes can use at once. A TPU belongs to one, and a GPU's memory
is the server's."""


class Apart:
    """Fills the cache that the server reads from. Its methods block; any thread may call them."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._lock = threading.Lock()
        self._running: set[_Process] = set()
        self._idle: list[_Process] = []
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

    def rest(self) -> None:
        """Ends the processes that wait for an order; the next order starts one."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._running -= set(idle)
        for process in idle:
            process.end()

    def stop(self) -> None:
        """Ends the processes, which remove what they wrote halfway; no other one starts."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
            for process in running:
                process.stop()
        for process in running:
            process.gone()

    def _compile(self, name: str, path: Path, calm: bool) -> None:
        order = Order(name=name, path=str(path), choices=self._choices, calm=calm)
        process = None if calm else self._waiting()
        text = process.ask(order) if process else ""
        if not text:  # none was waiting, or its time was up
            process = self._start()
            text = process.ask(order)
        assert process is not None
        if self._stopped:
            raise Unavailable("the server is shutting down")
        if not text:
            code = process.end()
            with self._lock:
                self._running.discard(process)
            raise ModelError(
                f"{path}: the process that compiled it {_ending(code)}; see the log before this, "
                "and whether the machine has the memory"
            )
        with self._lock:
            if calm:
                self._running.discard(process)
            else:
                self._idle.append(process)
        if calm:
            process.end()
        if (error := json.loads(text)) is not None:
            raise read(error)

    def _waiting(self) -> "_Process | None":
        """A process that has done an order and waits for another."""
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.alive:
                    return process
                self._running.discard(process)
                process.end()
        return None

    def _start(self) -> "_Process":
        with self._lock:
            if self._stopped:
                raise Unavailable("the server is shutting down")
            process = _Process()
            self._running.add(process)
        return process


class _Process:
    """One `jaxrt.cli.precompile`."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self._results = os.fdopen(reader)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "jaxrt.cli.precompile", str(writer)],
                stdin=subprocess.PIPE,
                stdout=sys.stderr,  # what libraries print there belongs to the log
                pass_fds=(writer,),
                text=True,
            )
        except OSError:
            self._results.close()
            raise
        finally:
            os.close(writer)

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def ask(self, order: Order) -> str:
        """A line with the result; none where the process has ended."""
        stdin = self._popen.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(order.to_json()) + "\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):  # its exit code says more
            return ""
        return self._results.readline()

    def end(self) -> int:
        """Waits until it has ended by itself, and gives its exit code."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            assert self._popen.stdin is not None
            self._popen.stdin.close()
        code = self._popen.wait()
        self._results.close()
        return code

    def stop(self) -> None:
        self._popen.terminate()

    def gone(self) -> None:
        """Waits after `stop`, and ends what does not end."""
        try:
            self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._popen.kill()


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
