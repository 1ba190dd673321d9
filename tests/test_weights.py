import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from jaxrt.errors import ArtifactError
from jaxrt.specs import DTYPES
from jaxrt.weights import ALIGNMENT, Array, open_weights, stream_weights, write_weights

SIZED = sorted({d.numpy.name: d.numpy for d in DTYPES.values() if d.numpy and d.name != "string"})


def ramp(dtype: Any, shape: tuple[int, ...]) -> Array:
    return (np.arange(np.prod(shape, dtype=int)) % 7).reshape(shape).astype(dtype)


def stored_as(array: Array) -> tuple[str, list[int], bytes]:
    """What another reader should find: tag, shape, bytes."""
    if array.dtype == ml_dtypes.int4:
        return "I8", list(array.shape), array.astype(np.int8).tobytes()
    if array.dtype == ml_dtypes.uint4:
        return "U8", list(array.shape), array.astype(np.uint8).tobytes()
    if array.dtype == np.complex128:
        return "F64", [*array.shape, 2], array.tobytes()
    tags = {"bool": "BOOL", "bfloat16": "BF16", "float8_e5m2": "F8_E5M2"}
    tags |= {"float8_e4m3fn": "F8_E4M3", "complex64": "C64"}
    letter = {"f": "F", "i": "I", "u": "U"}.get(array.dtype.kind, "")
    tag = tags.get(array.dtype.name, f"{letter}{8 * array.dtype.itemsize}")
    return tag, list(array.shape), array.tobytes()


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (5, 1, 3), (33, 7)])
def test_every_dtype_and_shape_comes_back_and_other_readers_see_it(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "w.safetensors"
    written = {"first": ramp(np.int8, (3,)), "é/x:0": ramp(name, shape), "last": ramp("f4", (2,))}
    write_weights(path, written)
    weights = open_weights(path)
    assert list(weights) == list(written)
    for key, array in written.items():
        assert weights[key].dtype == array.dtype
        assert weights[key].shape == array.shape
        np.testing.assert_array_equal(weights[key], array)
    others = dict(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    for key, array in written.items():
        found = others[key]
        assert (found["dtype"], list(found["shape"]), bytes(found["data"])) == stored_as(array)


def test_safetensors_loads_equal_numpy_arrays(tmp_path: Path) -> None:
    written = {n: ramp(n, (4, 5)) for n in ("float32", "int64", "bool", "float16", "complex64")}
    write_weights(tmp_path / "w", written)
    loaded = safetensors.numpy.load_file(tmp_path / "w")
    for key, array in written.items():
        np.testing.assert_array_equal(loaded[key], array, strict=True)


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    written = {"a": ramp("float32", (3, 3)), "b": ramp("uint8", (5,)), "c": ramp("int16", ())}
    safetensors.numpy.save_file(written, tmp_path / "w", metadata={"format": "np"})
    weights = open_weights(tmp_path / "w")
    assert weights.keys() == written.keys()
    for key, array in written.items():
        np.testing.assert_array_equal(weights[key], array, strict=True)


def test_negative_int4_survives_whatever_its_upper_bits_are(tmp_path: Path) -> None:
    clean = np.array([-8, -1, 0, 7], ml_dtypes.int4)
    dirty = np.array([-8, -1, 0, 7], np.int8).view(ml_dtypes.int4)
    write_weights(tmp_path / "w", {"clean": clean, "dirty": dirty})
    weights = open_weights(tmp_path / "w")
    for key in ("clean", "dirty"):
        np.testing.assert_array_equal(weights[key].astype(np.int8), [-8, -1, 0, 7])
    assert safetensors.numpy.load_file(tmp_path / "w")["clean"].tolist() == [-8, -1, 0, 7]


def test_every_tensor_starts_on_a_64_byte_boundary_in_the_file_and_in_memory(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    written = {f"t{i}": ramp(rng.choice(SIZED), (int(rng.integers(1, 40)),)) for i in range(40)}
    write_weights(tmp_path / "w", written)
    for array in open_weights(tmp_path / "w").values():
        assert array.ctypes.data % ALIGNMENT == 0


def test_a_tiny_file_has_these_bytes(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_weights(path, {"a": np.array([1, 2, 3], np.uint8), "b": np.array(1.5, np.float32)})
    header = (
        b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},'
        b'"__pad__.1":{"dtype":"U8","shape":[61],"data_offsets":[3,64]},'
        b'"b":{"dtype":"F32","shape":[],"data_offsets":[64,68]}}'
    )
    length = 8 * 8 + 64 * 2 - 8
    wanted = struct.pack("<Q", length) + header.ljust(length)
    wanted += b"\x01\x02\x03" + bytes(61) + b"\x00\x00\xc0\x3f"
    assert path.read_bytes() == wanted


def test_a_carried_dtype_has_these_bytes(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_weights(path, {"z": np.array([-1, 7], ml_dtypes.int4)})
    header = (
        b'{"__metadata__":{"jaxrt.dtypes":"{\\"z\\": \\"int4\\"}"},'
        b'"z":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}'
    )
    assert path.read_bytes() == struct.pack("<Q", 120) + header.ljust(120) + b"\xff\x07"


def test_no_tensors_at_all_is_a_file_too(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {})
    assert dict(open_weights(tmp_path / "w")) == {}
    assert safetensors.numpy.load_file(tmp_path / "w") == {}


def test_strided_and_big_endian_arrays_are_written_by_value(tmp_path: Path) -> None:
    square = ramp("int32", (6, 7))
    written = {
        "t": square.T,
        "s": square[::2, ::-3],
        "be": ramp(">f8", (3,)),
        "bc": ramp(">c16", ()),
    }
    write_weights(tmp_path / "w", written)
    weights = open_weights(tmp_path / "w")
    for key, array in written.items():
        np.testing.assert_array_equal(weights[key], array)


def test_streamed_tensors_may_come_in_any_order_and_one_at_a_time(tmp_path: Path) -> None:
    layout = {k: jax.ShapeDtypeStruct((5, 3), np.float32) for k in "abc"}
    alive = []

    def tensors() -> Iterator[tuple[str, Array]]:
        for key in "cab":
            alive.append(key)
            yield key, np.full((5, 3), ord(key), np.float32)

    stream_weights(tmp_path / "w", layout, tensors())
    weights = open_weights(tmp_path / "w")
    assert list(weights) == ["a", "b", "c"]
    assert alive == ["c", "a", "b"]
    for key in "abc":
        assert (weights[key] == ord(key)).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([("a", ramp("f4", (2,)))] * 2, "'a' came twice"),
        ([("b", ramp("f4", (2,)))], "'b' is not in the layout"),
        ([], r"\['a'\] never came"),
        ([("a", ramp("f4", (3,)))], r"'a' is float32\[3\], the layout says float32\[2\]"),
        ([("a", ramp("f8", (2,)))], r"'a' is float64\[2\], the layout says float32\[2\]"),
    ],
)
def test_streamed_tensors_must_be_as_announced(
    tmp_path: Path, given: list[tuple[str, Array]], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        stream_weights(tmp_path / "w", {"a": jax.ShapeDtypeStruct((2,), np.float32)}, given)


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("__metadata__", ramp("f4", ()), "reserved"),
        ("__pad__.0", ramp("f4", ()), "reserved"),
        ("s", np.array([b"x"], object), "dtype object cannot be stored"),
        ("u", np.array(["x"]), "dtype <U1 cannot be stored"),
    ],
)
def test_names_and_dtypes_the_format_cannot_hold_are_refused(
    tmp_path: Path, name: str, array: Array, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        write_weights(tmp_path / "w", {name: array})


def test_arrays_are_read_only_views_of_the_file_and_outlive_its_weights(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {"a": ramp("float32", (64, 64))})
    weights = open_weights(tmp_path / "w")
    array = weights["a"]
    assert not array.flags.writeable
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)
    weights.close()
    (tmp_path / "w").unlink()
    assert len(weights) == 0
    np.testing.assert_array_equal(array, ramp("float32", (64, 64)))


def test_xla_borrows_the_mapped_pages_on_a_cpu(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {"pad": ramp("int8", (3,)), "a": ramp("float32", (256, 256))})
    with open_weights(tmp_path / "w") as weights:
        array = weights["a"]
        placed = jax.device_put(array, jax.devices("cpu")[0])
        assert placed.unsafe_buffer_pointer() == array.ctypes.data
        np.testing.assert_array_equal(np.asarray(placed), array)


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def real(dtypes: object, **tensors: Any) -> bytes:
    return raw({"__metadata__": {"jaxrt.dtypes": json.dumps(dtypes)}} | tensors, bytes(16))


MALFORMED = {
    "empty file": (b"", "0 bytes, want at least the 8"),
    "half a length": (b"\x01\x00\x00", "3 bytes, want at least the 8"),
    "header too large": (struct.pack("<Q", 100_000_001) + bytes(64), "header too large: 100000001"),
    "header past the end": (struct.pack("<Q", 99) + b"{}", "truncated: the header has 99 bytes"),
    "header huge": (b"\xff" * 8 + b"{}", "header too large"),
    "not JSON": (raw(b"{'a': 1}"), "the header is not JSON"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "the header is not JSON"),
    "nested deep": (raw(b"[" * 200_000), "the header is not JSON"),
    "a long number": (raw(b'{"a": ' + b"9" * 9999 + b"}"), "the header is not JSON"),
    "not an object": (raw([1, 2]), "not a JSON object"),
    "starts with a space": (raw(b" {}"), "starts with its first byte"),
    "a name twice": (
        raw(b'{"a": {}, "a": {}}'),
        r"duplicate names \['a'\]",
    ),
    "a field missing": (raw({"a": {"dtype": "U8", "shape": [0]}}), "'a' does not have dtype"),
    "a field more": (raw({"a": entry("U8", [0], 0, 0) | {"x": 1}}), "'a' does not have dtype"),
    "no object": (raw({"a": 3}), "'a' does not have dtype"),
    "unknown dtype": (raw({"a": entry("F128", [1], 0, 16)}, bytes(16)), "dtype 'F128', want one"),
    "dtype no string": (raw({"a": entry(["U8"], [1], 0, 1)}, bytes(1)), "dtype .*, want one of"),
    "negative size": (raw({"a": entry("U8", [-1], 0, 1)}, bytes(1)), r"'a' has shape \[-1\]"),
    "size no integer": (raw({"a": entry("U8", [1.0], 0, 1)}, bytes(1)), r"'a' has shape \[1.0\]"),
    "size true": (raw({"a": entry("U8", [True], 0, 1)}, bytes(1)), r"'a' has shape \[True\]"),
    "shape no list": (raw({"a": entry("U8", 1, 0, 1)}, bytes(1)), "'a' has shape 1"),
    "too many dimensions": (raw({"a": entry("U8", [1] * 65, 0, 1)}, bytes(1)), "'a' has shape"),
    "too large though empty": (
        raw({"a": entry("U8", [0, 2**62, 2**62], 0, 0)}),
        "'a' has shape",
    ),
    "offsets reversed": (raw({"a": entry("U8", [1], 1, 0)}, bytes(1)), r"data_offsets \[1, 0\]"),
    "offsets negative": (raw({"a": entry("U8", [1], -1, 0)}, bytes(1)), r"data_offsets \[-1, 0\]"),
    "offsets no pair": (
        raw({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, bytes(2)),
        r"data_offsets \[0, 1, 2\]",
    ),
    "shape and offsets differ": (raw({"a": entry("F32", [2], 0, 4)}, bytes(4)), "takes 8 bytes"),
    "overflow": (raw({"a": entry("F32", [2**40, 2**40], 0, 4)}, bytes(4)), "takes .* bytes"),
    "data truncated": (raw({"a": entry("U8", [9], 0, 9)}, bytes(8)), "truncated: the data has 8"),
    "out of range": (raw({"a": entry("U8", [0], 9, 9)}), "leaves a hole"),
    "bytes left over": (raw({"a": entry("U8", [1], 0, 1)}, bytes(2)), "bytes after the last"),
    "a hole": (
        raw({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, bytes(3)),
        "'b' leaves a hole: begins at 2, want 1",
    ),
    "an overlap": (
        raw({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, bytes(3)),
        "'b' overlaps the one before: begins at 1, want 2",
    ),
    "metadata no strings": (raw({"__metadata__": {"a": 1}}), "not an object of strings"),
    "metadata no object": (raw({"__metadata__": []}), "not an object of strings"),
    "dtypes no JSON": (
        raw({"__metadata__": {"jaxrt.dtypes": "{"}}),
        "jaxrt.dtypes is not JSON",
    ),
    "dtypes no object": (real([]), "jaxrt.dtypes is not an object"),
    "dtypes of nobody": (real({"x": "int4"}), r"not there: \['x'\]"),
    "dtype nobody carries": (real({"a": "int3"}, a=entry("I8", [16], 0, 16)), "'int3', want one"),
    "wrong carrier": (real({"a": "int4"}, a=entry("U8", [16], 0, 16)), "cannot carry int4"),
    "half a complex": (real({"a": "complex128"}, a=entry("F64", [2, 1], 0, 16)), "cannot carry"),
    "no dimension": (
        real({"a": "complex128"}, a=entry("F64", [], 0, 8), b=entry("F64", [], 8, 16)),
        "cannot carry complex128",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_by_name_and_rule(tmp_path: Path, case: str) -> None:
    content, rule = MALFORMED[case]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rule) as caught:
        open_weights(path)
    assert str(caught.value).startswith(f"{path}: not a valid safetensors file: ")
    assert "\n" not in str(caught.value)


def test_no_truncation_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_weights(path, {"a": ramp("int16", (5,)), "b": ramp("float32", (3, 2))})
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError, match="not a valid safetensors file"):
            open_weights(path)


def test_a_missing_file_or_a_directory_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ArtifactError, match=f"{path}: cannot be read"):
            open_weights(path)
