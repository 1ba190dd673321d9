"""Regress: what it asks of a signature and of the output, and its answer.

The checks, their order and their texts are those of servables/tensorflow/regressor.cc and
util/json_tensor.cc of TensorFlow Serving.
"""

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.examples import INPUTS
from jaxrt.serving.rest.number_text import texts
from jaxrt.serving.rest.signature_text import signature_text
from jaxrt.serving.rest.tensors import Array, shape_text
from jaxrt.specs import DTYPES, SignatureSpec

METHOD = "tensorflow/serving/regress"
OUTPUTS = "outputs"


def check(spec: SignatureSpec, method_name: bool) -> None:
    """Raises InvalidArgument unless Regress can call the signature.

    `method_name` (`--enable_signature_method_name_check`) asks for METHOD as well.
    """
    if method_name and spec.method_name != METHOD:
        raise InvalidArgument(
            f"Expected regression signature method_name to be {METHOD}. Was: {spec.method_name}"
        )
    if len(spec.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(spec.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if INPUTS not in spec.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {signature_text(spec)}")
    if OUTPUTS not in spec.outputs:
        raise InvalidArgument(
            f"No regression outputs found in SignatureDef: {signature_text(spec)}"
        )


def body(outputs: HostTensors, spec: SignatureSpec, examples: int) -> bytes:
    """`{"results": [3.0, 4.0]}`, a value for each of `examples`. Raises what `results` raises."""
    values = results(outputs, spec, examples)
    return b'{\n    "results": [' + ", ".join(texts(values)).encode() + b"]\n}"


def results(outputs: HostTensors, spec: SignatureSpec, examples: int) -> Array:
    """[examples] float32.

    Raises InvalidArgument unless the output is float32 and [examples] or [examples, 1].
    """
    values = outputs[OUTPUTS]
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            + shape_text(values.shape)
        )
    if len(values) != examples:
        raise InvalidArgument(
            f"Input batch size did not match output batch size: {examples} vs. {len(values)}"
        )
    dtype = DTYPES[spec.outputs[OUTPUTS].dtype].proto
    if dtype != "DT_FLOAT":
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {dtype}")
    return values.ravel()
