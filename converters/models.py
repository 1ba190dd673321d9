"""Answers one request about a SavedModel: what it is, StableHLO, weights, TensorFlow's answers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from jaxrt.converters import arrays
from jaxrt.converters.freeze import Restored1
from jaxrt.converters.records import Kind, Refused
from jaxrt.converters.restored import Function, Restored, Restored2, Weight
from jaxrt.converters.savedmodel import Source, first_line, read
from jaxrt.errors import ConversionError, ModelError

_UNSUPPORTED = re.compile(r"(\w+) \(No registered '")


class Models:
    """SavedModels by path and tags, each loaded when its variables are first needed."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._models: dict[tuple[str, ...], Model] = {}
        self._files = 0

    def open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self._model(request).source.record.to_json()}

    def close(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._models.pop((request["path"], *request["tags"]), None)
        return {}

    def lower(self, request: Mapping[str, Any]) -> dict[str, Any]:
        model = self._model(request)
        found = model.lower(request["signature"], request["shapes"])
        if isinstance(found, Refused):
            return {"refused": found.to_json()}
        function, stablehlo = found
        file = self._file("stablehlo")
        file.write_bytes(stablehlo)
        inputs = zip(function.inputs, function.dtypes, strict=True)
        return {
            "lowered": {
                "signature": request["signature"],
                "inputs": [
                    {"name": a, "dtype": d.name, "shape": list(request["shapes"][a])}
                    for a, d in inputs
                ],
                "weights": [_parameter(w) for w in function.weights],
                "outputs": [{"name": o.name, "dtype": o.dtype} for o in function.outputs],
                "ops": list(model.source.record.ops[request["signature"]]),
            },
            "file": str(file),
        }

    def weights(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the named weights that `signatures` have, one at a time, each to its file."""
        found = self._model(request).weights(request["signatures"])
        wanted = set(request["names"])
        written = []
        for name, weight in found.items():
            if name in wanted:
                array = weight.read()
                file = self._file("weight")
                arrays.write(file, array)
                written.append(arrays.describe(name, array, weight.parameter.dtype, file))
        return {"arrays": written}

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        given = {d["name"]: arrays.load(d) for d in request["inputs"]}
        answers = self._model(request).run(request["signature"], given)
        written = []
        for name, answer in sorted(answers.items()):
            file = self._file("answer")
            array = answer.numpy()
            arrays.write(file, array)
            written.append(arrays.describe(name, array, answer.dtype.name, file))
        return {"arrays": written}

    def _model(self, request: Mapping[str, Any]) -> "Model":
        key = (request["path"], *request["tags"])
        if key not in self._models:
            self._models[key] = Model(read(request["path"], request["tags"]))
        return self._models[key]

    def _file(self, kind: str) -> Path:
        self._files += 1
        return self._scratch / f"{kind}-{self._files}"


class Model:
    """One SavedModel; its variables are restored once, when first needed."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._restored: Restored | None = None
        self._functions: dict[str, Function] = {}

    def lower(
        self, signature: str, shapes: Mapping[str, Sequence[int]]
    ) -> tuple[Function, bytes] | Refused:
        """Raises ConversionError for an unknown signature, or shapes of other inputs than its."""
        self._check(signature, shapes)
        refused = self.source.record.refused.get(signature)
        if refused is not None:
            return refused
        restored = self._restore()
        try:
            function = self._function(restored, signature)
            return function, function.stablehlo(shapes)
        except ModelError:
            raise
        except Exception as error:  # whatever TensorFlow's C++ and Python layers raise
            return _declined(signature, error)

    def weights(self, signatures: Sequence[str]) -> dict[str, Weight]:
        restored = self._restore()
        functions = [self._function(restored, key) for key in signatures]
        return {w.parameter.name: w for f in functions for w in f.weights}

    def run(self, signature: str, given: Mapping[str, arrays.Array]) -> dict[str, Any]:
        """Raises ConversionError where TensorFlow declines, or answers with strings."""
        spec = self._check(signature, given)
        where = f"{self.source.record.path}: signature {signature!r}"
        sides = [*spec.inputs.values(), *spec.outputs.values()]
        carried = {"string", "resource", "variant", "invalid"} & {t.dtype for t in sides}
        if carried or not spec.outputs:
            raise ConversionError(f"{where}: its tensors do not cross: {', '.join(carried)}")
        tensors = {a: tf.constant(v, spec.inputs[a].dtype) for a, v in given.items()}
        try:
            return self._restore().run(signature, tensors)
        except ModelError:
            raise
        except Exception as error:
            raise ConversionError(f"{where}: TensorFlow fails: {first_line(error)}") from error

    def _check(self, signature: str, given: Mapping[str, Any]) -> Any:
        record = self.source.record
        spec = record.signatures.get(signature)
        if spec is None:
            raise ConversionError(
                f"{record.path}: no signature {signature!r}; it has {', '.join(record.signatures)}"
            )
        if set(given) != set(spec.inputs):
            raise ConversionError(
                f"{record.path}: signature {signature!r}: found inputs {sorted(given)}, "
                f"want {sorted(spec.inputs)}"
            )
        return spec

    def _restore(self) -> Restored:
        if self._restored is None:
            self._restored = (Restored2 if self.source.is_tf2 else Restored1)(self.source)
        return self._restored

    def _function(self, restored: Restored, signature: str) -> Function:
        if signature not in self._functions:
            self._functions[signature] = restored.function(signature)
        return self._functions[signature]


def _declined(signature: str, error: Exception) -> Refused:
    """TensorFlow's message in one sentence, without its stack and its hints for its authors."""
    ops = tuple(sorted(set(_UNSUPPORTED.findall(str(error)))))
    if ops:
        reason = f"TensorFlow's XLA bridge has no kernel for {', '.join(ops)}."
    else:
        reason = f"TensorFlow's XLA bridge declines: {first_line(error).rstrip('.')}."
    return Refused(signature=signature, kind=Kind.BRIDGE, reason=reason, ops=ops)


def _parameter(weight: Weight) -> dict[str, Any]:
    p = weight.parameter
    return {"name": p.name, "dtype": p.dtype, "shape": list(p.shape)}
