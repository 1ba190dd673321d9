"""Images without TensorFlow: its pixels bit for bit, its refusals, its order of roundings."""

import struct
import zlib
from typing import Any

import host_recordings
import numpy as np
import pytest
import simplejpeg
from host_recordings import Case, Recording, scalar

from jaxrt.converters.host import images, jpeg, ops_image, plan, png
from jaxrt.converters.host.graph import Node
from jaxrt.errors import Unimplemented

Array = np.ndarray[Any, Any]
DRAW = np.random.default_rng(0)

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
KINDS = [(d, GRAY) for d in (1, 2, 4, 8, 16)] + [(d, PALETTE) for d in (1, 4, 8)]
KINDS += [(d, colour) for d in (8, 16) for colour in (RGB, GRAY_ALPHA, RGB_ALPHA)]
PASSES = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # fmt: skip


def chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png_file(
    depth: int, colour: int, *extra: bytes, interlaced: bool = False, filters: int = 5
) -> bytes:
    """Random samples under random filters."""
    height, width = (int(n) for n in DRAW.integers(1, 14, 2))
    samples = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}[colour]
    lines = []
    for top, left, down, right in PASSES if interlaced else ((0, 0, 1, 1),):
        columns = len(range(left, width, right))
        if columns:
            size = (columns * samples * depth + 7) // 8
            for _ in range(top, height, down):
                lines.append(bytes([int(DRAW.integers(filters))]) + DRAW.bytes(size))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = zlib.compress(b"".join(lines))
    half = len(data) // 2
    parts = [(b"IHDR", header), *[(e[:4], e[4:]) for e in extra]]
    parts += [(b"IDAT", data[:half]), (b"tEXt", b"x\0y")][: 1 if half else 0]
    parts += [(b"IDAT", data[half:]), (b"IEND", b"")]
    parts = [p for p in parts if p[0] != b"tEXt"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def png_files() -> list[bytes]:
    files = []
    for depth, colour in KINDS:
        palette = [b"PLTE" + DRAW.bytes(3 << depth)] if colour == PALETTE else []
        size = {GRAY: 2, RGB: 6, PALETTE: (1 << depth) - 1}.get(colour, 0)
        clear = [b"tRNS" + DRAW.bytes(size)] if size else []
        gamma = [b"gAMA" + struct.pack(">I", 45455)] if depth < 16 else []
        for interlaced in (False, True):
            files.append(png_file(depth, colour, *palette, interlaced=interlaced))
            files.append(png_file(depth, colour, *gamma, *palette, *clear, interlaced=interlaced))
    files.append(png_file(8, RGB, b"sRGB\0"))
    files.append(png_file(8, RGB, b"gAMA" + struct.pack(">I", 99000)))
    files.append(png_file(4, PALETTE, b"PLTE" + DRAW.bytes(9)))
    return files


def broken_pngs() -> list[bytes]:
    whole = png_file(8, RGB)
    flipped = bytearray(whole)
    flipped[-16] ^= 1
    return [
        whole[:20],
        whole[:40],
        whole[:-20],
        whole[:-12],
        whole + b"trailing",
        bytes(flipped),
        whole.replace(b"IHDR", b"IHDX"),
        png_file(8, PALETTE),
        png_file(8, RGB, filters=200),
        png_file(8, RGB, filters=200),
        png_file(16, RGB, filters=200),
    ]


def picture(height: int, width: int, samples: int) -> Array:
    """Smooth, with some noise: every coefficient of a block is used."""
    ramp = DRAW.normal(size=(height, width, samples)).cumsum(0).cumsum(1)
    noisy: Array = ramp / np.abs(ramp).max() * 120 + 128 + DRAW.normal(size=ramp.shape) * 20
    return np.asarray(noisy.clip(0, 255), np.uint8)


def jpeg_files() -> list[bytes]:
    """Every subsampling, sizes that are no multiple of a block, low and high quality."""
    files = []
    for kind in ("444", "422", "420", "440", "411", "Gray"):
        for _ in range(6):
            height, width = (int(n) for n in DRAW.integers(1, 80, 2))
            quality = int(DRAW.integers(5, 100))
            if kind == "Gray":
                raw = simplejpeg.encode_jpeg(picture(height, width, 1), quality, "GRAY", kind)
            else:
                raw = simplejpeg.encode_jpeg(picture(height, width, 3), quality, "RGB", kind)
            files.append(raw)
    return files


def pillow_jpegs() -> list[bytes]:
    """Progressive, of four inks with and without Adobe's mark, of plain red, green and blue."""
    import io

    from PIL import Image

    def encoded(mode: str, **options: Any) -> bytes:
        out = io.BytesIO()
        samples = picture(33, 50, {"CMYK": 4, "RGB": 3}[mode])
        Image.fromarray(samples, mode=None).convert(mode).save(out, "JPEG", **options)
        return out.getvalue()

    inks = io.BytesIO()
    Image.frombytes("CMYK", (50, 33), picture(33, 50, 4).tobytes()).save(inks, "JPEG")
    adobe = inks.getvalue()
    at = adobe.index(b"\xff\xee")
    return [
        encoded("RGB", progressive=True),
        encoded("RGB", keep_rgb=True),
        adobe,
        adobe[:at] + adobe[at + 16 :],
    ]


def broken_jpegs() -> list[bytes]:
    whole = simplejpeg.encode_jpeg(picture(40, 40, 3), 80)
    scan = whole.index(b"\xff\xda")
    noisy = [bytearray(whole) for _ in range(6)]
    for one in noisy:
        one[int(DRAW.integers(scan + 20, len(whole) - 2))] ^= 0x55
    return [
        whole[:-2],
        whole[: len(whole) // 2],
        whole[: scan - 4],
        whole[:4],
        whole + b"trailing",
        *map(bytes, noisy),
    ]


def bmp_file(bits: int, *, up: bool = True, spare: int = 0) -> bytes:
    height, width = (int(n) for n in DRAW.integers(1, 9, 2))
    row = (bits // 8 * width + 3) // 4 * 4
    body = DRAW.bytes(row * height + spare)
    sides = struct.pack("<ii", width, height if up else -height)
    head = struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + struct.pack("<I", 40) + sides
    return b"BM" + head + struct.pack("<HHIIIIII", 1, bits, 0, 0, 0, 0, 0, 0) + body


BMPS = [bmp_file(bits, up=up) for bits in (8, 24, 32) for up in (True, False)]
BROKEN_BMPS = [bmp_file(24, spare=1), bmp_file(16), bmp_file(24)[:30], bmp_file(24)[:-4]]
OTHERS = [b"", b"no image", b"\xff\xd8", b"\xff\xd8\xff\xe0"]


def runs(files: list[bytes]) -> list[tuple[Any, ...]]:
    return [(scalar(data),) for data in files]


def cases(tf: Any) -> dict[str, Case]:
    return {**_pngs(tf), **_jpegs(tf), **_any(tf), **_resized(tf)}


def _pngs(tf: Any) -> dict[str, Case]:
    files = png_files()
    found: dict[str, Case] = {}
    for channels in (0, 1, 3, 4):
        for bits in (8, 16):
            kind = tf.dtypes.as_dtype(f"uint{bits}")
            found[f"png, {channels} channels of {bits} bits"] = (
                lambda x, c=channels, k=kind: tf.io.decode_png(x, c, k), runs(files)
            )  # fmt: skip
    found["broken png"] = (tf.io.decode_png, runs(broken_pngs()))
    return found


def _jpegs(tf: Any) -> dict[str, Case]:
    files = jpeg_files() + pillow_jpegs()
    found: dict[str, Case] = {}
    for channels in (0, 1, 3):
        for method in ("", "INTEGER_ACCURATE"):
            found[f"jpeg, {channels} channels, {method}"] = (
                lambda x, c=channels, m=method: tf.io.decode_jpeg(x, c, dct_method=m), runs(files)
            )  # fmt: skip
    found["jpeg, plain upscaling"] = (
        lambda x: tf.io.decode_jpeg(x, fancy_upscaling=False), runs(files)
    )  # fmt: skip
    found["broken jpeg"] = (tf.io.decode_jpeg, runs(broken_jpegs()))
    return found


def _any(tf: Any) -> dict[str, Case]:
    # TensorFlow's process dies of a BMP from top to bottom that is not to be uint8.
    some = png_files()[:20] + jpeg_files()[:8] + BMPS[::2] + BROKEN_BMPS + OTHERS
    found: dict[str, Case] = {}
    for kind in ("uint8", "uint16", "float32"):
        found[f"any image as {kind}"] = (
            lambda x, k=kind: tf.io.decode_image(x, dtype=tf.dtypes.as_dtype(k)), runs(some)
        )  # fmt: skip
    found["bmp"] = (tf.io.decode_bmp, runs(some))
    found["bmp, 3 channels"] = (lambda x: tf.io.decode_bmp(x, 3), runs(BMPS))
    found["bmp, 4 channels"] = (lambda x: tf.io.decode_bmp(x, 4), runs(BMPS))
    found["jpeg op, other files"] = (tf.io.decode_jpeg, runs(png_files()[:4] + BMPS + OTHERS))
    found["4 channels of any"] = (
        lambda x: tf.io.decode_image(x, channels=4), runs(png_files()[:9] + jpeg_files()[:1])
    )  # fmt: skip
    return found


def _resized(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name in ("Bilinear", "NearestNeighbor"):
        for align, half in ((False, False), (True, False), (False, True)):
            function = getattr(tf.raw_ops, f"Resize{name}")
            for kind in ("float32", "uint8"):
                pixels = [
                    (DRAW.standard_normal((2, h, w, c)) * 50 + 128).clip(0, 255).astype(kind)
                    for h, w, c in ((1, 1, 1), (7, 5, 3), (32, 17, 4), (20, 20, 3))
                ]
                sizes = [np.array(size, np.int32) for size in ((1, 1), (20, 20), (13, 40), (3, 2))]
                wrong = [np.array(size, np.int32) for size in ((0, 2), (2, -1), (1, 2, 3))]
                found[f"{name} of {kind}, {align}, {half}"] = (
                    lambda x, s, f=function, a=align, h=half: f(
                        images=x, size=s, align_corners=a, half_pixel_centers=h
                    ),
                    [(x, s) for x in pixels for s in sizes] + [(pixels[0], s) for s in wrong]
                    + [(np.zeros((1, 0, 2, 3), kind), sizes[0])],
                )  # fmt: skip
    return found


NAMES = (
    *[f"png, {channels} channels of {bits} bits" for channels in (0, 1, 3, 4) for bits in (8, 16)],
    "broken png",
    *[f"jpeg, {channels} channels, {method}" for channels in (0, 1, 3)
      for method in ("", "INTEGER_ACCURATE")],
    "jpeg, plain upscaling", "broken jpeg",
    *[f"any image as {kind}" for kind in ("uint8", "uint16", "float32")],
    "bmp", "bmp, 3 channels", "bmp, 4 channels", "jpeg op, other files", "4 channels of any",
    *[f"{name} of {kind}, {corners}" for name in ("Bilinear", "NearestNeighbor")
      for corners in ("False, False", "True, False", "False, True")
      for kind in ("float32", "uint8")],
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("image") / "recorded")


@pytest.mark.parametrize("name", NAMES)
def test_images_come_out_as_from_tensorflow(recorded: dict[str, Recording], name: str) -> None:
    assert set(recorded) == set(NAMES)
    host_recordings.check(recorded[name])


def test_a_file_that_only_tensorflow_decodes_is_named() -> None:
    node = Node("decode", "DecodeImage", (), {"channels": 0, "dtype": "uint8"})
    with pytest.raises(Unimplemented, match="a GIF image is decoded by TensorFlow only"):
        ops_image.decode(node, scalar(b"GIF89a"))
    with pytest.raises(Unimplemented, match="a WebP image"):
        ops_image.decode(node, scalar(b"RIFF\0\0\0\0WEBPVP8 "))


def test_a_gray_version_of_deep_colours_with_a_gamma_is_refused() -> None:
    with pytest.raises(Unimplemented, match="ask for 3 channels"):
        png.decode(png_file(16, RGB, b"sRGB\0"), 1, 8)


@pytest.mark.parametrize(
    "attrs", [{"ratio": 2}, {"try_recover_truncated": True}, {"acceptable_fraction": 0.5}]
)
def test_what_comes_out_otherwise_is_left_to_tensorflow(attrs: dict[str, Any]) -> None:
    assert not plan.lacks(Node("decode", "DecodeJpeg", (), {"ratio": 1}), {})
    assert plan.lacks(Node("decode", "DecodeJpeg", (), attrs), {})


def test_an_unusual_subsampling_is_refused() -> None:
    usual = bytearray(simplejpeg.encode_jpeg(picture(20, 20, 3), 80, "RGB", "444"))
    usual[usual.index(b"\xff\xc0") + 11] = 0x31
    with pytest.raises(Unimplemented, match="an unusual subsampling"):
        jpeg.decode(bytes(usual), 3)


def test_a_missing_library_is_an_error_that_names_the_extra() -> None:
    with pytest.raises(Unimplemented, match=r"pip install 'jaxrt\[images\]'"):
        images.library("no_such_library")
