"""Messages between the hosts of one server: a JSON object and arrays, over TCP, no pickle.

A message is the length of its JSON (four bytes, little-endian), the JSON, whose `arrays` gives the
dtype and shape of each array, and the arrays' bytes one after the other.
"""

import contextlib
import dataclasses
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.weights import CARRIED, TAGS, Array

LIMIT = 16 << 20
"""Bytes of a message's JSON: more is not one of ours."""

_DTYPES = {dtype.name: dtype for dtype in (*TAGS.values(), *CARRIED)}
_LENGTH = struct.Struct("<I")

# A host that lost power or its network says nothing: found dead after half a minute.
_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What one host tells another."""

    fields: Mapping[str, Any]
    """JSON values."""
    arrays: Sequence[Array] = ()


class Channel:
    """One end of a connection. Several threads may send, one receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Message) -> None:
        """Raises OSError when the other end is gone."""
        arrays = [np.ascontiguousarray(array) for array in message.arrays]
        described = [[array.dtype.name, list(array.shape)] for array in arrays]
        head = json.dumps({**message.fields, "arrays": described}).encode()
        with self._lock:
            self._socket.sendall(_LENGTH.pack(len(head)) + head)
            for array in arrays:
                self._socket.sendall(array.reshape(-1).view(np.uint8).data)

    def receive(self) -> Message:
        """Raises OSError when the other end is gone, or says what is no message."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > LIMIT:
            raise ConnectionError(f"a message of {length} bytes of JSON: this is no jaxrt host")
        try:
            fields = json.loads(self._exactly(length))
            described = [(_DTYPES[name], tuple(shape)) for name, shape in fields.pop("arrays")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConnectionError(f"no message of a jaxrt host: {error}") from error
        arrays = [self._array(dtype, shape) for dtype, shape in described]
        return Message(fields, arrays)

    def close(self) -> None:
        """Ends a `receive` of either end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        content = self._exactly(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(shape)

    def _exactly(self, count: int) -> bytearray:
        content = bytearray(count)
        view = memoryview(content)
        while view:
            received = self._socket.recv_into(view)
            if not received:
                raise ConnectionError("the connection was closed")
            view = view[received:]
        return content


def connect(host: str, port: int, *, seconds: float) -> Channel:
    """Tries for so long. Raises OSError."""
    end = time.monotonic() + seconds
    while True:
        try:
            sock = socket.create_connection((host, port), timeout=10)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            sock.settimeout(None)
            return Channel(sock)
