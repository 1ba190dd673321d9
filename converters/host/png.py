"""PNG files as arrays, converted as libpng does for TensorFlow's CommonInitDecode.

Pillow inflates and unfilters; what the samples mean is decided here, since Pillow keeps neither
16 bits of colours nor the rules of tRNS, of stripped alpha and of gamma.
"""

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrt.converters.host.images import library
from jaxrt.errors import InvalidArgument, Unimplemented

Array = np.ndarray[Any, Any]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGB_ALPHA: 4}
_DEPTHS = {
    _GRAY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GRAY_ALPHA: (8, 16),
    _RGB_ALPHA: (8, 16),
}
_BYTES = {1: _GRAY, 2: _GRAY_ALPHA, 3: _RGB, 4: _RGB_ALPHA}
"""Bytes of a pixel → the colour type that has so many with 8 bits a sample."""
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""First row, first column, row step, column step of each pass."""
_RED, _GREEN = 9797, 19234
"""Of 32768: png_set_rgb_to_gray(0.299, 0.587) in libpng's fixed point."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    data: bytes
    """All IDAT chunks: a zlib stream."""
    extra: Mapping[bytes, bytes]
    """PLTE, tRNS, gAMA, sRGB, iCCP, where there are."""


def decode(data: bytes, channels: int, bits: int) -> Array:
    """uint8 or uint16 [height, width, channels]; channels 0: as many as the file has.

    Raises InvalidArgument in TensorFlow's words; Unimplemented for a gray version of 16-bit
    colours with a gamma.
    """
    file = _parse(data)
    try:
        samples = _samples(file)
    except (OSError, SyntaxError, ValueError, zlib.error):
        raise InvalidArgument(f"Invalid PNG data, size {len(data)}") from None
    out = _converted(file, samples, channels or _own_channels(file), bits)
    if bits == 16 and out.dtype == np.uint8:
        return out.astype(np.uint16) * np.uint16(257)
    return (out >> 8).astype(np.uint8) if bits == 8 and out.dtype == np.uint16 else out


def _parse(data: bytes) -> _File:
    header: tuple[int, ...] | None = None
    extra: dict[bytes, bytes] = {}
    parts: list[bytes] = []
    end = False
    for kind, body, sound in _chunks(data):
        if not sound and kind[:1].isupper():
            break
        if kind == b"IHDR" and len(body) == 13:
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            parts.append(body)
        elif kind == b"IEND":
            end = True
            break
        elif sound and not parts and kind in (b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"iCCP"):
            extra[kind] = body
    if header is None or not parts or not _sane(header, extra):
        raise InvalidArgument("Invalid PNG. Failed to initialize decoder.")
    if not end:
        raise InvalidArgument(f"Invalid PNG data, size {len(data)}")
    width, height, depth, colour, _, _, interlaced = header
    return _File(
        width=width,
        height=height,
        depth=depth,
        colour=colour,
        interlaced=bool(interlaced),
        data=b"".join(parts),
        extra=extra,
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, body, whether the checksum is right."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        check = data[at + 8 + size : at + 12 + size]
        if len(check) < 4:
            return
        yield kind, body, zlib.crc32(kind + body) == int.from_bytes(check, "big")
        at += 12 + size


def _sane(header: tuple[int, ...], extra: Mapping[bytes, bytes]) -> bool:
    width, height, depth, colour, compression, filtering, interlaced = header
    return (
        0 < width < 1 << 27
        and 0 < height < 1 << 27
        and width * height < 1 << 29
        and depth in _DEPTHS.get(colour, ())
        and (compression, filtering) == (0, 0)
        and interlaced < 2
        and (colour != _PALETTE or b"PLTE" in extra)
    )


def _own_channels(file: _File) -> int:
    if file.colour == _PALETTE:
        return 4 if b"tRNS" in file.extra else 3
    return _SAMPLES[file.colour]


def _samples(file: _File) -> Array:
    """[height, width, samples] as stored: uint16 if of 16 bits, else uint8, not yet scaled."""
    count = _SAMPLES[file.colour]
    pixel = count * file.depth // 8
    if file.depth < 8 and not file.interlaced:
        rows = _raw(file, (file.width * file.depth + 7) // 8, _GRAY)
        return _unpacked(rows[..., 0], file.depth)[:, : file.width, None]
    if file.depth < 8 or pixel not in _BYTES:
        return _unfiltered(file)
    raw = _raw(file, file.width, _BYTES[pixel])
    return raw if file.depth == 8 else _words(raw, count)


def _raw(file: _File, width: int, colour: int) -> Array:
    """[height, width, bytes]: Pillow reads the file as one of 8 bits a sample."""
    header = (width, file.height, 8, colour, 0, 0, file.interlaced)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), (b"IDAT", file.data), (b"IEND", b"")]
    image = library("PIL.Image").open(io.BytesIO(_SIGNATURE + b"".join(_chunk(*c) for c in chunks)))
    return np.asarray(image).reshape(file.height, width, -1)


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def _words(raw: Array, count: int) -> Array:
    """Big-endian pairs of bytes → uint16."""
    pairs = np.ascontiguousarray(raw).reshape(*raw.shape[:2], count * 2)
    return pairs.view(">u2").astype(np.uint16)


def _unpacked(rows: Array, depth: int) -> Array:
    """[height, bytes] → [height, samples]: the first sample is in the high bits."""
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    return ((rows[..., None] >> shifts) & ((1 << depth) - 1)).reshape(len(rows), -1)


