"""A cut signature of a loaded SavedModel: its stages, described, lowered, their tables read."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxrt.converters import stage_graphs
from jaxrt.converters.bodies import Uncuttable
from jaxrt.converters.capped import is_parted
from jaxrt.converters.flatten import flat
from jaxrt.converters.freeze import Restored1
from jaxrt.converters.records import Stage, TableContents
from jaxrt.converters.rehearsal import Whole, rehearse
from jaxrt.converters.restored import Function, Restored2, Weight
from jaxrt.converters.segments import Segments, segmented
from jaxrt.converters.stages import Part
from jaxrt.errors import ConversionError
from jaxrt.specs import SignatureSpec


class Staged:
    """Raises Uncuttable where the signature cannot be cut, or not so that it answers the same."""

    def __init__(
        self,
        restored: Restored1 | Restored2,
        signature: str,
        spec: SignatureSpec,
        file: Callable[[str], Path],
        whole: Whole,
        *,
        open_sizes: bool,
    ) -> None:
        graph = flat(restored, signature)
        found = segmented(graph, spec, open_sizes=open_sizes)
        try:
            self._take(found, file, whole)
        except Uncuttable:
            if not any(map(is_parted, found.flat.body.nodes)):
                raise
            unparted = segmented(graph, spec, open_sizes=open_sizes, part_loops=False)
            self._take(unparted, file, whole)
        self._functions: dict[int, Function] = {}

    def _take(self, found: Segments, file: Callable[[str], Path], whole: Whole) -> None:
        """Raises Uncuttable where the rehearsal does."""
        self._flat, self._sizes, self._parts = found.flat, found.sizes, found.parts
        described = [self._described(part, file) for part in found.parts]
        rowwise = [stage.rowwise for stage in described]
        measured = rehearse(found.flat, found.spec, found.parts, rowwise, whole)
        self.stages = tuple(
            dataclasses.replace(stage, measured=of)
            for stage, of in zip(described, measured, strict=True)
        )

    def _described(self, part: Part, file: Callable[[str], Path]) -> Stage:
        if part.on_device:
            return stage_graphs.stage(part, self._flat, self._sizes, None)
        path = file("host")
        path.write_bytes(stage_graphs.graph(part, self._flat).SerializeToString(deterministic=True))
        return stage_graphs.stage(part, self._flat, self._sizes, str(path))

    def lower(
        self, stage: int, shapes: Mapping[str, Sequence[int]]
    ) -> tuple[Function, bytes, tuple[str, ...]]:
        """The stage's function, its StableHLO and its ops.

        Raises ConversionError for a stage that there is not, or other shapes than it takes;
        TensorFlow's own errors.
        """
        self._check(stage, "device")
        part = self._parts[stage]
        if set(shapes) != set(part.takes):
            raise ConversionError(
                f"stage {stage}: found inputs {sorted(shapes)}, want {sorted(part.takes)}"
            )
        if stage not in self._functions:
            self._functions[stage] = stage_graphs.function(part, self._flat)
        function = self._functions[stage]
        return function, function.stablehlo(shapes), self.stages[stage].ops

    def weights(self) -> dict[str, Weight]:
        """By name, of all stages on the device."""
        return {
            weight.parameter.name: weight
            for part in self._parts
            if part.on_device
            for weight in stage_graphs.weights(part, self._flat).values()
        }

    def tables(self, stage: int) -> dict[str, TableContents]:
        """Raises ConversionError for a stage that is not on the host."""
        self._check(stage, "host")
        return {name: self._flat.tables[name].read() for name in self.stages[stage].tables}

    def _check(self, stage: int, where: str) -> None:
        if not 0 <= stage < len(self.stages) or self.stages[stage].where != where:
            places = ", ".join(f"{i} {s.where}" for i, s in enumerate(self.stages))
            raise ConversionError(f"no {where} stage {stage}; the stages are: {places}")
