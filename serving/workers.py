"""Several server processes behind one port: ready together, restarted one by one, stopped together.

Each worker has a socket of its own on the port (SO_REUSEPORT), and the kernel deals connections
out. The supervisor holds all the sockets: connections that wait for a worker that died are taken by
the next one. It never looks at a request.
"""

import asyncio
import dataclasses
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from jaxrt.errors import UsageError
from jaxrt.serving import server
from jaxrt.serving.monitoring import cells

log = logging.getLogger("jaxrt.serving")

READY, GO = b"r", b"g"

LONGEST_PAUSE = 30.0
"""Seconds between starts of a worker that keeps dying; the first pause is one second."""

SETTLED = 60.0
"""Seconds after which a worker's death is the first one again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Post:
    """What a worker needs to know: who it is, and the descriptors it has inherited."""

    index: int
    count: int
    socket: int
    """Bound to the port, listening already if the worker replaces one that died."""
    control: int
    """To the supervisor: READY goes out, GO comes in, its end is the end of the supervisor."""
    memory: tuple[int, ...]
    """Where each worker counts, itself among them: the numbers outlive it."""

    def __str__(self) -> str:
        memory = ",".join(map(str, self.memory))
        return f"{self.index}/{self.count}/{self.socket}/{self.control}/{memory}"

    @classmethod
    def parse(cls, text: str) -> "Post":
        numbers, _, memory = text.rpartition("/")
        index, count, sock, control = map(int, numbers.split("/"))
        shared = tuple(map(int, memory.split(",")))
        return cls(index=index, count=count, socket=sock, control=control, memory=shared)


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets bound to one port. Raises UsageError when the port is taken."""
    with server.bind(host, port) as probe:  # a shared port could be shared with strangers
        bound = probe.getsockname()[1]
    sockets = [server.bind(host, bound, shared=True)]
    try:
        sockets += [server.bind(host, bound, shared=True) for _ in range(count - 1)]
    except UsageError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def report(post: Post) -> None:
    """Tells the supervisor that this worker is ready, and returns when all are.

    From then on the end of the supervisor is as SIGTERM.
    """
    loop = asyncio.get_running_loop()
    control = socket.socket(fileno=os.dup(post.control))
    control.setblocking(False)
    await loop.sock_sendall(control, READY)
    if await loop.sock_recv(control, 1) != GO:
        raise KeyboardInterrupt(signal.SIGTERM)

    def orphaned() -> None:
        loop.remove_reader(control)
        control.close()
        log.error("the supervisor is gone")
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(control, orphaned)


def cores(index: int, count: int) -> set[int] | None:
    """The worker's share of the cores that this process may use; None where there are too few."""
    mine = sorted(os.sched_getaffinity(0))
    return set(mine[index::count]) if 1 < count <= len(mine) else None


@dataclasses.dataclass(kw_only=True, slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    control: socket.socket


class Supervisor:
    """Starts the workers, and keeps their number until SIGTERM or SIGINT. Used once."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        command: Callable[[Post], Sequence[str]],
        opened: Callable[[], None],
    ) -> None:
        """`command` is what starts a worker; `opened` is called when all of them serve."""
        self._sockets = sockets
        self._command = command
        self._opened = opened
        self._workers: dict[int, _Worker] = {}
        self._memory: tuple[int, ...] = ()
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """The exit code: 0 when every worker finished what it had accepted."""
        self._memory = tuple(cells.shared() for _ in self._sockets)
        try:
            return await self._run()
        finally:
            for descriptor in self._memory:
                os.close(descriptor)

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        count = len(self._sockets)
        # What the first one has to prepare, such as a cache, the others find.
        if not await self._start(0):
            return await self._failed(0)
        ready = await asyncio.gather(*(self._start(index) for index in range(1, count)))
        if not all(ready):
            return await self._failed(ready.index(False) + 1)
        for index, sock in enumerate(self._sockets):
            server.listen(sock)  # here, so that the port is open when it is announced
            await self._go(index)
        if not self._stopping.is_set():
            self._opened()
        codes = await asyncio.gather(*(self._tend(index) for index in range(count)))
        return int(any(codes))

    def _stop(self, number: int) -> None:
        log.info("%s: stopping %d workers", signal.Signals(number).name, len(self._workers))
        self._stopping.set()
        self._signal()

    def _signal(self) -> None:
        for worker in self._workers.values():
            if worker.process.returncode is None:
                worker.process.send_signal(signal.SIGTERM)

    async def _start(self, index: int) -> bool:
        """Whether the worker became ready."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        sock = self._sockets[index]
        post = Post(
            index=index,
            count=len(self._sockets),
            socket=sock.fileno(),
            control=theirs.fileno(),
            memory=self._memory,
        )
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command(post),
                pass_fds=(post.socket, post.control, *post.memory),
                process_group=0,  # Ctrl-C is for the supervisor, which passes it on
            )
        self._workers[index] = _Worker(process=process, control=ours)
        if self._stopping.is_set():
            self._signal()
        try:
            return await asyncio.get_running_loop().sock_recv(ours, 1) == READY
        except ConnectionError:
            return False

    async def _go(self, index: int) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._workers[index].control, GO)
        except ConnectionError:
            log.error("worker %d died before it served", index)  # and is tended to

    async def _failed(self, index: int) -> int:
        """A worker that cannot start has said why: all stop with its exit code."""
        code = await self._workers[index].process.wait()
        self._stopping.set()
        self._signal()
        await asyncio.gather(*(worker.process.wait() for worker in self._workers.values()))
        return code if code >= 0 else 128 - code

    async def _tend(self, index: int) -> int:
        """Keeps one worker running; its exit code when all stop."""
        deaths = 0
        while True:
            started = time.monotonic()
            worker = self._workers[index]
            code = await worker.process.wait()
            worker.control.close()
            if self._stopping.is_set():
                return code
            deaths = deaths + 1 if time.monotonic() - started < SETTLED else 1
            pause = min(LONGEST_PAUSE, 2.0 ** (deaths - 1)) if deaths > 1 else 0.0
            log.error("worker %d ended (%s); another one starts", index, _reason(code))
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
                return code
            except TimeoutError:
                pass
            if await self._start(index):
                await self._go(index)


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
