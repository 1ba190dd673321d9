"""How each signature of a model is served: one device program, stages, or TensorFlow as it is."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxrt.converters.records import Lowered, ModelRecord, Refused, Segmented, Stage, Value
from jaxrt.converters.seams import TensorFlow
from jaxrt.program import Shapes
from jaxrt.specs import Dim, SignatureSpec, TensorSpec, stage_key

ASSERT = "Assert"
"""XLA drops it: a signature that has one is cut, so that the host still checks."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one set of device programs computes: a signature, or a device stage of it."""

    signature: str
    stage: int | None
    spec: SignatureSpec

    @property
    def key(self) -> str:
        """Its name where names of signatures are expected."""
        return self.signature if self.stage is None else stage_key(self.signature, self.stage)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """How one signature is served."""

    signature: str
    stages: tuple[Stage, ...] = ()
    """Empty: one device program, or TensorFlow as it is."""
    whole: str | None = None
    """Why TensorFlow runs the signature as it is."""


def route(
    tensorflow: TensorFlow, model: ModelRecord, signatures: Sequence[str], *, optimize: bool
) -> dict[str, Route]:
    """Asks TensorFlow to cut what XLA does not take whole. Nothing is compiled yet."""
    found = {}
    for key in signatures:
        refused = model.refused.get(key)
        if not optimize:
            found[key] = Route(signature=key, whole="--disable_optimizer was given.")
        elif refused is None and ASSERT not in model.ops.get(key, ()):
            found[key] = Route(signature=key)
        else:
            cut = tensorflow.segment(model, key)
            if isinstance(cut, Segmented):
                found[key] = Route(signature=key, stages=cut.stages)
            elif refused is None:
                found[key] = Route(signature=key)
            else:
                found[key] = Route(signature=key, whole=cut.reason)
    return found


def parts(model: ModelRecord, routes: Mapping[str, Route]) -> dict[str, Part]:
    """Key → what the device computes."""
    found = []
    for key, chosen in routes.items():
        if chosen.whole is None and not chosen.stages:
            found.append(Part(signature=key, stage=None, spec=model.signatures[key]))
        for number, stage in enumerate(chosen.stages):
            if stage.where == "device":
                found.append(Part(signature=key, stage=number, spec=spec_of(stage)))
    return {part.key: part for part in found}


def without(
    routes: Mapping[str, Route], parts: Mapping[str, Part], failed: Mapping[str, str]
) -> dict[str, Route]:
    """Signatures with a part that the device does not run are run by TensorFlow as they are."""
    found = dict(routes)
    for key, why in failed.items():
        signature = parts[key].signature
        found[signature] = Route(signature=signature, whole=why)
    return found


def spec_of(stage: Stage) -> SignatureSpec:
    """The values of a stage as a signature has its tensors."""
    return SignatureSpec(
        inputs={value.name: _tensor(value) for value in stage.inputs},
        outputs={value.name: _tensor(value) for value in stage.outputs},
    )


def _tensor(value: Value) -> TensorSpec:
    dims = None
    if value.shape is not None:
        dims = tuple(Dim(-1 if d is None else d) for d in value.shape)
    return TensorSpec(name=value.name, dtype=value.dtype, dims=dims)


class PartLowerer:
    """TensorFlow's bridge, asked by the keys of parts."""

    def __init__(self, tensorflow: TensorFlow, parts: Mapping[str, Part]) -> None:
        self._tensorflow = tensorflow
        self._parts = parts

    def lower(self, model: ModelRecord, signature: str, shapes: Shapes) -> Lowered | Refused:
        part = self._parts[signature]
        return self._tensorflow.lower(model, part.signature, shapes, stage=part.stage)
