"""TFRecord files: length-prefixed records with checksums.

The framing is that of tensorflow/core/lib/io/record_writer.cc: uint64 length, uint32 masked
CRC-32C of the length, the bytes, uint32 masked CRC-32C of the bytes; all little-endian.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxrt.errors import ModelError


class NotATFRecord(ModelError):
    """A length or a checksum is not right."""


_MASK = 0xA282EAD8


def records(path: Path) -> Iterator[bytes]:
    """The records, in order. Raises NotATFRecord where it ends or is altered."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while head := file.read(12):
            at = file.tell() - len(head)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or masked(head[:8]) != head[8:] or at + 16 + length > size:
                raise _broken(path, at)
            data = file.read(length)
            if masked(data) != file.read(4):
                raise _broken(path, at)
            yield data


def masked(data: bytes) -> bytes:
    """CRC-32C as it stands in the file: rotated and offset, tensorflow/core/lib/hash/crc32c.h."""
    crc = crc32c(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of the bytes.

    The bytes are cut into equally long rows whose remainders numpy computes side by side:
    0.6 MB take 25 ms, a loop over bytes 200 ms; a file may hold a thousand images.
    """
    head = bytes(b ^ 0xFF for b in data[:4])  # the initial value, 0xFFFFFFFF, folded in
    if len(data) < 4:
        return _short(data)
    length = math.isqrt(len(data)) // 4 + 1  # a column costs as much as 16 rows
    rows = -(-len(data) // length)
    # Leading zero bytes leave a zero remainder as it is.
    padded = bytes(rows * length - len(data)) + head + data[4:]
    cells = np.frombuffer(padded, np.uint8).reshape(rows, length)
    state = np.zeros(rows + 32, np.uint32)
    state[rows:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    column = np.zeros(rows + 32, np.uint8)
    for i in range(length):
        column[:rows] = cells[:, i]
        state = _TABLE[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
    # The last 32: what a row's length of zero bytes makes of each bit of a remainder.
    powers = [int(p) for p in state[rows:]]
    remainder = 0
    for row in state[:rows]:
        remainder = _apply(powers, remainder) ^ int(row)
    return remainder ^ 0xFFFFFFFF


def _short(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = int(_TABLE[(crc ^ byte) & 0xFF]) ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _apply(powers: list[int], remainder: int) -> int:
    found = 0
    for power in powers:
        if remainder & 1:
            found ^= power
        remainder >>= 1
    return found


def _table() -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> np.uint32(1)) ^ np.uint32(0x82F63B78), crc >> np.uint32(1))
    return crc


_TABLE = _table()


def _broken(path: Path, at: int) -> NotATFRecord:
    return NotATFRecord(
        f"{path}: byte {at}: found no record with its checksums, want a TFRecord; "
        "Please verify your warmup data is in TFRecord format."
    )
