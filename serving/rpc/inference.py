"""Classify, Regress and MultiInference: tf.Examples in, results out.

What is asked of signatures and outputs, and in which words, is as over REST; the rest are facts of
servables/tensorflow/multi_inference.cc and util.cc of TensorFlow Serving.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from jaxrt.errors import InvalidArgument, Unimplemented
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest import classification, regression
from jaxrt.serving.rpc.modelspec import ModelSpec
from jaxrt.serving.rpc.wire import FIXED32, delimited, head
from jaxrt.specs import SignatureSpec

Array = np.ndarray[Any, Any]

APIS: Mapping[str, ModuleType] = {
    classification.METHOD: classification,
    regression.METHOD: regression,
}
"""By the method names of tasks and signatures."""


def examples(message: Any) -> Array:
    """[examples] serialized tf.Examples of an Input, the context at the head of each.

    Raises InvalidArgument if there is none.
    """
    context = b""
    listed = message.example_list.examples
    if message.WhichOneof("kind") == "example_list_with_context":
        listed = message.example_list_with_context.examples
        # Protobuf merges messages that come twice, which is what their bytes in a row are.
        context = b"".join(message.example_list_with_context.context)
    if not listed:
        raise InvalidArgument("Input is empty.")
    found = np.empty(len(listed), np.object_)
    found[:] = [context + example for example in listed]
    return found


def result(api: ModuleType, outputs: HostTensors, spec: SignatureSpec, count: int) -> bytes:
    """A serialized ClassificationResult or RegressionResult. Raises as `api.results`."""
    found = api.results(outputs, spec, count)
    return _regressions(found) if api is regression else _classifications(*found)


def _regressions(values: Array) -> bytes:
    # Values are fixed 32 bits, left out where they are 0 (and not -0), as any default.
    nothing = delimited(1, b"")
    tag = bytes((1 << 3 | FIXED32,))
    start = head(1, 5) + tag
    packed = np.ascontiguousarray(values, "<f4")
    return b"".join(
        [start + raw if raw != _ZERO else nothing for raw in map(bytes, packed.view("V4"))]
    )


_ZERO = bytes(4)


def _classifications(classes: Array | None, scores: Array | None) -> bytes:
    """Labels are not validated as UTF-8, as there."""
    some = scores if classes is None else classes
    assert some is not None  # the signature has one of them
    rows, width = some.shape
    labels = [b""] * some.size if classes is None else classes.ravel().tolist()
    values = np.zeros(some.size, "<f4") if scores is None else scores.ravel().astype("<f4")
    raws = list(map(bytes, values.view("V4")))
    pairs = [
        delimited(
            1, (delimited(1, label) if label else b"") + (_SCORE + raw if raw != _ZERO else b"")
        )
        for label, raw in zip(labels, raws, strict=True)
    ]
    return b"".join(
        delimited(1, b"".join(pairs[row * width : (row + 1) * width])) for row in range(rows)
    )


_SCORE = bytes((2 << 3 | FIXED32,))


def signature(
    spec: ModelSpec, signatures: Mapping[str, SignatureSpec], missing: str
) -> SignatureSpec:
    """The one asked for. Raises InvalidArgument with the text `missing` if there is none."""
    found = signatures.get(spec.signature)
    if found is None:
        raise InvalidArgument(f"{missing}{spec.signature}")
    return found


def tasks(
    listed: list[tuple[ModelSpec, str]],
    signatures: Mapping[str, SignatureSpec],
    *,
    check_method_name: bool,
) -> list[tuple[ModelSpec, ModuleType, SignatureSpec]]:
    """The tasks of a MultiInferenceRequest: ModelSpec and method name of each.

    Raises InvalidArgument, Unimplemented for another method.
    """
    found: list[tuple[ModelSpec, ModuleType, SignatureSpec]] = []
    for spec, method in listed:
        if not spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if spec.name != listed[0][0].name:
            raise InvalidArgument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        if any(spec.signature == other.signature for other, _, _ in found):
            raise InvalidArgument(f"Duplicate evaluation of signature: {spec.signature}")
        wanted = signature(spec, signatures, "Requested signature not found in model graph: ")
        if method not in APIS:
            raise Unimplemented(f"Unsupported signature method_name: {method}")
        APIS[method].check(wanted, check_method_name)
        if found and _fed(wanted) != _fed(found[0][2]):
            raise InvalidArgument("Input tensor must be the same for all Signatures.")
        found.append((spec, APIS[method], wanted))
    return found


def _fed(spec: SignatureSpec) -> str:
    (tensor,) = spec.inputs.values()
    return tensor.name
