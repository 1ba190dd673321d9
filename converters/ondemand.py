"""Shapes nobody planned: lifted and compiled while the server runs, for SavedModels at hand."""

from collections.abc import Callable, Mapping
from pathlib import Path

from jaxrt import compiler
from jaxrt.compiler import LoadedProgram
from jaxrt.converters import conversion, emit, routes
from jaxrt.converters.planning import Plan, Planned
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.seams import TensorFlow
from jaxrt.errors import ConversionError
from jaxrt.passes import prepare
from jaxrt.program import Rows, Shapes
from jaxrt.specs import SignatureSpec
from jaxrt.target import Target


class Compiler:
    """Compiles one SavedModel's signatures at any shape; weights are shared with what is loaded.

    Thread safe as `tensorflow` is; blocks for as long as TensorFlow needs to start.
    """

    def __init__(
        self,
        path: Path,
        tags: tuple[str, ...],
        *,
        tensorflow: Callable[[], TensorFlow],
        weights: compiler.Weights,
        target: Target,
        optimize: conversion.Optimize = conversion.unchanged,
    ) -> None:
        """`tensorflow` starts (or gives) the bridge when the first shape is asked for."""
        self._path = path
        self._tags = tags
        self._start = tensorflow
        self._weights = weights
        self._target = target
        self._optimize = optimize
        self._model: ModelRecord | None = None
        self._parts: dict[str, routes.DevicePart] = {}

    def compile(
        self, signature: str, shapes: Shapes, values: Mapping[str, bool]
    ) -> tuple[LoadedProgram, Rows]:
        """One signature, or a device stage by its `stage_key`, at `shapes`.

        The program is for requests with `values` alone, scalar inputs that it ignores.
        INDEPENDENT where dim 0 is proven to be rows.

        Raises ConversionError when the signature does not take these shapes.
        """
        tensorflow = self._start()
        if self._model is None:
            self._model = tensorflow.open_model(self._path, self._tags)
        model = self._model
        part = self._part(tensorflow, model, signature)
        plan = Plan(programs=(_planned(part.spec, shapes),))
        lowerer = routes.PartLowerer(tensorflow, {part.key: part})
        found = conversion.convert(
            lowerer, model, signature, plan, optimize=self._optimize, values=values
        )
        if not found.programs:
            raise ConversionError(found.refused or f"{conversion.spell(shapes)} cannot be lowered")
        (program,) = found.programs
        apply = program.split.apply
        if missing := [n for n in apply.weight_names if n not in self._weights]:
            source = emit.source_weights(tensorflow, model, program.split, found.constants)
            prepared = prepare.run_prepare(program.split, source)
            self._weights.place({name: prepared[name] for name in missing})
        loaded = LoadedProgram(
            emit.build(program, self._target).loaded,
            weights=self._weights.bind(apply.weight_names),
            inputs=dict(zip(apply.input_names, apply.input_avals, strict=True)),
            outputs=dict(zip(apply.output_names, apply.output_avals, strict=True)),
            target=self._target,
        )
        return loaded, Rows.INDEPENDENT if program.rows.independent else Rows.DEPENDENT

    def _part(self, tensorflow: TensorFlow, model: ModelRecord, key: str) -> routes.DevicePart:
        """The signature, or the device stage, that the engine knows as `key`."""
        if key not in self._parts:
            signature = key if key in model.signatures else key.rpartition("[")[0]
            # A stage of what looked like one program was found when the model was built.
            declined = {} if key in model.signatures else {signature: "it was cut"}
            ways = routes.route(tensorflow, model, [signature], optimize=True, declined=declined)
            if (why := ways[signature].whole) is not None:
                raise ConversionError(why)
            self._parts |= routes.parts(model, ways)
        return self._parts[key]


def _planned(spec: SignatureSpec, shapes: Shapes) -> Planned:
    """Dim 0 of the inputs that carry rows is the batch, where they agree on one."""
    shared = spec.shared(shapes)
    sizes = {shape[:1] for alias, shape in shapes.items() if alias not in shared}
    if len(sizes) != 1 or sizes <= {(), (0,)}:
        return Planned(shapes=shapes, batch=None)
    return Planned(shapes=shapes, batch=sizes.pop()[0], shared=shared)
