"""How each signature of a model is served: one device program, stages, or TensorFlow as it is."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from jaxrt.converters.records import Lowered, ModelRecord, Refused, Segmented, Stage, Value
from jaxrt.converters.seams import TensorFlow
from jaxrt.program import Shapes
from jaxrt.specs import Dim, SignatureSpec, TensorSpec, stage_key

_ROWS = 2
_GUESSES = (8, 64, 1)
"""Sizes of dimensions that a signature leaves open beside the rows."""

ASSERT = "Assert"
"""XLA drops it: a signature that has one is cut, so that the host still checks."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DevicePart:
    """What one set of device programs computes: a signature, or a device stage of it."""

    signature: str
    stage: int | None
    spec: SignatureSpec
    like: Mapping[str, tuple[tuple[str, int] | None, ...]] = dataclasses.field(default_factory=dict)
    """Of a stage's inputs with sizes that the signature's inputs have: see records.Value."""

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
    tensorflow: TensorFlow,
    model: ModelRecord,
    signatures: Sequence[str],
    *,
    optimize: bool,
    open_sizes: Callable[[str], bool] = lambda _: True,
    declined: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Route]:
    """Asks TensorFlow to cut what XLA does not take whole. Nothing is compiled yet.

    `declined`: signature → why it cannot be one device program, where that is known already.

    `open_sizes`: whether there will be programs for sizes that a signature leaves open beside the
    rows. Where not, what has such sizes stays on the host, which takes any.
    """
    found = {}
    for key in signatures:
        refused = model.refused.get(key)
        if not optimize:
            found[key] = Route(signature=key, whole="--disable_optimizer was given.")
        elif refused is None and key not in declined and ASSERT not in model.ops.get(key, ()):
            found[key] = Route(signature=key)
        else:
            cut = tensorflow.segment(model, key, open_sizes=open_sizes(key))
            if isinstance(cut, Segmented):
                found[key] = Route(signature=key, stages=cut.stages)
            elif refused is None and key not in declined:
                found[key] = Route(signature=key)
            else:
                found[key] = Route(signature=key, whole=declined.get(key, cut.reason))
    return found


def declined(
    tensorflow: TensorFlow, model: ModelRecord, signatures: Sequence[str]
) -> dict[str, str]:
    """Signature → why XLA does not take it, of those whose sizes nobody knows before a request.

    Asked at guesses, of which one must do: a mask as long as the longest row that data tell of is
    refused at all of them.
    """
    found: dict[str, str] = {}
    for key in signatures:
        for inner in _GUESSES:
            shapes = {
                a: _guess(tensor, inner) for a, tensor in model.signatures[key].inputs.items()
            }
            answer = tensorflow.lower(model, key, shapes, stage=None)
            if not isinstance(answer, Refused):
                found.pop(key, None)
                break
            found[key] = answer.reason
    return found


def _guess(tensor: TensorSpec, inner: int) -> tuple[int, ...]:
    return tuple(
        (_ROWS if place == 0 else inner) if size is None else size
        for place, size in enumerate(tensor.shape or ())
    )


def parts(model: ModelRecord, routes: Mapping[str, Route]) -> dict[str, DevicePart]:
    """Key → what the device computes."""
    found = []
    for key, chosen in routes.items():
        if chosen.whole is None and not chosen.stages:
            found.append(DevicePart(signature=key, stage=None, spec=model.signatures[key]))
        for number, stage in enumerate(chosen.stages):
            if stage.where == "device":
                like = {v.name: v.like for v in stage.inputs if v.like}
                found.append(
                    DevicePart(signature=key, stage=number, spec=spec_of(stage), like=like)
                )
    return {part.key: part for part in found}


def without(
    routes: Mapping[str, Route], parts: Mapping[str, DevicePart], failed: Mapping[str, str]
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
    # What crosses between stages has no name of its own: flags plan the input that it is like.
    sources = {dim[0] for dim in value.like if dim is not None}
    name = sources.pop() if len(sources) == 1 else value.name
    return TensorSpec(name=name, dtype=value.dtype, dims=dims)


class PartLowerer:
    """TensorFlow's bridge, asked by the keys of parts."""

    def __init__(self, tensorflow: TensorFlow, parts: Mapping[str, DevicePart]) -> None:
        self._tensorflow = tensorflow
        self._parts = parts

    def lower(self, model: ModelRecord, signature: str, shapes: Shapes) -> Lowered | Refused:
        part = self._parts[signature]
        return self._tensorflow.lower(model, part.signature, shapes, stage=part.stage)
