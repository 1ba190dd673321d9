"""gRPC beside REST on one server: one Predict of a tensor, in turns, from bare sockets.

    jaxrt serve model.jaxrt --port 8500 --rest_api_port 8501
    python -m bench.grpc_load 127.0.0.1 8500 8501 MODEL --shape 1,256 --rounds 3

Requests a second in a closed loop, and what one costs the server: CPU time of the process, which
the sender shares a machine with. The gRPC requests carry the same numbers in `tensor_content`.
HTTP/2 is spoken as far as one unary call at a time on a connection needs it: gRPC's own client in
Python costs more than the server that is measured.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from bench import http_load
from bench.http_load import Connection, Plan, Sender, Summary
from jaxrt.serving.rpc import answers, encode, frames
from jaxrt.serving.rpc.datatypes import BY_NAME
from jaxrt.serving.rpc.frames import END_HEADERS, END_STREAM, HEAD, HEAD_SIZE, Kind, Setting
from jaxrt.serving.rpc.wire import delimited

_DATA, _HEADERS = int(Kind.DATA), int(Kind.HEADERS)


def predict_request(model: str, alias: str, array: np.ndarray[Any, Any]) -> bytes:
    """A float32 tensor for `serving_default`: the gRPC message, with its five bytes before it."""
    tensor = b"".join(encode.tensor(array, BY_NAME["float32"], content=True))
    entry = delimited(1, alias.encode()) + delimited(2, tensor)
    message = delimited(1, delimited(1, model.encode())) + delimited(2, entry)
    return b"\0" + len(message).to_bytes(4, "big") + message


def _headers(kind: bytes) -> bytes:
    """Of a call; `kind` as in answers.literal."""
    path = b"/tensorflow.serving.PredictionService/Predict"
    named = [(b":path", path), (b":authority", b"localhost")]
    named += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    # 0x83, 0x86: POST and http in the static table.
    return b"\x83\x86" + b"".join(answers.literal(name, value, kind) for name, value in named)


class GrpcConnection(Connection):
    """One HTTP/2 connection with at most one call under way; a message is what follows DATA."""

    __slots__ = ("_held", "_number", "_unread")

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self._number = -1
        self._held = b""
        self._unread = 0
        settings = frames.settings({Setting.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW})
        window = frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)
        self.socket.setblocking(True)
        self.socket.sendall(frames.PREFACE + settings + window)
        self.socket.setblocking(False)

    def send(self, message: bytes, due: float) -> bool:
        self._number += 2
        # The first call puts its headers into the table, later ones name them: 65 to 62.
        block = _headers(b"\x40") if self._number == 1 else b"\x83\x86\xc1\xc0\xbf\xbe"
        parts = [frames.frame(Kind.HEADERS, END_HEADERS, self._number, block)]
        for at in range(0, len(message), frames.DEFAULT_FRAME):
            piece = message[at : at + frames.DEFAULT_FRAME]
            last = at + len(piece) == len(message)
            parts.append(frames.frame(Kind.DATA, END_STREAM * last, self._number, piece))
        return super().send(b"".join(parts), due)

    def receive(self) -> bool:
        done = False
        while not done:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                return False
            if not data:
                raise ConnectionResetError("the server closed the connection")
            done = self._frames(self._held + data)
        return done

    def _frames(self, data: bytes) -> bool:
        at, done = 0, False
        while len(data) - at >= HEAD_SIZE:
            head, flags, _ = HEAD.unpack_from(data, at)
            begin = at + HEAD_SIZE
            end = begin + (head >> 8)
            if end > len(data):
                break
            if head & 0xFF == _HEADERS and flags & END_STREAM:
                # Trailers after a message are `grpc-status: 0`, by the letters.
                self.status = b"200" if data[begin:end] == answers.OK else b"500"
                done = True
            at = end
        self._held = data[at:]
        return done


def cpu_seconds(pid: int) -> float:
    """Of a process, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host")
    parser.add_argument("grpc_port", type=int)
    parser.add_argument("rest_port", type=int)
    parser.add_argument("model")
    parser.add_argument("--alias", default="x")
    parser.add_argument("--shape", default="1,256")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pid", type=int, help="of the server, for its CPU time")
    given = parser.parse_args()
    shape = tuple(map(int, given.shape.split(",")))
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    body = json.dumps({"instances": array.round(6).tolist()}).encode()
    rest = http_load.request(f"/v1/models/{given.model}:predict", body)
    grpc = predict_request(given.model, given.alias, array)
    plan = Plan(given.connections, given.seconds)
    contenders = {
        "gRPC": Sender((given.host, given.grpc_port), [grpc], plan, GrpcConnection),
        "REST": Sender((given.host, given.rest_port), [rest], plan),
    }
    found: dict[str, list[tuple[Summary, float]]] = {name: [] for name in contenders}
    for _ in range(given.rounds):
        for name in contenders:
            before = cpu_seconds(given.pid) if given.pid else 0.0
            summary = contenders[name].again().run()
            spent = (cpu_seconds(given.pid) - before) if given.pid else 0.0
            calls = summary.sent * (given.seconds + plan.warmup) / given.seconds
            found[name].append((summary, spent / max(calls, 1) * 1e6))
    for name, runs in found.items():
        rate = statistics.median(run.rate for run, _ in runs)
        p50 = statistics.median(run.p50 for run, _ in runs) * 1e3
        p99 = statistics.median(run.p99 for run, _ in runs) * 1e3
        cpu = statistics.median(cpu for _, cpu in runs)
        failed = sum(run.failed for run, _ in runs)
        print(
            f"{name}: {rate:.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, {cpu:.0f} µs of CPU, "
            f"{failed} failed"
        )


if __name__ == "__main__":
    main()
