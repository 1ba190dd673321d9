"""The answer of GET /v1/models/M[...]/metadata."""

import json
from collections.abc import Mapping
from typing import Any

from jaxrt.serving.engine.servable import Servable
from jaxrt.specs import DTYPES, SignatureSpec, TensorSpec


def metadata_body(servable: Servable) -> bytes:
    """GetModelMetadataResponse: every signature, with the version that was resolved.

    The layout is TF Serving's: two messages as protobuf prints them, joined by hand.
    """
    spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
    signatures = {name: _signature(spec) for name, spec in servable.signatures.items()}
    model_spec = json.dumps(spec, indent=1)
    signature_def = json.dumps({"signature_def": signatures}, indent=1)
    head = f'{{\n"model_spec":{model_spec}\n,\n"metadata": '
    return f'{head}{{"signature_def": {signature_def}\n}}\n}}\n'.encode()


def _signature(spec: SignatureSpec) -> dict[str, Any]:
    return {
        "inputs": _tensors(spec.inputs),
        "outputs": _tensors(spec.outputs),
        "method_name": spec.method_name,
        "defaults": dict(spec.defaults),
    }


def _tensors(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {name: _tensor(spec) for name, spec in specs.items()}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = spec.dims or ()
    return {
        "dtype": DTYPES[spec.declared or spec.dtype].proto + ("_REF" if spec.is_ref else ""),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in dims],
            "unknown_rank": spec.dims is None,
        },
        "name": spec.name,
    }
