"""Answers one request about a SavedModel: what it is, StableHLO, weights, TensorFlow's answers."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from jaxrt.converters import arrays
from jaxrt.converters.bodies import Uncuttable
from jaxrt.converters.flatten import flat
from jaxrt.converters.freeze import Restored1
from jaxrt.converters.host import tables
from jaxrt.converters.host.tensorflow import GraphProgram, SavedModels
from jaxrt.converters.records import Kind, Refused, Segmented, TableContents
from jaxrt.converters.restored import Function, Restored2, Weight
from jaxrt.converters.rows import ranked
from jaxrt.converters.samples import Clues, clues, clues_of, samples
from jaxrt.converters.savedmodel import Source, first_line, read
from jaxrt.converters.staged import Staged
from jaxrt.converters.suitability import state
from jaxrt.errors import ConversionError, ModelError
from jaxrt.specs import SignatureSpec

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
        found = model.lower(request["signature"], request["shapes"], request["stage"])
        if isinstance(found, Refused):
            return {"refused": found.to_json()}
        function, stablehlo, ops = found
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
                "ops": list(ops),
            },
            "file": str(file),
        }

    def segment(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self._model(request).staged(request["signature"])
        if isinstance(found, Refused):
            return {"refused": found.to_json()}
        segmented = Segmented(signature=request["signature"], stages=found.stages)
        return {"segmented": segmented.to_json()}

    def tables(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self._model(request).tables(request["signature"], request["stage"])
        return {
            "tables": {
                name: {
                    "keys": self._written("keys", table.keys, table.key_dtype),
                    "values": self._written("values", table.values, table.value_dtype),
                }
                for name, table in found.items()
            }
        }

    def weights(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the named weights that `signatures` have, one at a time, each to its file."""
        found = self._model(request).weights(request["signatures"], request["staged"])
        wanted = set(request["names"])
        written = []
        for name, weight in found.items():
            if name in wanted:
                written.append(self._written(name, weight.read(), weight.parameter.dtype))
        return {"arrays": written}

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        given = {d["name"]: arrays.load(d) for d in request["inputs"]}
        answers = self._model(request).run(request["signature"], given)
        written = [
            self._written(name, arrays.answered(answer.numpy()), answer.dtype.name)
            for name, answer in sorted(answers.items())
        ]
        return {"arrays": written}

    def sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        model = self._model(request)
        found = model.sample(request["signature"], request["rows"], request["seed"])
        if isinstance(found, Refused):
            return {"refused": found.to_json()}
        return {"inputs": self._all_written(found[0]), "answers": self._all_written(found[1])}

    def host(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One run of a host segment, by what a server runs it with."""
        program: Any
        if request["executor"] == "saved_model":
            models = SavedModels(Path(request["path"]), request["tags"])
            program = models.signature(request["host_signature"])
        else:
            program = GraphProgram(
                Path(request["graph"]).read_bytes(),
                feeds=request["feeds"],
                fetches=request["fetches"],
                targets=request["targets"],
                tables={n: tables.read(Path(f)) for n, f in request["tables"].items()},
            )
        given = {d["name"]: arrays.load(d) for d in request["inputs"]}
        return {"arrays": self._all_written(program.run(given))}

    def _all_written(self, found: Mapping[str, arrays.Array]) -> list[dict[str, Any]]:
        return [
            self._written(name, array, "string" if array.dtype == object else array.dtype.name)
            for name, array in found.items()
        ]

    def _model(self, request: Mapping[str, Any]) -> "Model":
        key = (request["path"], *request["tags"])
        if key not in self._models:
            self._models[key] = Model(read(request["path"], request["tags"]), self._file)
        self._models[key].closed = frozenset(request.get("closed", ()))
        return self._models[key]

    def _written(self, name: str, array: arrays.Array, dtype: str) -> dict[str, Any]:
        file = self._file("array")
        arrays.write(file, array)
        return arrays.describe(name, array, dtype, file)

    def _file(self, kind: str) -> Path:
        self._files += 1
        return self._scratch / f"{kind}-{self._files}"


class Model:
    """One SavedModel; its variables are restored once, when first needed."""

    def __init__(self, source: Source, file: Callable[[str], Path]) -> None:
        """`file` gives a new path for a kind of content."""
        self.source = source
        self._file = file
        self._restored: Restored1 | Restored2 | None = None
        self._functions: dict[str, Function] = {}
        self.closed: frozenset[str] = frozenset()
        """Signatures of which nothing crosses that has sizes which inputs leave open."""
        self._staged: dict[tuple[str, bool], Staged | Refused] = {}

    def lower(
        self, signature: str, shapes: Mapping[str, Sequence[int]], stage: int | None
    ) -> tuple[Function, bytes, tuple[str, ...]] | Refused:
        """A function, its StableHLO and its ops.

        Raises ConversionError for an unknown signature or stage, or shapes of other inputs.
        """
        if stage is not None:
            return self._lower_stage(signature, shapes, stage)
        self._check(signature, shapes)
        refused = self.source.record.refused.get(signature)
        if refused is not None:
            return refused
        restored = self._restore()
        try:
            function = self._function(restored, signature)
            stablehlo = function.stablehlo(shapes)
            return function, stablehlo, self.source.record.ops[signature]
        except ModelError:
            raise
        except Exception as error:  # whatever TensorFlow's C++ and Python layers raise
            return _declined(signature, error)

    def _lower_stage(
        self, signature: str, shapes: Mapping[str, Sequence[int]], stage: int
    ) -> tuple[Function, bytes, tuple[str, ...]] | Refused:
        staged = self.staged(signature)
        if isinstance(staged, Refused):
            return staged
        try:
            return staged.lower(stage, shapes)
        except ConversionError as error:
            where = f"{self.source.record.path}: signature {signature!r}"
            raise ConversionError(f"{where}: {error}") from None
        except Exception as error:  # whatever TensorFlow's C++ and Python layers raise
            return _declined(signature, error)

    def staged(self, signature: str) -> Staged | Refused:
        """Raises ConversionError for an unknown signature."""
        self._known(signature)
        open_sizes = signature not in self.closed
        if (signature, open_sizes) not in self._staged:
            self._staged[signature, open_sizes] = self._cut(signature, open_sizes)
        return self._staged[signature, open_sizes]

    def _cut(self, signature: str, open_sizes: bool) -> Staged | Refused:
        record = self.source.record
        refused = record.refused.get(signature)
        if refused is not None and refused.kind is Kind.ENCODING:
            return refused
        changes = state(self.source.parts, self.source.meta_graph, signature)
        if changes is not None:
            return changes
        restored = self._restore()
        whole = functools.partial(self._whole, signature)
        try:
            spec = record.signatures[signature]
            return Staged(restored, signature, spec, self._file, whole, open_sizes=open_sizes)
        except ModelError:
            raise
        except Uncuttable as error:
            reason = str(error)
        except Exception as error:  # whatever TensorFlow's C++ and Python layers raise
            reason = f"TensorFlow declines: {first_line(error).rstrip('.')}."
        kind = Kind.HOST if refused is None else refused.kind
        ops = () if refused is None else refused.ops
        return Refused(signature=signature, kind=kind, reason=reason, ops=ops)

    def _whole(self, signature: str, given: Mapping[str, arrays.Array]) -> dict[str, arrays.Array]:
        answers = self._restore().run(signature, self._tensors(signature, given))
        return {alias: arrays.answered(answer.numpy()) for alias, answer in answers.items()}

    def sample(
        self, signature: str, rows: int, seed: int
    ) -> tuple[dict[str, arrays.Array], dict[str, arrays.Array]] | Refused:
        """Inputs and answers, by alias, or why there are none that say anything."""
        spec = self._known(signature)
        changes = state(self.source.parts, self.source.meta_graph, signature)
        if changes is not None:
            return changes
        said = "it has no inputs that could be made"
        told, spec = self._clues(signature, spec)
        for given in samples(told, spec, rows, seed):
            try:
                return given, self._whole(signature, given)
            except Exception as error:  # TensorFlow's, of inputs that it does not take
                said = first_line(error)
        reason = f"TensorFlow takes none of the inputs that were tried: {said}"
        return Refused(signature=signature, kind=Kind.HOST, reason=reason)

    def _clues(self, signature: str, spec: SignatureSpec) -> tuple[Clues, SignatureSpec]:
        """What the graph says of the strings and the ranks that it wants."""
        try:
            found = flat(self._restore(), signature)
            return clues(found), ranked(found, spec)
        except Exception:  # whatever keeps it from being cut, or TensorFlow raises
            return clues_of(self.source.parts[signature]), spec

    def tables(self, signature: str, stage: int) -> dict[str, TableContents]:
        """Raises ConversionError for a signature or a stage that has none."""
        staged = self.staged(signature)
        where = f"{self.source.record.path}: signature {signature!r}"
        if isinstance(staged, Refused):
            raise ConversionError(f"{where}: not cut: {staged.reason}")
        try:
            return staged.tables(stage)
        except ConversionError as error:
            raise ConversionError(f"{where}: {error}") from None

    def weights(self, signatures: Sequence[str], staged: Sequence[str]) -> dict[str, Weight]:
        """By name, of whole signatures and of cut ones."""
        restored = self._restore()
        functions = [self._function(restored, key) for key in signatures]
        found = {w.parameter.name: w for f in functions for w in f.weights}
        for key in staged:
            cut = self.staged(key)
            if isinstance(cut, Staged):
                found |= cut.weights()
        return found

    def run(self, signature: str, given: Mapping[str, arrays.Array]) -> dict[str, Any]:
        """Raises ConversionError where TensorFlow declines."""
        spec = self._check(signature, given)
        where = f"{self.source.record.path}: signature {signature!r}"
        sides = [*spec.inputs.values(), *spec.outputs.values()]
        carried = {"resource", "variant", "invalid"} & {t.dtype for t in sides}
        if carried or not spec.outputs:
            raise ConversionError(f"{where}: its tensors do not cross: {', '.join(carried)}")
        try:
            return self._restore().run(signature, self._tensors(signature, given))
        except ModelError:
            raise
        except Exception as error:
            raise ConversionError(f"{where}: TensorFlow fails: {first_line(error)}") from error

    def _tensors(self, signature: str, given: Mapping[str, arrays.Array]) -> dict[str, Any]:
        spec = self.source.record.signatures[signature]
        return {alias: tf.constant(v, spec.inputs[alias].dtype) for alias, v in given.items()}

    def _known(self, signature: str) -> SignatureSpec:
        record = self.source.record
        spec = record.signatures.get(signature)
        if spec is None:
            raise ConversionError(
                f"{record.path}: no signature {signature!r}; it has {', '.join(record.signatures)}"
            )
        return spec

    def _check(self, signature: str, given: Mapping[str, Any]) -> SignatureSpec:
        record, spec = self.source.record, self._known(signature)
        if set(given) != set(spec.inputs):
            raise ConversionError(
                f"{record.path}: signature {signature!r}: found inputs {sorted(given)}, "
                f"want {sorted(spec.inputs)}"
            )
        return spec

    def _restore(self) -> Restored1 | Restored2:
        if self._restored is None:
            self._restored = (Restored2 if self.source.is_tf2 else Restored1)(self.source)
        return self._restored

    def _function(self, restored: Restored1 | Restored2, signature: str) -> Function:
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
