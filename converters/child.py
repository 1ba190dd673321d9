"""A child process that answers requests: one JSON line each way, over two pipes."""

import dataclasses
import json
import os
import re
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any

_PREFIX = re.compile(r"^[FEWI]\d{4} [\d:. ]+\d+ ([\w.]+:\d+\] )")
"""absl's log prefix, up to the file's name."""


class Crash(Exception):
    """TensorFlow's process died; the text is the last line it wrote."""


class Timeout(Exception):
    """No answer in time; the process was killed."""


@dataclasses.dataclass(slots=True)
class Child:
    """The process, its two pipes, and the file with what it printed."""

    process: subprocess.Popen[bytes]
    requests: int
    answers: int
    log: Path
    buffer: bytes = b""


def send(child: Child, line: bytes) -> None:
    """Raises BrokenPipeError when the child is gone."""
    while line:
        line = line[os.write(child.requests, line) :]


def receive(child: Child, until: float) -> dict[str, Any]:
    """Raises EOFError when the child is gone, Timeout when `until` (monotonic) has passed."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.answers, selectors.EVENT_READ)
        while b"\n" not in child.buffer:
            if not selector.select(max(0.0, until - time.monotonic())):
                child.process.kill()
                raise Timeout
            found = os.read(child.answers, 1 << 20)
            if not found:
                raise EOFError
            child.buffer += found
    line, _, child.buffer = child.buffer.partition(b"\n")
    answer: dict[str, Any] = json.loads(line)
    return answer


def last_words(log: Path, start: int, code: int | None) -> str:
    """The line that says why, else the last one written since `start`, else the exit code."""
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [_PREFIX.sub(r"\1", line.strip()) for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if "absl::InitializeLog" not in line]
    failed = [line for line in lines if "Check failed" in line]
    ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return [ended, *lines, *failed[:1]][-1][:500]