def _unfiltered(file: _File) -> Array:
    """What Pillow cannot stand in for: 16-bit colours, and less than 8 bits interlaced."""
    count = _SAMPLES[file.colour]
    kind = np.uint16 if file.depth == 16 else np.uint8
    out = np.zeros((file.height, file.width, count), kind)
    data, at = zlib.decompress(file.data), 0
    for top, left, down, right in _ADAM7 if file.interlaced else ((0, 0, 1, 1),):
        target = out[top::down, left::right]
        if not target.size:
            continue
        size = (target.shape[1] * count * file.depth + 7) // 8
        rows = np.empty((target.shape[0], size), np.uint8)
        above = bytes(size)
        for row in range(target.shape[0]):
            line = data[at + 1 : at + 1 + size]
            if len(line) < size:
                raise ValueError("too few rows")
            above = _line(data[at], line, above, max(1, count * file.depth // 8))
            rows[row] = np.frombuffer(above, np.uint8)
            at += 1 + size
        if file.depth < 8:
            target[...] = _unpacked(rows, file.depth)[:, : target.shape[1], None]
        else:
            target[...] = _words(rows.reshape(*target.shape[:2], -1), count)
    return out


def _line(kind: int, line: bytes, above: bytes, pixel: int) -> bytes:
    """One row without its filter (section 9 of the PNG specification)."""
    if kind > 4:
        raise ValueError(f"filter {kind}")
    out = bytearray(line)
    for at in range(len(out)):
        left = out[at - pixel] if at >= pixel else 0
        up = above[at]
        corner = above[at - pixel] if at >= pixel else 0
        out[at] = (out[at] + (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]) & 255
    return bytes(out)


def _paeth(left: int, up: int, corner: int) -> int:
    near = left + up - corner
    return min(
        (abs(near - left), 0, left), (abs(near - up), 1, up), (abs(near - corner), 2, corner)
    )[2]


def _converted(file: _File, samples: Array, channels: int, bits: int) -> Array:
    """libpng's transformations, in its order."""
    want_alpha, want_gray = channels % 2 == 0, channels < 3
    pixels, alpha = _expanded(file, samples, want_alpha)
    if want_gray and pixels.shape[2] == 3:
        pixels = _gray(file, pixels)
    elif not want_gray and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if not want_alpha:
        return pixels
    if alpha is None:
        alpha = np.full(pixels.shape[:2], (1 << file.depth) - 1, pixels.dtype)
    return np.concatenate([pixels, alpha[..., None].astype(pixels.dtype)], axis=2)


def _expanded(file: _File, samples: Array, want_alpha: bool) -> tuple[Array, Array | None]:
    """Gray or colours, at least 8 bits a sample, and what is opaque."""
    marked = file.extra.get(b"tRNS")
    if file.colour == _PALETTE:
        palette = np.zeros((256, 3), np.uint8)
        given = np.frombuffer(file.extra[b"PLTE"], np.uint8)[:768]
        palette[: len(given) // 3] = given[: len(given) // 3 * 3].reshape(-1, 3)
        index = samples[..., 0]
        if marked is None:
            return palette[index], None
        opaque = np.full(256, 255, np.uint8)
        opaque[: len(marked)] = np.frombuffer(marked, np.uint8)[:256]
        return palette[index], opaque[index]
    if file.colour in (_GRAY_ALPHA, _RGB_ALPHA):
        return samples[..., :-1], samples[..., -1]
    alpha = None
    if want_alpha and marked is not None:
        clear = np.frombuffer(marked, ">u2")[: samples.shape[2]] & ((1 << file.depth) - 1)
        top = np.iinfo(samples.dtype).max
        alpha = np.where((samples == clear).all(axis=2), 0, top).astype(samples.dtype)
    if file.depth < 8:
        samples = samples * np.uint8(255 // ((1 << file.depth) - 1))
    return samples, alpha


def _gray(file: _File, pixels: Array) -> Array:
    """[height, width, 3] → [height, width, 1]: png_do_rgb_to_gray."""
    gamma = _gamma(file.extra)
    if gamma and file.depth == 16:
        raise Unimplemented(
            "a PNG with a gamma and 16 bits a sample as gray: TensorFlow's answer is not matched"
            " without TensorFlow; install tensorflow-cpu, or ask for 3 channels"
        )
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    same = (red == green) & (red == blue)
    if gamma:
        there, back = _table(1e10 // gamma + (1e10 % gamma * 2 >= gamma)), _table(gamma)
        mixed = back[(_mixed(there[red], there[green], there[blue]) + 16384) >> 15]
    else:
        half = 16384 if file.depth == 16 else 0
        mixed = (_mixed(red, green, blue) + half) >> 15
    return np.asarray(np.where(same, red, mixed)[..., None], pixels.dtype)


def _mixed(red: Array, green: Array, blue: Array) -> Array:
    return np.asarray(_RED * red + _GREEN * green + (32768 - _RED - _GREEN) * blue)


def _gamma(extra: Mapping[bytes, bytes]) -> int:
    """In 1/100000; 0 where there is none that counts."""
    if b"sRGB" in extra:
        return 45455
    found = int.from_bytes(extra.get(b"gAMA", b"")[:4], "big")
    return 0 if 95000 <= found <= 105000 else found


def _table(gamma: float) -> Array:
    """[256]: png_gamma_8bit_correct."""
    values = np.floor(255 * np.power(np.arange(256) / 255, gamma * 1e-5) + 0.5).astype(np.int64)
    values[[0, 255]] = 0, 255
    return values
