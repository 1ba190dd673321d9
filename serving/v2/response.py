"""Output tensors → the body of an answer: JSON, and bytes after it where they were asked for."""

import base64
from typing import Any

import numpy as np
import orjson

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.number_block import written
from jaxrt.serving.v2.datatypes import NAMES, to_bytes
from jaxrt.serving.v2.request import Request
from jaxrt.specs import SignatureSpec


def response(
    request: Request, outputs: HostTensors, spec: SignatureSpec, model: str, version: int
) -> tuple[bytes, bytes]:
    """The JSON and the bytes that follow it. Raises InvalidArgument for an unknown output."""
    asked = request.outputs or dict.fromkeys(outputs, request.form)
    unknown = sorted(asked.keys() - outputs.keys())
    if unknown:
        raise InvalidArgument(
            f"outputs: {', '.join(unknown)} unknown, want {', '.join(sorted(outputs))}"
        )
    tensors, raws = [], []
    for name, form in asked.items():
        array = np.asarray(outputs[name])
        dtype = spec.outputs[name].dtype
        if dtype not in NAMES:
            raise InvalidArgument(f"output {name!r}: {dtype} has no datatype in this protocol")
        head: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": NAMES[dtype]}
        if form == "data":
            tensors.append(orjson.dumps(head)[:-1] + b',"data":' + _data(name, array) + b"}")
            continue
        raw = to_bytes(array)
        if form == "binary":
            head["parameters"] = {"binary_data_size": len(raw)}
            raws.append(raw)
        else:
            head["b64"] = base64.b64encode(raw).decode()
        tensors.append(orjson.dumps(head))
    top: dict[str, Any] = {"model_name": model, "model_version": str(version)}
    if request.id is not None:
        top["id"] = request.id
    text = orjson.dumps(top)[:-1] + b',"outputs":[' + b",".join(tensors) + b"]}"
    return text, b"".join(raws)


def _data(name: str, array: np.ndarray[Any, Any]) -> bytes:
    """A flat list, row by row."""
    if array.dtype.kind == "O":
        try:
            return orjson.dumps([item.decode() for item in array.ravel().tolist()])
        except UnicodeDecodeError:
            raise InvalidArgument(
                f"output {name!r}: its bytes are no UTF-8; ask for binary_data or b64"
            ) from None
    if array.size == 0:
        return b"[]"
    if array.dtype.kind not in "biufc" or array.dtype.itemsize == 2 and array.dtype.kind == "f":
        array = array.astype(np.float32)
    return b"[" + written(array.ravel(), [b","]) + b"]"
