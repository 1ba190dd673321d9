"""Load on an HTTP server from one thread: as fast as answers come, or at a constant rate.

    python bench/http_load.py 127.0.0.1:8501 /v1/models/m:predict body.json --connections 16
    python bench/http_load.py 127.0.0.1:8501 /v1/models/m:predict body.json --rate 2000

The closed loop sends the next request of a connection when the last one was answered: it shows what
the server can do, and hides what waiting costs. The open loop sends at instants fixed beforehand,
whatever the server does, and counts latency from those instants: its tail is what clients see.
Sockets are used bare, because an HTTP library costs more than the server that is measured.
"""

import argparse
import collections
import dataclasses
import json
import math
import select
import socket
import time
from collections.abc import Iterator, Sequence

MAX_CONNECTIONS = 256
"""Requests an open loop has under way at most; later ones wait, and their latency says so."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One run. Latencies and lags in seconds."""

    sent: int
    answered: int
    failed: int
    """Answers that were not 200, and connections that broke."""
    seconds: float
    rate: float
    """Good answers a second."""
    p50: float
    p90: float
    p99: float
    worst: float
    lag_p99: float
    """How late the sender itself was (open loop): above a millisecond the run says little."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """When requests are sent: `rate` a second for an open loop, None for a closed one."""

    connections: int
    seconds: float
    rate: float | None = None
    warmup: float = 0.5
    """Seconds at the start whose answers are not counted."""


def request(path: str, body: bytes, host: str = "localhost") -> bytes:
    """One POST as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("_answer", "_missing", "_unsent", "due", "socket", "status")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.status = b""
        self._unsent = memoryview(b"")
        self._answer = b""
        self._missing = -1

    def send(self, message: bytes, due: float) -> bool:
        """Whether all of it went out at once."""
        self.due, self._answer, self._missing = due, b"", -1
        self._unsent = memoryview(message)
        return self.flush()

    def flush(self) -> bool:
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def receive(self) -> bool:
        """Whether the answer is complete. Raises ConnectionError when the server hung up."""
        while True:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                return False
            if not data:
                raise ConnectionResetError("the server closed the connection")
            if self._missing >= 0:
                self._missing -= len(data)
            else:
                self._head(data)
            if self._missing == 0:
                return True

    def _head(self, data: bytes) -> None:
        self._answer += data
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._answer[:end].lower() + b"\r\n"
        self.status = head[9:12]
        start = head.index(b"content-length:") + 15
        length = int(head[start : head.index(b"\r\n", start)])
        self._missing = length - (len(self._answer) - end - 4)


class _Times:
    """Latencies and lags of the answers that count."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.lags: list[float] = []
        self.sent = 0
        self.failed = 0

    def summary(self, seconds: float) -> Summary:
        ordered, lags = sorted(self.latencies), sorted(self.lags)
        return Summary(
            sent=self.sent,
            answered=len(ordered),
            failed=self.failed,
            seconds=seconds,
            rate=len(ordered) / seconds,
            p50=quantile(ordered, 0.5),
            p90=quantile(ordered, 0.9),
            p99=quantile(ordered, 0.99),
            worst=quantile(ordered, 1.0),
            lag_p99=quantile(lags, 0.99),
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ordered ones do not exceed; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Sender:
    """Sends `messages` in turn over its connections; used once."""

    def __init__(
        self,
        address: tuple[str, int],
        messages: Sequence[bytes],
        plan: Plan,
        connect: type[Connection] = Connection,
    ) -> None:
        self._address = address
        self._connection = connect
        self._messages = messages
        self._plan = plan
        self._poll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._idle: collections.deque[Connection] = collections.deque()
        self._times = _Times()
        self._turn = 0

    def again(self) -> "Sender":
        """Another one like it."""
        return Sender(self._address, self._messages, self._plan, self._connection)

    def run(self) -> Summary:
        for _ in range(self._plan.connections):
            self._idle.append(self._connect())
        started = time.perf_counter()
        self._counted_from = started + self._plan.warmup
        end = self._counted_from + self._plan.seconds
        if self._plan.rate is None:
            self._closed_loop(end)
        else:
            self._open_loop(started, end, self._plan.rate)
        for connection in self._open.values():
            connection.socket.close()
        self._poll.close()
        return self._times.summary(self._plan.seconds)

    def _connect(self) -> Connection:
        connection = self._connection(self._address)
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _closed_loop(self, end: float) -> None:
        while (now := time.perf_counter()) < end:
            while self._idle:
                self._send(self._idle.popleft(), now)
            self._collect(0.1)
        self._finish()

    def _open_loop(self, started: float, end: float, rate: float) -> None:
        waiting: collections.deque[float] = collections.deque()
        dues = _instants(started, rate, end)
        due = next(dues)
        while due < math.inf or waiting:
            now = time.perf_counter()
            while due <= now:
                if due >= self._counted_from:
                    self._times.lags.append(now - due)
                waiting.append(due)
                due = next(dues)
            while waiting and (self._idle or len(self._open) < MAX_CONNECTIONS):
                # The one used last: its caches are warm, and a quiet server needs few.
                self._send(self._idle.pop() if self._idle else self._connect(), waiting.popleft())
            if now > end + _PATIENCE:
                break
            # The poll's clock ticks in milliseconds: the last one before an instant is spun.
            # select() has a finer one; woken by it the sender was ten times as late.
            self._collect(max(0.0, min(due - time.perf_counter(), 0.1) - 0.001))
        self._times.failed += len(waiting)
        self._finish()

    def _send(self, connection: Connection, due: float) -> None:
        message = self._messages[self._turn]
        self._turn = (self._turn + 1) % len(self._messages)
        self._times.sent += due >= self._counted_from
        if not connection.send(message, due):
            self._poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _collect(self, timeout: float) -> None:
        for number, event in self._poll.poll(timeout):
            connection = self._open[number]
            if event & select.EPOLLOUT and connection.flush():
                self._poll.modify(number, select.EPOLLIN)
            if event & ~select.EPOLLOUT:
                self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            if not connection.receive():
                return
        except ConnectionError:
            self._times.failed += 1
            del self._open[connection.socket.fileno()]
            connection.socket.close()
            self._idle.append(self._connect())
            return
        if connection.due >= self._counted_from:
            if connection.status == b"200":
                self._times.latencies.append(time.perf_counter() - connection.due)
            else:
                self._times.failed += 1
        self._idle.append(connection)

    def _finish(self) -> None:
        """Waits for what is under way, without sending more."""
        end = time.perf_counter() + _PATIENCE
        while len(self._idle) < len(self._open) and time.perf_counter() < end:
            self._collect(0.1)
        self._times.failed += len(self._open) - len(self._idle)


_PATIENCE = 5.0
"""Seconds after the last request in which answers still count."""


def _instants(started: float, rate: float, end: float) -> Iterator[float]:
    """Evenly spaced from `started` to `end`, then infinity."""
    for number in range(math.ceil((end - started) * rate)):
        yield started + number / rate
    while True:
        yield math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("path")
    parser.add_argument("body", help="a file with the body of the requests")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, help="requests a second; a closed loop without it")
    given = parser.parse_args()
    host, _, port = given.address.rpartition(":")
    with open(given.body, "rb") as file:
        message = request(given.path, file.read())
    plan = Plan(given.connections, given.seconds, given.rate)
    print(json.dumps(dataclasses.asdict(Sender((host, int(port)), [message], plan).run())))


if __name__ == "__main__":
    main()
