"""HTTP/2 as a client that is not gRPC's own may speak it, and as none should."""

import socket
import struct
import time
from collections.abc import Iterator

import hpack
import numpy as np
import pytest
from rest_server import FakeModels
from rpc_server import Running, connect, echo, predict_request, serving

from jaxrt.serving.rpc import frames
from jaxrt.serving.rpc.arguments import Arguments
from jaxrt.serving.rpc.connection import CALM, FRAME
from jaxrt.serving.rpc.frames import ACK, END_HEADERS, END_STREAM, Fault, Kind, Setting
from jaxrt.serving.rpc.service import Options

PATH = "/tensorflow.serving.PredictionService/Predict"
GRPC = [(":method", "POST"), (":scheme", "http"), (":path", PATH), ("te", "trailers")]
GRPC += [("content-type", "application/grpc")]
Frame = tuple[int, int, int, bytes]


def predict(size: int = 3) -> bytes:
    """A framed request."""
    body: bytes = predict_request(x=np.ones(size, np.float32)).SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


class Client:
    """One connection, frame by frame."""

    def __init__(self, port: int, settings: dict[Setting, int] | None = None) -> None:
        self.socket = connect(port)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.send(frames.PREFACE, frames.settings(settings or {}))

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def headers(self, number: int = 1, flags: int = END_HEADERS, **extra: str) -> bytes:
        named = [(name.replace("_", "-"), value) for name, value in extra.items()]
        block = self.encoder.encode(GRPC + named)
        return frames.frame(Kind.HEADERS, flags, number, block)

    def call(self, number: int = 1) -> None:
        data = frames.frame(Kind.DATA, END_STREAM, number, predict())
        self.send(self.headers(number), data)

    def frame(self) -> Frame:
        head = self._read(9)
        size, flags, number = frames.HEAD.unpack(head)
        return size & 0xFF, flags, number, self._read(size >> 8)

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self.socket.recv(size - len(found))
            if not data:
                raise EOFError
            found += data
        return found

    def until(self, kind: Kind) -> Frame:
        while True:
            found = self.frame()
            if found[0] == kind and not (kind in (Kind.SETTINGS, Kind.PING) and not found[1] & ACK):
                return found

    def answer(self) -> dict[str, str]:
        """Headers and trailers of the next call that ends."""
        found: dict[str, str] = {}
        while True:
            kind, flags, _, payload = self.frame()
            if kind == Kind.HEADERS:
                found |= {str(name): str(value) for name, value in self.decoder.decode(payload)}
                if flags & END_STREAM:
                    return found

    def goodbye(self) -> Fault:
        """Why the server closes the connection."""
        code = struct.unpack_from(">I", self.until(Kind.GOAWAY)[3], 4)[0]
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                self.frame()
        return Fault(code)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(FakeModels(servables=[echo()])) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    found = Client(server.port)
    yield found
    found.close()


OK = {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}


def test_a_call_and_the_ones_after_it(client: Client) -> None:
    for number in (1, 3, 7):
        client.call(number)
        assert OK.items() <= client.answer().items()


def test_a_client_without_a_header_table_is_answered_in_letters(server: Running) -> None:
    for settings in ({Setting.HEADER_TABLE_SIZE: 0}, {Setting.HEADER_TABLE_SIZE: 100}):
        client = Client(server.port, settings)
        client.decoder.max_allowed_table_size = settings[Setting.HEADER_TABLE_SIZE]
        for number in (1, 3):
            client.call(number)
            assert OK.items() <= client.answer().items()
        client.close()


def test_a_header_table_may_shrink_later(client: Client) -> None:
    client.call(1)
    client.answer()
    client.send(frames.settings({Setting.HEADER_TABLE_SIZE: 0}))
    client.until(Kind.SETTINGS)
    client.call(3)
    assert OK.items() <= client.answer().items()


def test_frames_may_come_byte_by_byte(client: Client) -> None:
    data = client.headers() + frames.frame(Kind.DATA, END_STREAM, 1, predict())
    for at in range(len(data)):
        client.send(data[at : at + 1])
    assert client.answer()["grpc-status"] == "0"


