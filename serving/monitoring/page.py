"""The page that Prometheus scrapes: whichever process is asked, it shows the whole server."""

import asyncio
import mmap
import os
from collections.abc import Sequence

from jaxrt.serving.answer import Answer
from jaxrt.serving.monitoring import exposition, families
from jaxrt.serving.monitoring.cells import SIZE, Numbers, read
from jaxrt.serving.monitoring.registry import Registry

METHODS = frozenset(("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"))
"""Any that TensorFlow Serving's HTTP layer knows."""


class Page:
    """Prometheus text under one path, query strings refused, as TensorFlow Serving has it."""

    def __init__(self, path: str, registry: Registry, workers: Sequence[int] = ()) -> None:
        """`workers`: of several processes, the descriptors of all their memory (cells.shared)."""
        self.path = path.encode()
        self._memories = [mmap.mmap(one, SIZE, access=mmap.ACCESS_READ) for one in workers]
        self._memories = self._memories or [registry.cells.memory]
        registry.gauge(families.WORKERS).set(1)
        registry.gauge(families.PROCESS).set(os.getpid())

    def is_asked(self, method: str, path: bytes) -> bool:
        """Whether a request, its `?query` included, is for this page."""
        if not path.startswith(self.path) or method not in METHODS:
            return False
        return path[len(self.path) : len(self.path) + 1] in (b"", b"?")

    async def answer(self, path: bytes) -> Answer:
        if path != self.path:
            text = f"Unexpected path: {path.decode('latin-1')}. Should be {self.path.decode()}"
            return _answer(400, text)
        return _answer(200, await asyncio.to_thread(self.text))

    def text(self) -> str:
        """All of it; takes milliseconds, so not on the event loop."""
        readings = [read(memory) for memory in self._memories]
        found = exposition.merged(readings)
        processes = [_process(reading) for reading in readings]
        return exposition.tensorflow_text(found) + exposition.jaxrt_text(found, processes)


def _process(reading: Numbers) -> int:
    return int(reading.get((families.PROCESS.name, ()), (0,))[0])


def _answer(status: int, text: str) -> Answer:
    body = text.encode("utf-8", "replace")
    headers = ((b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()))
    return Answer(status, headers, body)
