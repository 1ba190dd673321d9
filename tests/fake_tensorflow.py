"""A stand-in for TensorFlow's process whose models are JAX functions: test_converters_*.py."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrt.converters import check
from jaxrt.converters.records import (
    Kind,
    Lowered,
    ModelRecord,
    Output,
    Parameter,
    Refused,
    Sample,
    Segmented,
    TableContents,
)
from jaxrt.errors import ConversionError
from jaxrt.manifest import HostEntry
from jaxrt.program import Shapes
from jaxrt.specs import DTYPES, Dim, SignatureSpec, TensorSpec

Array = np.ndarray[Any, Any]
Function = Callable[..., Mapping[str, Any]]
"""(weights by name, inputs by alias as keywords) → outputs by alias."""


def tensor(dtype: str, *dims: int | None) -> TensorSpec:
    sizes = tuple(Dim(-1 if size is None else size) for size in dims)
    return TensorSpec(name="t:0", dtype=dtype, dims=sizes)


def signature(**inputs: TensorSpec) -> SignatureSpec:
    """One float32 output, `y`, of unknown rank."""
    return SignatureSpec(
        inputs=inputs, outputs={"y": TensorSpec(name="y:0", dtype="float32", dims=None)}
    )


class FakeTensorFlow:
    """Signatures are functions; `refuse` says why a shape of a signature is not lowered."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        specs: Mapping[str, SignatureSpec],
        weights: Mapping[str, Array] | None = None,
        *,
        refuse: Callable[[str, Shapes], str | None] = lambda signature, shapes: None,
        refused: Mapping[str, Refused] | None = None,
    ) -> None:
        self._functions = functions
        self._specs = specs
        self._weights = dict(weights or {})
        self._refuse = refuse
        self._refused = dict(refused or {})
        self.opened = 0
        self.lowered: list[tuple[str, Shapes]] = []

    def open_model(self, path: Path, tags: Sequence[str]) -> ModelRecord:
        self.opened += 1
        return ModelRecord(
            path=str(path),
            tags=tuple(tags),
            signatures=self._specs,
            refused=self._refused,
            ops={key: ("AnOp",) for key in self._specs},
            tensorflow_version="2.0.0",
        )

    def lower(
        self, model: ModelRecord, signature: str, shapes: Shapes, stage: int | None = None
    ) -> Lowered | Refused:
        self.lowered.append((signature, dict(shapes)))
        if why := self._refuse(signature, shapes):
            return Refused(signature=signature, kind=Kind.BRIDGE, reason=why)
        inputs = {
            alias: jax.ShapeDtypeStruct(shapes[alias], DTYPES[spec.dtype].numpy)
            for alias, spec in self._specs[signature].inputs.items()
        }
        weights = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in self._weights.items()}
        aliases, names = list(inputs), list(weights)

        def flat(*arguments: Any) -> list[Any]:
            given = dict(zip(aliases, arguments[: len(aliases)], strict=True))
            held = dict(zip(names, arguments[len(aliases) :], strict=True))
            return list(self._functions[signature](held, **given).values())

        with jax.enable_x64(True):
            lowered = jax.jit(flat, keep_unused=True).lower(*inputs.values(), *weights.values())
            out = jax.eval_shape(self._functions[signature], weights, **inputs)
        return Lowered(
            signature=signature,
            stablehlo=str(lowered.as_text()).encode(),
            inputs=_parameters(inputs),
            weights=_parameters(weights),
            outputs=tuple(Output(name=alias, dtype=a.dtype.name) for alias, a in out.items()),
            ops=("AnOp",),
        )

    def segment(
        self, model: ModelRecord, signature: str, *, open_sizes: bool = True
    ) -> Segmented | Refused:
        return Refused(signature=signature, kind=Kind.HOST, reason="it cannot be cut")

    def tables(self, model: ModelRecord, signature: str, stage: int) -> Mapping[str, TableContents]:
        raise AssertionError("no signature is cut")

    def weights(
        self, model: ModelRecord, names: Iterable[str] | None = None
    ) -> Mapping[str, Array]:
        return {n: self._weights[n] for n in (self._weights if names is None else names)}

    def run(
        self, model: ModelRecord, signature: str, inputs: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        shapes = {alias: array.shape for alias, array in inputs.items()}
        if why := self._refuse(signature, shapes):
            raise ConversionError(why)
        with jax.enable_x64(True):
            out = self._functions[signature](self._weights, **inputs)
        return {alias: np.asarray(array) for alias, array in out.items()}

    def sample(self, model: ModelRecord, signature: str, rows: int, seed: int) -> Sample | Refused:
        shapes = {
            alias: tuple(rows if n is None and i == 0 else n or 1 for i, n in enumerate(t.shape))
            for alias, t in self._specs[signature].inputs.items()
            if t.shape is not None
        }
        draw = np.random.default_rng(seed)
        inputs = check.sample(self._specs[signature], shapes, draw, ids=2)
        return Sample(inputs=inputs, answers=self.run(model, signature, inputs))

    def run_host(
        self,
        model: ModelRecord,
        host: HostEntry,
        inputs: Mapping[str, Array],
        *,
        file: Callable[[str], Path],
    ) -> Mapping[str, Array]:
        assert host.executor == "saved_model" and host.signature is not None
        return self.run(model, host.signature, inputs)


def _parameters(avals: Mapping[str, Any]) -> tuple[Parameter, ...]:
    return tuple(Parameter(name=n, dtype=a.dtype.name, shape=a.shape) for n, a in avals.items())


@dataclasses.dataclass
class Steps:
    """What a build announced."""

    wanted: int = 0
    done: list[str] = dataclasses.field(default_factory=list)

    def total(self, steps: int) -> None:
        self.wanted = steps

    def step(self, text: str) -> None:
        self.done.append(text)
