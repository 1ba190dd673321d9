"""JPEG files as arrays, bit for bit as TensorFlow's copy of libjpeg-turbo decodes them.

simplejpeg carries libjpeg-turbo too: the same inverse DCT (the fast integer one, unless the op
asks for the accurate one), the same upsampling. What differs is what is accepted: TensorFlow
ignores corrupt data and refuses an image whose end is missing
(tensorflow/core/lib/jpeg/jpeg_mem.cc).
"""

from typing import Any

import numpy as np

from jaxrt.converters.host.images import library
from jaxrt.errors import InvalidArgument, Unimplemented

Array = np.ndarray[Any, Any]

_FAILED = "jpeg::Uncompress failed. Invalid JPEG data or crop window."
_SCAN, _END = b"\xff\xda", b"\xff\xd9"


def decode(data: bytes, channels: int, *, fast: bool = True, fancy: bool = True) -> Array:
    """uint8 [height, width, channels]; channels 0: 1 or 3, as the file has.

    `fast` and `fancy` are the inverse DCT and the upsampling of libjpeg. Raises InvalidArgument in
    TensorFlow's words; Unimplemented for a subsampling that TurboJPEG does not know.
    """
    if data.rfind(_END) < data.rfind(_SCAN):
        raise InvalidArgument(_FAILED)
    space = _space(data)
    four = space in ("CMYK", "YCCK")
    if channels == 1 and four:
        raise InvalidArgument(_FAILED)
    single = channels == 1 or (channels == 0 and space == "Gray")
    try:
        out: Array = library("simplejpeg").decode_jpeg(
            data,
            "CMYK" if four else "GRAY" if single else "RGB",
            fastdct=fast,
            fastupsample=not fancy,
            strict=False,
        )
    except (ValueError, KeyError):
        raise InvalidArgument(_FAILED) from None
    return _printed(out, _from_adobe(data)) if four else out


def _space(data: bytes) -> str:
    """The colours that the file holds."""
    try:
        space: str = library("simplejpeg").decode_jpeg_header(data, strict=False)[2]
    except (ValueError, KeyError) as error:
        # KeyError: TurboJPEG's number for an unknown subsampling.
        if _SCAN in data and (isinstance(error, KeyError) or "subsampling" in str(error)):
            raise Unimplemented(
                "a JPEG with an unusual subsampling of its colours: not decoded without"
                " TensorFlow; install tensorflow-cpu"
            ) from None
        raise InvalidArgument(_FAILED) from None
    return space


def _printed(inks: Array, inverted: bool) -> Array:
    """Cyan, magenta, yellow, black → red, green, blue. Adobe stores what is left of white."""
    inks = inks.astype(np.int32) if inverted else 255 - inks.astype(np.int32)
    return (inks[..., 3:] * inks[..., :3] // 255).astype(np.uint8)


def _from_adobe(data: bytes) -> bool:
    """Whether a segment before the first scan says so."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xEE and data[at + 4 : at + 9] == b"Adobe" and size >= 14:
            return True
        at += 2 + size
    return False
