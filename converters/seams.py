"""What a build asks of TensorFlow, and where it shows its steps: the seams of a conversion."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxrt.converters.records import Lowered, ModelRecord, Refused, Sample, Segmented, TableContents
from jaxrt.manifest import HostEntry
from jaxrt.program import Shapes

Array = np.ndarray[Any, Any]


class Lowerer(Protocol):
    """TensorFlow's XLA bridge; `converters.worker.Bridge`, in a process of its own."""

    def lower(self, model: ModelRecord, signature: str, shapes: Shapes) -> Lowered | Refused: ...


class TensorFlow(Lowerer, Protocol):
    """What a build asks of TensorFlow; `converters.worker.Bridge`."""

    def open_model(self, path: Path, tags: Sequence[str]) -> ModelRecord: ...

    def lower(
        self,
        model: ModelRecord,
        signature: str,
        shapes: Shapes,
        stage: int | None = None,
    ) -> Lowered | Refused: ...

    def segment(
        self, model: ModelRecord, signature: str, *, open_sizes: bool = True
    ) -> Segmented | Refused: ...

    def tables(
        self, model: ModelRecord, signature: str, stage: int
    ) -> Mapping[str, TableContents]: ...

    def weights(
        self, model: ModelRecord, names: Iterable[str] | None = None
    ) -> Mapping[str, Array]: ...

    def run(
        self, model: ModelRecord, signature: str, inputs: Mapping[str, Array]
    ) -> Mapping[str, Array]: ...

    def sample(
        self, model: ModelRecord, signature: str, rows: int, seed: int
    ) -> Sample | Refused: ...

    def run_host(
        self,
        model: ModelRecord,
        host: HostEntry,
        inputs: Mapping[str, Array],
        *,
        file: Callable[[str], Path],
    ) -> Mapping[str, Array]: ...


class Steps(Protocol):
    """Where the user sees how far a build is."""

    def total(self, steps: int) -> None: ...

    def step(self, text: str) -> None: ...
