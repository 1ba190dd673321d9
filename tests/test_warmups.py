"""Warm-up files: framing, messages, and the shapes in them."""

import struct
from pathlib import Path

import pytest

from jaxrt import tfrecord, warmups
from jaxrt.errors import ModelError

# Written by TensorFlow 2.21 and tensorflow-serving-api 2.21: a predict_log (signature `s`, a
# float32[2,3] and a scalar int32, version and output_filter set), a classify_log of two examples
# without a signature name, an empty PredictionLog, and a multi_inference_log whose one task is
# `q`, with one example and a context.
WRITTEN = bytes.fromhex(
    "4e00000000000000c4b905ad324c0a4a0a0a0a016d120208031a0173122b0a01611226080112081202080212020803"
    "2218000000000000000000000000000000000000000000000000120c0a01621207080312003a01051a017937a0e29e"
    "2e00000000000000c5cb57fa122c0a2a12280a260a110a0f0a0d0a0178120812060a040000803f0a110a0f0a0d0a01"
    "78120812060a040000803f07cfde52000000000000000029039807d8ea82a2220000000000000078113dfd22200a1e"
    "0a050a031a0171121512130a110a0f0a0d0a0178120812060a040000803fa7a75483"
)


def framed(*records: bytes) -> bytes:
    return b"".join(
        length + tfrecord.masked(length) + record + tfrecord.masked(record)
        for record in records
        for length in [struct.pack("<Q", len(record))]
    )


def field(number: int, *parts: bytes) -> bytes:
    """A length-delimited protobuf field of at most 127 bytes."""
    content = b"".join(parts)
    return bytes([number << 3 | 2, len(content)]) + content


def model(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / warmups.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return tmp_path


def test_the_shapes_of_a_file_that_tensorflow_serving_wrote(tmp_path: Path) -> None:
    assert warmups.planned_shapes(model(tmp_path, WRITTEN)) == [
        ("s", {"a": (2, 3), "b": ()}),
        ("serving_default", {"inputs": (2,)}),
        ("q", {"inputs": (1,)}),
    ]


def test_a_model_without_the_file_has_no_shapes(tmp_path: Path) -> None:
    assert warmups.planned_shapes(tmp_path) == []


def test_an_empty_file_has_no_shapes(tmp_path: Path) -> None:
    assert warmups.planned_shapes(model(tmp_path, b"")) == []


def test_a_regression_counts_its_examples(tmp_path: Path) -> None:
    examples = field(1, field(1, field(1)), field(1), field(1))
    request = field(1, field(3, b"r")) + field(2, examples)
    record = field(3, field(1, request))
    assert warmups.planned_shapes(model(tmp_path, framed(record))) == [("r", {"inputs": (3,)})]


@pytest.mark.parametrize("at", [0, 9, 30, 120, -1])
def test_a_flipped_bit_is_found(tmp_path: Path, at: int) -> None:
    broken = bytearray(WRITTEN)
    broken[at] ^= 1
    with pytest.raises(ModelError, match=r"byte \d+: found no record.*in TFRecord format\.$"):
        warmups.planned_shapes(model(tmp_path, bytes(broken)))


@pytest.mark.parametrize("length", [5, 12, 40, len(WRITTEN) - 1])
def test_a_truncated_file_is_found(tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelError, match="want a TFRecord"):
        warmups.planned_shapes(model(tmp_path, WRITTEN[:length]))


def test_a_length_beyond_the_file_is_not_allocated(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**62)
    with pytest.raises(ModelError, match="byte 0"):
        warmups.planned_shapes(model(tmp_path, length + tfrecord.masked(length)))


def test_a_record_that_is_no_message_is_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="record 1: Failed to parse warmup record"):
        warmups.planned_shapes(model(tmp_path, framed(b"", b"\xff\xff\xff")))


@pytest.mark.parametrize(("number", "kind"), [(5, "session_run_log"), (7, "predict_streamed_log")])
def test_logs_that_tensorflow_serving_does_not_replay_are_refused(
    tmp_path: Path, number: int, kind: str
) -> None:
    with pytest.raises(
        ModelError, match=f"Unsupported log_type for warmup: {number} .*record 0: found a {kind}"
    ):
        warmups.planned_shapes(model(tmp_path, framed(field(number))))


def test_a_tensor_of_unknown_shape_is_refused(tmp_path: Path) -> None:
    unknown = field(2, b"\x18\x01")
    request = field(2, field(1, b"x") + field(2, unknown))
    with pytest.raises(ModelError, match="record 0: input 'x' has no shape"):
        warmups.planned_shapes(model(tmp_path, framed(field(6, field(1, request)))))


def test_a_thousand_records_are_read_and_one_more_is_refused(tmp_path: Path) -> None:
    whole = model(tmp_path / "a", framed(b"") * 1000)
    assert warmups.planned_shapes(whole) == []
    with pytest.raises(ModelError, match=r"exceeds the maximum \(1000\)"):
        warmups.planned_shapes(model(tmp_path / "b", framed(b"") * 1001))


@pytest.mark.parametrize(
    ("data", "crc"),  # RFC 3720, appendix B.4
    [
        (b"", 0),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c_of_known_bytes(data: bytes, crc: int) -> None:
    assert tfrecord.crc32c(data) == crc


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 1000, 4099])
def test_crc32c_of_any_length_is_the_sum_of_its_parts(size: int) -> None:
    """CRC is affine: crc(a ^ b ^ c) == crc(a) ^ crc(b) ^ crc(c) for equal lengths."""
    a = bytes(i * 7 % 251 for i in range(size))
    b = bytes(i * 13 % 241 for i in range(size))
    mixed = bytes(x ^ y for x, y in zip(a, b, strict=True))
    zero = tfrecord.crc32c(bytes(size))
    assert tfrecord.crc32c(mixed) == tfrecord.crc32c(a) ^ tfrecord.crc32c(b) ^ zero


def test_crc32c_of_rows_agrees_with_that_of_single_bytes() -> None:
    data = bytes(i * i % 256 for i in range(1000))
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    assert tfrecord.crc32c(data) == remainder ^ 0xFFFFFFFF
