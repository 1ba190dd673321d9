"""Image files as tensors. Kernel: tensorflow/core/kernels/image/decode_image_op.cc.

Each op decodes what the first bytes say, not what its name says. GIF, WebP and JPEG XL are left
to TensorFlow.
"""

import struct
from typing import Any

import numpy as np

from jaxrt.converters.host import images, jpeg, png
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument, Unimplemented

Array = np.ndarray[Any, Any]

_FORMATS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)


def _covers(node: Node) -> bool:
    """Not without the libraries; neither part of a truncated JPEG, nor one scaled down, which come
    out otherwise."""
    attrs = node.attrs
    whole = attrs.get("acceptable_fraction", 1.0) == 1 and not attrs.get("try_recover_truncated")
    return bool(images.installed() and whole and attrs.get("ratio", 1) == 1)


@op(
    "DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp",
    covers=_covers, channels=0, dtype="uint8", fancy_upscaling=True, dct_method=b"",
)  # fmt: skip
def decode(node: Node, contents: Array) -> Array:
    """[] string → [height, width, channels] uint8, or what DecodePng and DecodeImage ask for."""
    data = contents.item()
    if not data:
        raise InvalidArgument("Input is empty.")
    match _format(data):
        case "JPEG":
            return _jpeg(node, data)
        case "PNG":
            return _png(node, data)
        case "BMP":
            return _bmp(node, data)
        case "":
            raise InvalidArgument(
                "Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required."
            )
        case other:
            raise Unimplemented(
                f"{node.op}: a {other} image is decoded by TensorFlow only; install tensorflow-cpu,"
                " or send JPEG, PNG or BMP"
            )


def _format(data: bytes) -> str:
    for magic, name in _FORMATS:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) > 12:
        return "WebP"
    boxed = b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"
    return "JPEG XL" if data.startswith((b"\xff\x0a", boxed)) else ""


def _jpeg(node: Node, data: bytes) -> Array:
    channels, attrs = node.attrs["channels"], node.attrs
    if channels not in (0, 1, 3):
        raise InvalidArgument("JPEG does not support 4 channels")
    if node.op == "DecodeBmp":
        raise InvalidArgument(_wrong_op("JPEG", "`decode_jpeg`"))
    fast = attrs["dct_method"] != b"INTEGER_ACCURATE"
    image = jpeg.decode(data, channels, fast=fast, fancy=attrs["fancy_upscaling"])
    return _cast(image, attrs["dtype"])


def _png(node: Node, data: bytes) -> Array:
    dtype = node.attrs["dtype"]
    if node.op == "DecodeBmp":
        png.decode(data, node.attrs["channels"], 8)
        raise InvalidArgument(_wrong_op("PNG", "`decode_png`"))
    out = png.decode(data, node.attrs["channels"], 8 if dtype == "uint8" else 16)
    return out.astype(np.float32) * np.float32(1 / 65535) if dtype == "float32" else out


def _bmp(node: Node, data: bytes) -> Array:
    channels = node.attrs["channels"]
    if channels == 1:
        raise InvalidArgument("`channels` must be 0, 3 or 4 for BMP, but got 1")
    if node.op in ("DecodeJpeg", "DecodePng"):
        raise InvalidArgument(
            "Trying to decode BMP format using a wrong op. Use `decode_bmp` or `decode_image`"
            f" instead. Op used: {node.op}"
        )
    offset, width, height, own = _bmp_header(data)
    row = (own * width + 3) // 4 * 4
    extra = len(data) - offset - row * abs(height)
    if extra:
        raise InvalidArgument(
            "Input size should match (header_size + row_size * abs_height) but they differ by"
            f" {extra}"
        )
    rows = np.frombuffer(data, np.uint8, row * abs(height), offset).reshape(-1, row)
    pixels = rows[:, : own * width].reshape(-1, width, own)
    pixels = pixels if height < 0 else pixels[::-1]
    return _cast(_recoloured(pixels, channels or own), node.attrs["dtype"])


def _bmp_header(data: bytes) -> tuple[int, int, int, int]:
    """Where the pixels begin, width, height (upside down if negative), bytes of a pixel."""
    if len(data) < 32:
        raise InvalidArgument(
            "Incomplete bmp content, requires at least 32 bytes to find the header size, width,"
            f" height, and bpp, got {len(data)} bytes"
        )
    (offset,) = struct.unpack("<i", data[10:14])
    width, height = struct.unpack("<ii", data[18:26])
    (bits,) = struct.unpack("<h", data[28:30])
    own = int(bits / 8)
    if own not in (1, 3, 4):
        raise InvalidArgument(
            f"Number of channels inherent in the image must be 1, 3 or 4, was {own}"
        )
    for bad, message in (
        (width <= 0, "Width must be positive"),
        (height == 0, "Height must be nonzero"),
        (offset < 0, "header size must be nonnegative"),
        (
            width * abs(height) >= (1 << 31) // 8,
            "Total possible pixel bytes must be less than 2^30",
        ),
    ):
        if bad:
            raise InvalidArgument(message)
    return offset, width, height, own


def _recoloured(pixels: Array, channels: int) -> Array:
    """Blue, green, red, alpha → red, green, blue, alpha; as many as are wanted."""
    own = pixels.shape[2]
    if own == 1:
        colours = np.repeat(pixels, 3, axis=2) if channels > 1 else pixels
    else:
        colours = pixels[..., 2::-1]
    if channels < 4:
        return np.ascontiguousarray(colours[..., :channels])
    alpha = pixels[..., 3:] if own == 4 else np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([colours, alpha], axis=2)


def _cast(image: Array, dtype: str) -> Array:
    match dtype:
        case "uint16":
            return image.astype(np.uint16) * np.uint16(256)
        case "float32":
            return image.astype(np.float32) * np.float32(1 / 255)
    return image


def _wrong_op(kind: str, better: str) -> str:
    return (
        f"Trying to decode {kind} format using DecodeBmp op."
        f" Use {better} or `decode_image` instead."
    )