def test_padding_priorities_and_continued_headers(client: Client) -> None:
    block = client.headers()[9:]
    flags = frames.PADDED | frames.PRIORITIZED
    start = bytes((3,)) + bytes(5) + block[:4] + bytes(3)
    client.send(
        frames.frame(Kind.HEADERS, flags, 1, start),
        frames.frame(Kind.CONTINUATION, 0, 1, block[4:9]),
        frames.frame(Kind.CONTINUATION, END_HEADERS, 1, block[9:]),
        frames.frame(Kind.PRIORITY, 0, 1, bytes(5)),
        frames.frame(Kind.DATA, frames.PADDED, 1, bytes((2,)) + predict() + bytes(2)),
        b"\0\0\1\x20\0\0\0\0\0?",  # of a type nobody knows
        frames.frame(Kind.DATA, END_STREAM, 1),
    )
    assert client.answer()["grpc-status"] == "0"


def test_trailers_may_end_a_request(client: Client) -> None:
    trailer = client.encoder.encode([("x", "y")])
    client.send(
        client.headers(),
        frames.frame(Kind.DATA, 0, 1, predict()),
        frames.frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, trailer),
    )
    assert client.answer()["grpc-status"] == "0"


def test_answers_wait_for_the_windows_of_the_client(server: Running) -> None:
    client = Client(server.port, {Setting.INITIAL_WINDOW_SIZE: 10})
    client.send(client.headers(), frames.frame(Kind.DATA, END_STREAM, 1, predict(1000)))
    assert len(client.until(Kind.DATA)[3]) == 10
    client.send(frames.window_update(1, 20))
    assert len(client.until(Kind.DATA)[3]) == 20
    client.send(frames.settings({Setting.INITIAL_WINDOW_SIZE: 50}))
    assert len(client.until(Kind.DATA)[3]) == 40
    client.send(frames.window_update(1, 1 << 20))
    assert client.answer()["grpc-status"] == "0"
    client.close()


def test_pings_and_settings_are_acknowledged(client: Client) -> None:
    client.send(frames.frame(Kind.PING, 0, 0, b"12345678"))
    assert client.until(Kind.PING)[3] == b"12345678"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(":method", "GET"), *GRPC[1:]], "405"),
        ([*GRPC[:4], ("content-type", "application/json")], "415"),
        ([*GRPC[:4], ("content-type", "application/grpc-web")], "415"),
        ([*GRPC[:4], ("content-type", "application/grpc+proto")], "200"),
    ],
)
def test_what_is_not_grpc_gets_a_status_of_http(
    client: Client, headers: list[tuple[str, str]], status: str
) -> None:
    block = client.encoder.encode(headers)
    data = frames.frame(Kind.DATA, END_STREAM, 1, predict())
    client.send(frames.frame(Kind.HEADERS, END_HEADERS, 1, block), data)
    assert client.answer()[":status"] == status


def test_http_1_is_told_where_rest_is(server: Running) -> None:
    with connect(server.port) as sock:
        sock.sendall(b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n")
        found = b""
        while data := sock.recv(1000):
            found += data
    assert b"400 Bad Request" in found
    assert found.endswith(b"the REST API is on --rest_api_port.\n")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", "13", "0 bytes came"),
        (b"\0\0\0", "13", "3 bytes came"),
        (predict() + b"\0", "13", "bytes came"),
        (predict()[:-1], "13", "bytes came"),
        (b"\0\xff\xff\xff\xff", "8", "larger than max"),
        (b"\1\0\0\0\1a", "12", "compressed with identity"),
    ],
)
def test_what_is_not_one_message(client: Client, body: bytes, status: str, said: str) -> None:
    client.send(client.headers(), frames.frame(Kind.DATA, END_STREAM, 1, body))
    answer = client.answer()
    assert answer["grpc-status"] == status
    assert said in answer["grpc-message"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "snappy"])
def test_a_compressed_message_that_is_none(client: Client, encoding: str) -> None:
    body = frames.frame(Kind.DATA, END_STREAM, 1, b"\1\0\0\0\1a")
    client.send(client.headers(grpc_encoding=encoding), body)
    answer = client.answer()
    assert answer["grpc-status"] == ("12" if encoding == "snappy" else "13")
    assert "gzip" in answer["grpc-accept-encoding"]


