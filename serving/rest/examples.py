"""The body of a classify or regress request → serialized tf.Examples."""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.base64_text import decoded
from jaxrt.serving.rest.example_proto import Kind, example, feature
from jaxrt.serving.rest.json_text import shown
from jaxrt.serving.rest.json_value import Missing, Object, Value, plain, type_name
from jaxrt.serving.rest.tensors import Array, is_base64
from jaxrt.specs import DTYPES, SignatureSpec

INPUTS = "inputs"
"""The alias of the one input: kClassifyInputs and kRegressInputs in TensorFlow."""

_INT64_MAX = (1 << 63) - 1
_KINDS: Mapping[type[Any], Kind] = {
    bytes: Kind.BYTES,
    float: Kind.FLOAT,
    int: Kind.INT64,
    bool: Kind.INT64,
}


def examples(request: Object) -> Array:
    """[examples] object array of serialized tf.Examples, the context at the head of each.

    Context and example are merged as TF Serving does it: one text after the other, which protobuf
    reads as one message. Raises InvalidArgument with TF Serving's text; faults of the context come
    before those of the examples.
    """
    context = request.find(b"context")
    head = b"" if isinstance(context, Missing) else _example(context)
    value = request.find(b"examples")
    if isinstance(value, Missing):  # the text is the same for regress
        _refuse(request, "When method is classify, key 'examples' is expected and was not found")
    items = plain(value)
    if not isinstance(items, list):
        _refuse(request, "Expecting 'examples' value to be an list/array")
    if not items:
        _refuse(request, "'examples' value is an empty array")
    array = np.empty(len(items), np.object_)
    array[:] = [head + _example(item) for item in items]
    return array


def fed(spec: SignatureSpec, serialized: Array) -> HostTensors:
    """The input of the model. Raises InvalidArgument if it does not take strings.

    The text is that of TensorFlow's run (FunctionCallFrame::SetArgs in core/framework/function.cc):
    TF Serving feeds the strings whatever dtype the signature declares.
    """
    dtype = DTYPES[spec.inputs[INPUTS].dtype].text
    if dtype != "string":
        raise InvalidArgument(f"Expects arg[0] to be {dtype} but string is provided")
    return {INPUTS: serialized}


def _refuse(request: Object, text: str) -> NoReturn:
    raise InvalidArgument(f"JSON Value: {shown(request)} {text}")


def _example(value: Value) -> bytes:
    if not isinstance(value, Object):
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_name(value)}")
    features: dict[bytes, bytes] = {}
    for key, content in value.members:
        name = key.partition(b"\0")[0]  # TF Serving reads it as a C string
        features[name] = _feature(name, content)  # the last of a repeated name counts
    return example(features)


def _feature(name: bytes, content: Value) -> bytes:
    """A list or a single value; an empty list is a feature that holds nothing."""
    values = plain(content)
    if not isinstance(values, list):
        values = [values]
    if not values:
        return b""
    kinds = {_KINDS.get(kind) for kind in set(map(type, values))}
    kind = kinds.pop()
    if kind is None or kinds or (kind is Kind.INT64 and max(values) > _INT64_MAX):
        return _one_by_one(name.decode("utf-8", "surrogateescape"), values)
    return feature(kind, values)


def _one_by_one(name: str, values: list[Any]) -> bytes:
    """Values of several types: base64 beside strings, or the first that is wrong."""
    kind: Kind | None = None
    leaves: list[Any] = []
    for value in values:
        found = Kind.BYTES if is_base64(value) else _KINDS.get(type(value))
        if found is None:
            raise InvalidArgument(
                f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
            )
        if kind not in (None, found):
            raise InvalidArgument(
                f"Unexpected element type in feature: {name} expecting type: {kind.name.lower()}"
            )
        kind = found
        leaves.append(_leaf(name, value))
    assert kind is not None
    return feature(kind, leaves)


def _leaf(name: str, value: Value) -> Value:
    if isinstance(value, int) and value > _INT64_MAX:
        raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if not isinstance(value, Object):
        return value
    text = value.members[0][1]
    data = decoded(text) if isinstance(text, bytes) else None
    if data is None:
        raise InvalidArgument("Unable to base64 decode")
    return data
