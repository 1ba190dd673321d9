"""How the programs of one artifact lie on devices: who decides it and compiles them.

`Here` is the one device of this machine. A mesh, and devices that are elsewhere, come from
`jaxrt.tpu`, which the core never imports: the command line brings both together.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jaxrt import compiler
from jaxrt.compiler import Built
from jaxrt.mesh import MeshRecord, Spec
from jaxrt.program import Program
from jaxrt.target import Target


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One program that an artifact is to hold."""

    program: Program
    stored: tuple[str, ...]
    """What its weights are called in the artifact, in their order."""
    whole: bool = False
    """To be compiled as one kernel (`jaxrt.passes.one_kernel`)."""


class LaidOut(Protocol):
    """The programs of an artifact, laid out together: one mesh, one layout for each weight."""

    @property
    def mesh(self) -> MeshRecord | None:
        """None: one device."""

    @property
    def weights(self) -> Mapping[str, Spec]:
        """Stored name → layout, of those that are split."""

    @property
    def report(self) -> Mapping[str, Any] | None:
        """JSON: which plan, why, and what else was considered; None where there was no choice."""

    def build(self, asked: Asked) -> Built:
        """Compiles one of them.

        Raises ConversionError when the platform cannot run it, DeviceError when it is too large.
        """


LayOut = Callable[[Sequence[Asked]], LaidOut]
"""Decides for all programs of an artifact; raises DeviceError when they do not fit the devices."""


class Here:
    """The one attached device of a target; nothing is split."""

    mesh: MeshRecord | None = None
    report: Mapping[str, Any] | None = None

    def __init__(self, target: Target) -> None:
        self._target = target
        self.weights: Mapping[str, Spec] = {}

    def build(self, asked: Asked) -> Built:
        """As LaidOut says."""
        return compiler.build(asked.program, self._target, whole=asked.whole)


def here(target: Target) -> LayOut:
    """Programs for the one attached device of a target."""
    return lambda asked: Here(target)
