import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.serving.rpc import decode, encode, varints
from jaxrt.serving.rpc.datatypes import BY_NAME, DATATYPES, NUMBERS, Datatype
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.wire import Malformed, delimited, fields, number

SHAPES = [(), (0,), (3,), (2, 5), (1, 300), (2, 0, 3)]


def read(data: bytes) -> np.ndarray[Any, Any]:
    return decode.tensor(data, 0, len(data))[1]


def some(datatype: Datatype, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """All bits, negative numbers and numbers of several bytes among them."""
    rng = np.random.default_rng(len(shape))
    size, dtype = int(np.prod(shape)), datatype.dtype.numpy
    assert dtype is not None
    if dtype == np.object_:
        array = np.empty(size, np.object_)
        array[:] = [rng.bytes(int(rng.integers(0, 300))) for _ in range(size)]
    elif dtype == np.bool_:
        array = rng.integers(0, 2, size).astype(np.bool_)
    elif dtype in (ml_dtypes.int4, ml_dtypes.uint4):
        array = rng.integers(0, 8, size).astype(dtype)
    else:
        array = np.frombuffer(rng.bytes(size * dtype.itemsize), dtype)
    return array.reshape(shape)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_dtype_comes_back_bit_for_bit(name: str, content: bool) -> None:
    datatype = BY_NAME[name]
    for shape in SHAPES:
        array = some(datatype, shape)
        data = b"".join(encode.tensor(array, datatype, content=content))
        found, again = decode.tensor(data, 0, len(data))
        assert found is datatype
        assert again.shape == shape
        assert again.dtype == datatype.dtype.numpy
        assert again.tolist() == array.tolist() or again.tobytes() == array.tobytes()


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_is_written_is_what_protobuf_writes(name: str, content: bool) -> None:
    for shape in SHAPES:
        array = some(BY_NAME[name], shape)
        data = b"".join(encode.tensor(array, BY_NAME[name], content=content))
        proto = message("TensorProto").FromString(data)
        assert proto.SerializeToString(deterministic=True) == data
        assert proto.dtype == BY_NAME[name].number
        assert [dim.size for dim in proto.tensor_shape.dim] == list(shape)
        assert bool(proto.tensor_content) == (content and bool(array.size))


def test_large_numbers_are_not_copied_to_be_written() -> None:
    array = np.arange(100_000, dtype=np.float32)
    head, body = encode.tensor(array, BY_NAME["float32"], content=True)
    assert np.shares_memory(np.frombuffer(body, np.float32), array)
    assert len(head) < 32


@pytest.mark.parametrize("shift", range(8))
def test_content_is_not_copied_where_it_lies_aligned(shift: int) -> None:
    array = np.arange(1000, dtype=np.float32)
    data = bytes(shift) + b"".join(encode.tensor(array, BY_NAME["float32"], content=True))
    _, found = decode.tensor(data, shift, len(data))
    whole = np.frombuffer(data, np.uint8)
    begin = data.index(array.tobytes())
    assert np.array_equal(found, array)
    assert np.shares_memory(found, whole) == ((whole.ctypes.data + begin) % 4 == 0)
    assert found.flags.aligned


TYPED = [
    ("float32", "float_val", [1.5, 2.5], [1.5, 2.5, 2.5]),
    ("float64", "double_val", [1.5], [1.5] * 3),
    ("int32", "int_val", [-1, 2], [-1, 2, 2]),
    ("int8", "int_val", [200, -1], [-56, -1, -1]),  # the low bits
    ("uint8", "int_val", [300], [44] * 3),
    ("int16", "int_val", [-1], [-1] * 3),
    ("uint16", "int_val", [65_535], [65_535] * 3),
    ("qint8", "int_val", [-3], [-3] * 3),
    ("quint16", "int_val", [7, 8], [7, 8, 8]),
    ("int64", "int64_val", [-(1 << 63)], [-(1 << 63)] * 3),
    ("uint32", "uint32_val", [(1 << 32) - 1], [(1 << 32) - 1] * 3),
    ("uint64", "uint64_val", [(1 << 64) - 1], [(1 << 64) - 1] * 3),
    ("bool", "bool_val", [True, False], [True, False, False]),
    ("float16", "half_val", [0x3C00], [1.0] * 3),
    ("bfloat16", "half_val", [0x3F80, 0x4000], [1.0, 2.0, 2.0]),
    ("complex64", "scomplex_val", [1.0, 2.0], [1 + 2j] * 3),
    ("complex64", "scomplex_val", [1.0, 2.0, 3.0], [1 + 2j] * 3),  # a half is left out
    ("complex128", "dcomplex_val", [1.0, 2.0, 3.0, 4.0], [1 + 2j, 3 + 4j, 3 + 4j]),
    ("string", "string_val", [b"a", b""], [b"a", b"", b""]),
    ("int4", "int_val", [-8, 7], [-8, 7, 7]),
    ("uint4", "int_val", [15], [15] * 3),
]


def typed(name: str, field: str, values: list[Any], size: int = 3) -> bytes:
    proto = message("TensorProto")(dtype=BY_NAME[name].number)
    proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(values)
    serialized: bytes = proto.SerializeToString()
    return serialized


@pytest.mark.parametrize(("name", "field", "values", "wanted"), TYPED)
def test_the_last_value_stands_for_those_that_are_missing(
    name: str, field: str, values: list[Any], wanted: list[Any]
) -> None:
    assert read(typed(name, field, values)).astype(object).tolist() == wanted


@pytest.mark.parametrize(("name", "field"), [("float32", "float_val"), ("string", "string_val")])
def test_values_beyond_the_shape_are_left_out(name: str, field: str) -> None:
    values = [b"a", b"b", b"c"] if name == "string" else [1.0, 2.0, 3.0]
    assert read(typed(name, field, values, size=2)).tolist() == values[:2]


@pytest.mark.parametrize(
    ("name", "nothing"), [("float32", 0.0), ("int64", 0), ("bool", False), ("string", b"")]
)
def test_without_values_all_are_zero(name: str, nothing: object) -> None:
    assert read(typed(name, "float_val", [])).tolist() == [nothing] * 3


def test_values_of_another_dtype_do_not_count() -> None:
    assert read(typed("float32", "double_val", [1.0])).tolist() == [0.0] * 3


def test_numbers_may_come_one_by_one_and_in_several_packs() -> None:
    shape = delimited(2, delimited(2, b"\x08\x04"))
    one = bytes((5 << 3 | 5,)) + struct.pack("<f", 1.0)
    pack = delimited(5, struct.pack("<ff", 2.0, 3.0))
    assert read(b"\x08\x01" + shape + one + pack + one).tolist() == [1.0, 2.0, 3.0, 1.0]
    loose = bytes((7 << 3,)) + number(-5)
    assert read(b"\x08\x03" + shape + loose + delimited(7, b"\x01\x02")).tolist() == [-5, 1, 2, 2]


def shaped(*sizes: int, dtype: int = 1) -> bytes:
    proto = message("TensorProto")(dtype=dtype)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    serialized: bytes = proto.SerializeToString()
    return serialized


@pytest.mark.parametrize(
    "data",
    [
        shaped(2, dtype=0),
        shaped(2, dtype=99),
        shaped(2, dtype=20),  # DT_RESOURCE
        shaped(2, dtype=101),  # a reference
        shaped(-1),
        shaped(1 << 40, 1 << 40),
        shaped(1 << 40, 1 << 40, 0),
        shaped(1 << 30),  # 4 GB of zeros for ten bytes
        shaped(*[1] * 65),
        shaped(2) + delimited(4, b"1234567"),
        shaped(2) + delimited(4, b"123456789"),
        shaped(2, dtype=7) + delimited(4, b"\x01\x02ab"),
        shaped(2, dtype=7) + delimited(4, b"\x01\x01abc"),
        shaped(2, dtype=7) + delimited(4, b"\x80"),
        shaped(1000, dtype=7) + delimited(4, b"\x01a"),
    ],
)
def test_what_tensorflow_could_not_parse(data: bytes) -> None:
    with pytest.raises(decode.Unreadable):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        shaped(2) + delimited(5, b"12345"),
        shaped(2, dtype=3) + delimited(7, b"\x80"),
        shaped(2, dtype=3) + delimited(7, b"\x80" * 10 + b"\x01"),
        shaped(2) + b"\x2a\x05ab",
        shaped(2) + b"\x0c",
        b"\x00\x00",
    ],
)
def test_what_protobuf_could_not_parse(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)
    with pytest.raises(DecodeError):
        message("TensorProto").FromString(data)