def test_a_request_without_a_path_is_reset(client: Client) -> None:
    block = client.encoder.encode(GRPC[:2])
    client.send(frames.frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert client.until(Kind.RST_STREAM)[3] == bytes((0, 0, 0, Fault.PROTOCOL_ERROR))


def test_more_calls_than_agreed_are_refused() -> None:
    options = Options(arguments=Arguments(max_concurrent_streams=2))
    with serving(options=options) as running:
        client = Client(running.port)
        client.send(*(client.headers(number) for number in (1, 3, 5)))
        kind, _, number, payload = client.until(Kind.RST_STREAM)
        assert (number, payload[3]) == (5, Fault.REFUSED_STREAM)
        client.close()


def test_idle_connections_are_asked_to_leave() -> None:
    options = Options(arguments=Arguments(max_connection_idle_ms=100))
    with serving(options=options) as running:
        client = Client(running.port)
        client.call()
        client.answer()
        assert client.goodbye() is Fault.NO_ERROR
        client.close()


BROKEN = [
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.HEADERS, END_HEADERS, 2, b"\x82")]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.HEADERS, 0, 1, b""), frames.frame(Kind.DATA, 0, 1)]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.CONTINUATION, END_HEADERS, 1, b"")]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.DATA, 0, 1, b"x")]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.PUSH_PROMISE, 0, 1, bytes(4))]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.HEADERS, frames.PADDED, 1, b"\x09a")]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.SETTINGS, 0, 1)]),
    (Fault.PROTOCOL_ERROR, [frames.settings({Setting.ENABLE_PUSH: 2})]),
    (Fault.PROTOCOL_ERROR, [frames.settings({Setting.MAX_FRAME_SIZE: 1})]),
    (Fault.PROTOCOL_ERROR, [frames.frame(Kind.PING, 0, 0, b"1")]),
    (Fault.PROTOCOL_ERROR, [frames.window_update(0, 0)]),
    (Fault.PROTOCOL_ERROR, [frames.reset(5, Fault.CANCEL)]),
    (Fault.PROTOCOL_ERROR, [frames.window_update(5, 1)]),
    (Fault.FLOW_CONTROL_ERROR, [frames.window_update(0, (1 << 31) - 1)]),
    (Fault.FLOW_CONTROL_ERROR, [frames.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 31})]),
    (Fault.FRAME_SIZE_ERROR, [frames.frame(Kind.SETTINGS, 0, 0, b"12345")]),
    (Fault.FRAME_SIZE_ERROR, [frames.frame(Kind.RST_STREAM, 0, 1, b"1")]),
    (Fault.FRAME_SIZE_ERROR, [frames.frame(Kind.WINDOW_UPDATE, 0, 0, b"1")]),
    (Fault.FRAME_SIZE_ERROR, [frames.HEAD.pack((FRAME + 1) << 8, 0, 1)]),
    (Fault.COMPRESSION_ERROR, [frames.frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff\x7f")]),
    (Fault.COMPRESSION_ERROR, [frames.frame(Kind.HEADERS, END_HEADERS, 1, b"\xc9")]),
    (
        Fault.ENHANCE_YOUR_CALM,
        [
            frames.frame(Kind.HEADERS, 0, 1, b"\x82"),
            *[frames.frame(Kind.CONTINUATION, 0, 1, bytes(16_000))] * 5,
        ],
    ),
]


@pytest.mark.parametrize(("fault", "parts"), BROKEN)
def test_a_client_that_breaks_the_protocol_is_told_why(
    client: Client, fault: Fault, parts: list[bytes]
) -> None:
    client.send(*parts)
    assert client.goodbye() is fault


def test_no_preface_no_connection(server: Running) -> None:
    with connect(server.port) as sock:
        sock.sendall(b"\x16\x03\x01 something else")
        found = b""
        while data := sock.recv(1000):
            found += data
    assert b"no HTTP/2 connection preface" in found


def test_calls_that_are_made_to_be_broken_off_end_the_connection(client: Client) -> None:
    with pytest.raises(OSError):  # EPIPE or ECONNRESET, as it happens
        for number in range(1, 40 * CALM, 2):
            client.send(client.headers(number), frames.reset(number, Fault.CANCEL))


def test_a_client_that_asks_on_and_reads_nothing_is_cut_off(server: Running) -> None:
    client = Client(server.port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    pings = frames.frame(Kind.PING, 0, 0, bytes(8)) * 10_000
    end = time.monotonic() + 60
    with pytest.raises(OSError):
        while time.monotonic() < end:
            client.send(pings)
    assert time.monotonic() < end
    client.close()
