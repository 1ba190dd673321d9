"""Classify: what it asks of a signature and of the outputs, and its answer.

The checks, their order and their texts are those of servables/tensorflow/classifier.cc and
util/json_tensor.cc of TensorFlow Serving.
"""

import numpy as np

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.examples import INPUTS
from jaxrt.serving.rest.json_string import quoted
from jaxrt.serving.rest.number_text import texts
from jaxrt.serving.rest.signature_text import signature_text
from jaxrt.serving.rest.tensors import Array, shape_text
from jaxrt.specs import DTYPES, SignatureSpec

METHOD = "tensorflow/serving/classify"
CLASSES, SCORES = "classes", "scores"


def check(spec: SignatureSpec, method_name: bool) -> None:
    """Raises InvalidArgument unless Classify can call the signature.

    `method_name` (`--enable_signature_method_name_check`) asks for METHOD as well.
    """
    if method_name and spec.method_name != METHOD:
        raise InvalidArgument(
            f"Expected classification signature method_name to be {METHOD}. Was: {spec.method_name}"
        )
    if len(spec.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(spec.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(spec.outputs)}")
    if INPUTS not in spec.inputs:
        raise InvalidArgument(
            f"No classification inputs found in SignatureDef: {signature_text(spec)}"
        )
    if CLASSES not in spec.outputs and SCORES not in spec.outputs:
        raise InvalidArgument(
            "Expected classification signature outputs to contain at least one of"
            f' "{CLASSES}" or "{SCORES}". Signature was: {signature_text(spec)}'
        )


def body(outputs: HostTensors, spec: SignatureSpec, examples: int) -> bytes:
    """`{"results": [[["label", score], ...], ...]}`, an item for each of `examples`.

    Labels are `""` without classes, scores are 0.0 without scores; labels are not validated as
    UTF-8. Raises what `results` raises.
    """
    return _results(*results(outputs, spec, examples))


def results(
    outputs: HostTensors, spec: SignatureSpec, examples: int
) -> tuple[Array | None, Array | None]:
    """Classes and scores, one of which may be missing.

    Raises InvalidArgument unless each is [examples, classes] of its dtype.
    """
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    if classes is not None:
        _check_output(CLASSES, classes, spec, "string", examples)
        if scores is not None and spec.outputs[CLASSES].name == spec.outputs[SCORES].name:
            scores = None  # TF Serving tells outputs apart by their tensors, classes first
    if scores is not None:
        _check_output(SCORES, scores, spec, "float32", examples)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise InvalidArgument(
            "Tensors class and score should match in dim_size(1)."
            f" Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return classes, scores


def _check_output(alias: str, array: Array, spec: SignatureSpec, dtype: str, examples: int) -> None:
    if array.ndim != 2:
        raise InvalidArgument(
            "Expected Tensor shape: [batch_size num_classes] but got " + shape_text(array.shape)
        )
    found, wanted = DTYPES[spec.outputs[alias].dtype].proto, DTYPES[dtype].proto
    if found != wanted:
        raise InvalidArgument(f"Expected {alias} Tensor of {wanted}. Got: {found}")
    if len(array) != examples:
        raise InvalidArgument(
            f"Expected {alias} output batch size of {examples}. Got: {len(array)}"
        )


def _results(classes: Array | None, scores: Array | None) -> bytes:
    """[examples, classes] of one or both, as PrettyWriter puts list items on one line."""
    some = scores if classes is None else classes
    assert some is not None  # check() saw one of them in the signature
    rows, width = some.shape
    labels = [b""] * some.size if classes is None else classes.ravel().tolist()
    values = np.zeros(some.size, np.float32) if scores is None else scores.ravel()
    pairs = [
        b"[%b, %b]" % (quoted(label), number.encode())
        for label, number in zip(labels, texts(values), strict=True)
    ]
    lists = (b", ".join(pairs[row * width : (row + 1) * width]) for row in range(rows))
    return b'{\n    "results": [[' + b"], [".join(lists) + b"]\n    ]\n}"
