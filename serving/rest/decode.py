"""The body of a predict request → tensors by input alias."""

import enum
from collections.abc import Mapping
from typing import Any, NoReturn

from jaxrt.errors import InvalidArgument, RequestError
from jaxrt.serving.rest.column import Column
from jaxrt.serving.rest.json_text import shown
from jaxrt.serving.rest.json_value import Missing, Numbers, Object, Value, plain
from jaxrt.serving.rest.tensors import WRAPPING, Array, Kinds, is_base64, tensor
from jaxrt.specs import DTYPES, SignatureSpec, TensorSpec

DEFAULT_SIGNATURE = "serving_default"


class Format(enum.Enum):
    """How a request lists its tensors, and so how the answer does."""

    ROW = "instances"
    COLUMNAR = "inputs"


def signature_name(request: Object) -> str:
    """As the request gives it, "" if it does not. Raises InvalidArgument for another type."""
    name = request.find(b"signature_name")
    if isinstance(name, Missing):
        return ""
    if not isinstance(name, bytes):
        raise InvalidArgument(
            f"JSON Value: {shown(request)} not formatted correctly."
            " 'signature_name' key must be a string value."
        )
    return name.decode("utf-8", "surrogateescape")


def signature(
    request: Object, signatures: Mapping[str, SignatureSpec]
) -> tuple[str, SignatureSpec]:
    """The signature that the request asks for. Raises InvalidArgument if there is none."""
    name = signature_name(request) or DEFAULT_SIGNATURE
    if name not in signatures:
        raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
    return name, signatures[name]


def inputs(
    request: Object, spec: SignatureSpec, kinds: Kinds = WRAPPING
) -> tuple[Format, dict[str, Array]]:
    """Alias → array, strings as object arrays of bytes; `kinds` says what each dtype takes.

    The declared shapes are not looked at. Raises InvalidArgument with TF Serving's text,
    Unimplemented (columnar only) for a dtype that REST does not take.
    """
    if not spec.inputs:
        name = signature_name(request) or "DEFAULT"
        raise InvalidArgument(f"Failed to get input map for signature: {name}")
    instances, columns = request.find(b"instances"), request.find(b"inputs")
    if isinstance(instances, Missing):
        if isinstance(columns, Missing):
            raise InvalidArgument("Missing 'inputs' or 'instances' key")
        return Format.COLUMNAR, _columnar(columns, spec.inputs, kinds)
    if not isinstance(columns, Missing):
        _refuse(
            request,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if not isinstance(instances, list | Numbers):
        _refuse(request, "Expecting 'instances' to be an list/array")
    if instances == []:
        _refuse(request, "No values in 'instances' array")
    return Format.ROW, _rows(instances, spec.inputs, kinds)


def _refuse(request: Object, text: str) -> NoReturn:
    raise InvalidArgument(f"JSON Value: {shown(request)} {text}")


def _columnar(value: Value, specs: Mapping[str, TensorSpec], kinds: Kinds) -> dict[str, Array]:
    if not isinstance(value, Object) or is_base64(value):
        if len(specs) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        ((name, spec),) = specs.items()
        return {name: tensor(value, DTYPES[spec.dtype], kinds)}
    tensors = {}
    for name, spec in sorted(specs.items()):
        item = value.find(_key(name))
        if isinstance(item, Missing):
            raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = tensor(item, DTYPES[spec.dtype], kinds)
    return tensors


def _rows(
    instances: list[Any] | Numbers, specs: Mapping[str, TensorSpec], kinds: Kinds
) -> dict[str, Array]:
    if len(specs) == 1 and not (isinstance(instances, list) and _is_item_object(instances[0])):
        ((name, spec),) = specs.items()
        try:  # a dense list of items is the tensor
            return {name: tensor(instances, DTYPES[spec.dtype], kinds)}
        except RequestError:
            pass  # item by item, for the text of the error
    items = plain(instances)
    assert isinstance(items, list)
    if len(specs) > 1 and not isinstance(items[0], Object):
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    columns = {name: Column(DTYPES[spec.dtype], kinds) for name, spec in sorted(specs.items())}
    if _is_item_object(items[0]):
        for index, item in enumerate(items):
            _add_object(index, item, columns)
    else:
        for index, item in enumerate(items):
            _add_plain(index, item, columns)
    return _stacked(columns)


def _is_item_object(value: Value) -> bool:
    return isinstance(value, Object) and not is_base64(value)


def _add_object(index: int, item: Value, columns: Mapping[str, Column]) -> None:
    if not isinstance(item, Object) or is_base64(item):
        raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
    seen: set[str] = set()
    for key, value in item.members:
        name = key.decode("utf-8", "surrogateescape")
        if name in seen:
            continue  # the first of a repeated name counts, as everywhere
        seen.add(name)
        _add(f"{index} key: {name}", name, value, columns)
    if seen != columns.keys():
        raise InvalidArgument(
            f"Failed to process element: {index} of 'instances' list. JSON object: {shown(item)}"
            f" keys must be equal to: {','.join(sorted(columns))}"
        )


def _add_plain(index: int, item: Value, columns: Mapping[str, Column]) -> None:
    if _is_item_object(item):
        raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
    _add(str(index), next(iter(columns)), item, columns)


def _add(where: str, name: str, value: Value, columns: Mapping[str, Column]) -> None:
    try:
        if name not in columns:
            raise InvalidArgument(f"JSON object: does not have named input: {name}")
        columns[name].add(value)
    except RequestError as error:
        raise InvalidArgument(
            f"Failed to process element: {where} of 'instances' list."
            f" Error: {error.code.name}: {error}"
        ) from None


def _stacked(columns: Mapping[str, Column]) -> dict[str, Array]:
    """Name → [items, ...]."""
    filled = {name: column.stacked() for name, column in columns.items() if column.items}
    if len(filled) < len(columns):  # base64 items for the first of several inputs
        sent, wanted, missing = filled.keys(), columns.keys(), columns.keys() - filled.keys()
        raise InvalidArgument(
            f"input size does not match signature: {len(sent)}!={len(wanted)}"
            f" len({{{','.join(sent)}}}) != len({{{','.join(wanted)}}})."
            f" Sent extra: {{}}. Missing but required: {{{','.join(sorted(missing))}}}."
        )
    return filled


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
