"""Classify and regress requests: the tf.Examples that JSON stands for, and the texts of errors."""

import base64
import functools
import json
import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_server import echo_signature

from jaxrt.errors import InvalidArgument
from jaxrt.serving.rest.example_proto import Kind, example, feature
from jaxrt.serving.rest.examples import examples, fed
from jaxrt.serving.rest.json_reader import parse

INT64 = (-(2**63), 2**63 - 1)
Features = dict[str, tuple[str | None, list[Any]]]


@functools.cache
def example_class() -> Any:
    """tf.Example as core/example/*.proto define it, `map<string, Feature>` included."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="e", syntax="proto3")
    for name, kind in (
        ("BytesList", proto.TYPE_BYTES),
        ("FloatList", proto.TYPE_FLOAT),
        ("Int64List", proto.TYPE_INT64),
    ):
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, label=proto.LABEL_REPEATED, type=kind)
    holder = file.message_type.add(name="Feature")
    holder.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes", "float", "int64"), 1):
        holder.field.add(
            name=name, number=number, label=proto.LABEL_OPTIONAL, type=proto.TYPE_MESSAGE,
            type_name=f".e.{name.capitalize()}List", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=proto.LABEL_OPTIONAL, type=proto.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=proto.LABEL_OPTIONAL, type=proto.TYPE_MESSAGE,
        type_name=".e.Feature",
    )  # fmt: skip
    features.field.add(
        name="feature", number=1, label=proto.LABEL_REPEATED, type=proto.TYPE_MESSAGE,
        type_name=".e.Features.FeatureEntry",
    )  # fmt: skip
    root = file.message_type.add(name="Example")
    root.field.add(
        name="features", number=1, label=proto.LABEL_OPTIONAL, type=proto.TYPE_MESSAGE,
        type_name=".e.Features",
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("e.Example"))


def read(serialized: bytes) -> Features:
    """Name → (kind, values), as protobuf reads the bytes."""
    message = example_class().FromString(serialized)
    found = {}
    for name, held in message.features.feature.items():
        kind = held.WhichOneof("kind")
        found[name] = (kind, list(getattr(held, kind).value) if kind else [])
    return found


def decode(body: str | bytes) -> list[bytes]:
    serialized = examples(parse(body.encode() if isinstance(body, str) else body))
    assert (serialized.dtype, serialized.ndim) == (np.object_, 1)
    return list(serialized)


def one(content: str) -> Features:
    (serialized,) = decode(f'{{"examples": [{content}]}}')
    return read(serialized)


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        ('"hello"', "bytes", [b"hello"]),
        ('"\\u00e9"', "bytes", ["\u00e9".encode()]),
        ('{"b64": "/w=="}', "bytes", [b"\xff"]),
        ('{"b64": ""}', "bytes", [b""]),
        ('["a", {"b64": "/w"}, ""]', "bytes", [b"a", b"\xff", b""]),
        ("2.0", "float", [2.0]),
        ("-0.0", "float", [-0.0]),
        ("2e0", "float", [2.0]),
        ("[1.5, 2e0, 0.25]", "float", [1.5, 2.0, 0.25]),
        ("[Infinity, -Infinity, 1e39, -1e300]", "float", [np.inf, -np.inf, np.inf, -np.inf]),
        ("18446744073709551616", "float", [2.0**64]),
        ("-9223372036854775809", "float", [-(2.0**63)]),
        ("2", "int64", [2]),
        ("true", "int64", [1]),
        ("false", "int64", [0]),
        ("[1, true, false, 5]", "int64", [1, 1, 0, 5]),
        ("[127, 128, -1]", "int64", [127, 128, -1]),
        ("[9223372036854775807, -9223372036854775808]", "int64", [2**63 - 1, -(2**63)]),
        ("[" + "16384, " * 99 + "0]", "int64", [16384] * 99 + [0]),
        ("[" + "0.5, " * 99 + "1.0]", "float", [0.5] * 99 + [1.0]),
        ("[]", None, []),
    ],
)
def test_the_kind_of_a_feature_is_that_of_its_literals(
    value: str, kind: str | None, values: list[Any]
) -> None:
    assert one(f'{{"x": {value}}}') == {"x": (kind, values)}


def test_not_a_number_is_a_float() -> None:
    kind, values = one('{"x": NaN}')["x"]
    assert kind == "float" and np.isnan(values).all()


def test_an_example_without_features_is_no_bytes() -> None:
    assert decode('{"examples": [{}, {}]}') == [b"", b""]


def test_names_sort_and_the_last_of_a_repeated_one_counts() -> None:
    (first,) = decode('{"examples": [{"b": 1, "a": "x", "b": 2.5}]}')
    (second,) = decode('{"examples": [{"a": "x", "b": 2.5}]}')
    assert first == second
    assert read(first) == {"a": ("bytes", [b"x"]), "b": ("float", [2.5])}


def test_bytes_that_are_no_utf8_and_empty_names_are_kept() -> None:
    (serialized,) = decode(b'{"examples": [{"\xff": 1, "": []}]}')
    empty, other = b"\x0a\x00\x12\x00", b"\x0a\x01\xff\x12\x05\x1a\x03\x0a\x01\x01"
    entries = b"\x0a" + bytes((len(empty),)) + empty + b"\x0a" + bytes((len(other),)) + other
    assert serialized == b"\x0a" + bytes((len(entries),)) + entries


def test_a_name_ends_at_a_nul_byte() -> None:
    assert one('{"x\\u0000y": 1}') == {"x": ("int64", [1])}


def test_the_context_is_a_part_of_every_example() -> None:
    body = '{"context": {"c": "x"}, "examples": [{"a": 1}, {}, {"c": 2}], "other": null}'
    first, second, third = decode(body)
    assert read(first) == {"c": ("bytes", [b"x"]), "a": ("int64", [1])}
    assert read(second) == {"c": ("bytes", [b"x"])}
    assert third == second + decode('{"examples": [{"c": 2}]}')[0]
    assert decode('{"context": {}, "examples": [{"a": 1}]}') == decode('{"examples": [{"a": 1}]}')


def test_the_first_of_repeated_keys_of_the_request_counts() -> None:
    body = '{"examples": [{"a": 1}], "examples": 5, "context": {"b": 2}, "context": 5}'
    assert read(decode(body)[0]) == {"a": ("int64", [1]), "b": ("int64", [2])}


TYPE = "Feature: x has element with unexpected JSON type: "
KIND = "Unexpected element type in feature: x expecting type: "
EXAMPLE = "Example must be JSON object but got JSON "


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("null", TYPE + "Null"),
        ("[1, null]", TYPE + "Null"),
        ("[[1]]", TYPE + "Array"),
        ("[" + "[1.0], " * 99 + "[2.0]]", TYPE + "Array"),
        ('{"y": 1}', TYPE + "Object"),
        ('{"b64": 5}', TYPE + "Object"),
        ('{"b64": "aa==", "y": 1}', TYPE + "Object"),
        ('["a", {}]', TYPE + "Object"),
        ("[1.5, 2]", KIND + "float"),
        ("[1.5, true]", KIND + "float"),
        ("[2, 1.5]", KIND + "int64"),
        ("[true, 1.5]", KIND + "int64"),
        ('[1, "a"]', KIND + "int64"),
        ('[1, {"b64": "!"}]', KIND + "int64"),
        ('["a", 1]', KIND + "bytes"),
        ('[{"b64": "aa=="}, false]', KIND + "bytes"),
        ("[1, 1.5, null]", KIND + "int64"),
        ("[1.5, 18446744073709551615]", KIND + "float"),
        ("18446744073709551615", "Feature: x has uint64_t element. Only int64_t is supported."),
        ("[20, 9223372036854775808]",
         "Feature: x has uint64_t element. Only int64_t is supported."),
        ('{"b64": "!"}', "Unable to base64 decode"),
        ('["a", {"b64": "a"}]', "Unable to base64 decode"),
    ],
)  # fmt: skip
def test_a_value_that_no_feature_takes(value: str, message: str) -> None:
    for body in (
        f'{{"examples": [{{"a": 1}}, {{"x": {value}}}]}}',
        f'{{"context": {{"x": {value}}}}}',
        f'{{"examples": [{{"x": {value}, "x": 1}}]}}',
    ):
        with pytest.raises(InvalidArgument) as error:
            decode(body)
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("body", "shown", "text"),
    [
        ("{}", "{}", "When method is classify, key 'examples' is expected and was not found"),
        ('{"instances": 1}', '{\n    "instances": 1\n}',
         "When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": null}', '{\n    "examples": null\n}',
         "Expecting 'examples' value to be an list/array"),
        ('{"examples": {}}', '{\n    "examples": {}\n}',
         "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', '{\n    "examples": []\n}', "'examples' value is an empty array"),
    ],
)  # fmt: skip
def test_a_request_without_a_list_of_examples(body: str, shown: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        decode(body)
    assert str(error.value) == f"JSON Value: {shown} {text}"


@pytest.mark.parametrize(
    ("value", "found"),
    [("[1]", "Array"), ("[]", "Array"), ('"a"', "String"), ("1.5", "Number"), ("null", "Null"),
     ("true", "True"), ("false", "False")],
)  # fmt: skip
def test_an_example_or_context_that_is_no_object(value: str, found: str) -> None:
    for body in (f'{{"examples": [{{}}, {value}]}}', f'{{"context": {value}, "examples": 5}}'):
        with pytest.raises(InvalidArgument) as error:
            decode(body)
        assert str(error.value) == EXAMPLE + found


def test_bytes_of_a_name_that_are_no_utf8_reach_the_error() -> None:
    with pytest.raises(InvalidArgument) as error:
        decode(b'{"examples": [{"\xff": null}]}')
    assert str(error.value) == ("Feature: \udcff has element with unexpected JSON type: Null")


def test_only_string_inputs_are_fed() -> None:
    serialized = examples(parse(b'{"examples": [{}]}'))
    assert fed(echo_signature(inputs="string"), serialized) == {"inputs": serialized}
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[0\] to be double but string is prov"):
        fed(echo_signature(inputs="float64"), serialized)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
SIGNED = st.integers(*INT64) | st.integers(-300, 70000)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("bytes"), st.lists(st.binary(max_size=200), min_size=1)),
    st.tuples(st.just("float"), st.lists(st.floats(width=32, allow_nan=False), min_size=1)),
    st.tuples(st.just("int64"), st.lists(SIGNED, min_size=1)),
    st.tuples(st.none(), st.just([])),
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(NAMES, VALUES, max_size=2))
def test_examples_come_back_from_protobuf(features: Any, context: Any) -> None:
    context = {name: value for name, value in context.items() if name not in features}

    def texts(of: Any) -> Any:
        return {name: list(map(text, values)) for name, (_, values) in of.items()}

    def text(value: Any) -> Any:
        return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value

    body = json.dumps({"context": texts(context), "examples": [texts(features), {}]})
    full, bare = decode(body)
    assert read(full) == features | context
    assert read(bare) == context
    # Not the same bytes as protobuf's, whose maps have no order, but as many.
    assert len(bare) == len(example_class().FromString(bare).SerializeToString())


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_doubles_round_to_the_nearest_float(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        wanted = np.array(values, np.float64).astype(np.float32)
    kind, found = one(json.dumps({"x": values}))["x"]
    assert kind == "float"
    np.testing.assert_array_equal(np.array(found, np.float32), wanted)


def test_a_feature_is_written_field_by_field() -> None:
    floats = struct.pack("<2f", 1.0, -2.5)
    assert feature(Kind.FLOAT, [1.0, -2.5]) == b"\x12\x0a\x0a\x08" + floats
    assert feature(Kind.INT64, [1, 300]) == b"\x1a\x05\x0a\x03\x01\xac\x02"
    assert feature(Kind.BYTES, [b"a", b""]) == b"\x0a\x05\x0a\x01a\x0a\x00"
    assert example({b"x": b""}) == b"\x0a\x07\x0a\x05\x0a\x01x\x12\x00"