def test_a_shape_of_unknown_rank_is_that_of_its_dimensions() -> None:
    proto = message("TensorProto")(dtype=1)
    proto.tensor_shape.unknown_rank = True
    assert read(proto.SerializeToString()).shape == ()


def test_a_bool_of_content_is_true_whatever_its_bits() -> None:
    data = shaped(3, dtype=10) + delimited(4, b"\x00\x01\xff")
    assert read(data).tolist() == [False, True, True]
    assert read(data).view(np.uint8).tolist() == [0, 1, 1]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_packed_integers_are_what_protobuf_packs(values: list[int]) -> None:
    proto = message("TensorProto")(int64_val=values)
    packed = varints.encode(np.array(values, np.int64)).tobytes()
    if values:
        assert proto.SerializeToString() == delimited(10, packed)
    found = varints.decode(np.frombuffer(packed, np.uint8)).view(np.int64)
    assert found.tolist() == values


@given(st.binary(max_size=60))
def test_a_message_is_malformed_where_protobuf_says_so(data: bytes) -> None:
    try:
        fields(data, 0, len(data))
    except Malformed:
        with pytest.raises(DecodeError):
            message("HealthCheckResponse").FromString(data)


def test_the_numbers_of_dtypes_are_those_of_tensorflow() -> None:
    from tensorflow.core.framework import types_pb2

    for name, value in NUMBERS.items():
        assert types_pb2.DataType.Value(name) == value
    assert all(DATATYPES[found.number] is found for found in BY_NAME.values())


def test_tensorflow_reads_what_is_written_and_the_other_way_round() -> None:
    import tensorflow as tf

    for name in ("float32", "int64", "bool", "bfloat16", "complex64", "string", "uint16"):
        for content in (False, True):
            array = some(BY_NAME[name], (2, 3))
            if name == "bfloat16" or name.startswith(("float", "complex")):
                array = np.nan_to_num(array)
            data = b"".join(encode.tensor(array, BY_NAME[name], content=content))
            parsed = tf.io.parse_tensor(data, tf.dtypes.as_dtype(BY_NAME[name].number)).numpy()
            assert parsed.tolist() == array.tolist()
            proto = tf.make_tensor_proto(array).SerializeToString()
            assert read(proto).tolist() == array.tolist()
