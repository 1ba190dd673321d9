"""Warm-up files for tests: requests of all kinds, framed as a TFRecord."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt import tfrecord, warmups
from jaxrt.serving.rpc import encode
from jaxrt.serving.rpc.datatypes import BY_NAME
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.wire import delimited


def framed(*records: bytes) -> bytes:
    """A TFRecord."""
    return b"".join(
        length + tfrecord.masked(length) + record + tfrecord.masked(record)
        for record in records
        for length in [struct.pack("<Q", len(record))]
    )


def write(version: Path, *records: bytes) -> Path:
    """The file of a version's directory."""
    path = version / warmups.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(framed(*records))
    return path


def log(field: int, request: bytes) -> bytes:
    """A PredictionLog; `field` is the number of its log."""
    return delimited(field, delimited(1, request))


def spec(signature: str, name: str = "") -> bytes:
    return bytes(message("ModelSpec")(name=name, signature_name=signature).SerializeToString())


def predict(signature: str, inputs: Mapping[str, "np.ndarray[Any, Any]"]) -> bytes:
    """The record of a PredictRequest."""
    request = delimited(1, spec(signature, "another model"))
    for alias, array in inputs.items():
        dtype = "string" if array.dtype == np.object_ else array.dtype.name
        chunks = encode.tensor(array, BY_NAME[dtype], content=False)
        tensor = b"".join(map(bytes, chunks))
        request += delimited(2, delimited(1, alias.encode()) + delimited(2, tensor))
    return log(6, request)


def examples(count: int) -> bytes:
    """An Input of so many empty Examples."""
    return delimited(1, delimited(1, b"") * count)


def classify(signature: str, count: int) -> bytes:
    return log(2, delimited(1, spec(signature)) + delimited(2, examples(count)))


def regress(signature: str, count: int) -> bytes:
    return log(3, delimited(1, spec(signature)) + delimited(2, examples(count)))


def multi_inference(tasks: Mapping[str, str], count: int) -> bytes:
    """`tasks`: signature → method name."""
    listed = (
        delimited(1, delimited(1, spec(signature, "m")) + delimited(2, method.encode()))
        for signature, method in tasks.items()
    )
    return log(4, b"".join(listed) + delimited(2, examples(count)))
