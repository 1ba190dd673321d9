"""A program: one signature at one set of input shapes, as a jaxpr with its weights as arguments."""

import dataclasses
import enum
from collections.abc import Mapping

import jax
from jax.extend.core import ClosedJaxpr

Shapes = Mapping[str, tuple[int, ...]]
"""Input name → its full shape, batch first."""


class Rows(enum.Enum):
    """Whether row i of every output depends on row i of the inputs alone.

    Only then may rows of strangers share a batch, may a batch be padded or a request be split.
    """

    INDEPENDENT = "independent"
    DEPENDENT = "dependent"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """`jaxpr` maps (*weights, *inputs) to outputs, flat, in the order of the names.

    Invariants: len(jaxpr.in_avals) == len(weight_names) + len(input_names);
    len(jaxpr.out_avals) == len(output_names); every weight is used; weight names are unique.
    """

    signature: str
    jaxpr: ClosedJaxpr
    weight_names: tuple[str, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def __post_init__(self) -> None:
        found = len(self.jaxpr.in_avals)
        wanted = len(self.weight_names) + len(self.input_names)
        if found != wanted or len(self.jaxpr.out_avals) != len(self.output_names):
            raise ValueError(
                f"program {self.signature!r}: jaxpr has {found} arguments and "
                f"{len(self.jaxpr.out_avals)} results, names say {wanted} and "
                f"{len(self.output_names)}"
            )

    @property
    def weight_avals(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return self.avals[: len(self.weight_names)]

    @property
    def input_avals(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return self.avals[len(self.weight_names) :]

    @property
    def output_avals(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in self.jaxpr.out_avals)

    @property
    def avals(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in self.jaxpr.in_avals)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {n: a.shape for n, a in zip(self.input_names, self.input_avals, strict=True)}
