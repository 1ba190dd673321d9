"""Trained models in few bits, beside TensorFlow in float32: what tests/test_trained_models.py asks.

The models are SavedModels as their makers published them: tests/trained/README.md.
"""

import dataclasses
import functools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt import layouts, target
from jaxrt.artifact import ArtifactWriter
from jaxrt.buckets import Buckets
from jaxrt.compression.budget import Budget
from jaxrt.compression.calibration import Request, Source
from jaxrt.compression.errors import OutputError
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.schemes import Scheme
from jaxrt.converters import bases, calibrating, compressing, division, emit
from jaxrt.converters.compressing import Compressed
from jaxrt.converters.options import Options
from jaxrt.converters.seams import TensorFlow
from jaxrt.converters.walking import Answers, Walk
from jaxrt.tuning.optimizer import Passes, optimizer

Array = np.ndarray[Any, Any]

FOLDER = Path(__file__).parent / "trained"

CPU = target.attached("cpu")

NONE = Budget()


class Silent:
    """Shows nothing of a build."""

    def total(self, steps: int) -> None:
        pass

    def step(self, text: str) -> None:
        pass


def unpacked(name: str, home: Path) -> Path:
    """The SavedModel `name` of tests/trained, below `home`."""
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as held:
        held.extractall(home)
    return home / name / "1"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Small:
    """One signature of a model, its layers in few bits, on given inputs."""

    compressed: Compressed
    signature: str
    wanted: Sequence[Answers]
    """TensorFlow's, in float32."""
    got: Sequence[Answers]
    """The compressed program's."""

    @property
    def errors(self) -> dict[str, OutputError]:
        """As the report has them."""
        found = self.compressed.compression.outputs[self.signature]
        return {error.output: error for error in found}

    @property
    def schemes(self) -> list[str]:
        return [choice.scheme.value for choice in self.compressed.compression.layers]

    @property
    def ratio(self) -> float:
        """Bytes of all weights, of those in float32."""
        found = self.compressed.compression
        return sum(c.nbytes - c.layer.nbytes for c in found.layers) / found.before + 1.0


class Trained:
    """A SavedModel that was converted once, with TensorFlow's answers to its inputs."""

    def __init__(
        self,
        tensorflow: TensorFlow,
        path: Path,
        writer: ArtifactWriter,
        inputs: Mapping[str, Array],
        *,
        signature: str = "serving_default",
        rows: int = 32,
    ) -> None:
        """`writer` is open, for the tables of host stages; `rows` are those of one call."""
        self._job = emit.Job(
            tensorflow=tensorflow,
            model=tensorflow.open_model(path, ("serve",)),
            target=CPU,
            steps=Silent(),
            writer=writer,
            optimize=optimizer(CPU, Passes(), cache=path.parent / "tuning"),
            lay_out=layouts.here(CPU),
        )
        options = Options(buckets=Buckets(sizes=(rows,)), signatures=(signature,), check=False)
        self._found = division.divide(self._job, options, keep_open=False)
        request = Request(signature=signature, inputs=inputs, where="inputs")
        source = Source(said="inputs", read=lambda specs: [request])
        self._data = calibrating.gather(self._job, self._found, source)
        self._signature = signature

    @functools.cached_property
    def wanted(self) -> list[Answers]:
        return [sample.answers for sample in self._data.samples[self._signature]]

    def held_as(self, scheme: Scheme, budget: Budget = NONE) -> Small:
        """With every layer in `scheme` that the budget allows, whatever it does to time."""
        wanted = Wanted(scheme=scheme, budget=budget, goal=Goal.SIZE)
        small = compressing.compress(self._job, self._found, wanted, self._data)
        return Small(
            compressed=small,
            signature=self._signature,
            wanted=self.wanted,
            got=self._answers(small),
        )

    def _answers(self, small: Compressed) -> list[Answers]:
        walk = Walk(self._job, self._found)
        known = {base.key: base for base in bases.bases(self._job, self._found)}
        runners = {key: bases.runner(small.found.converted[key]) for key in known}

        def device(key: str, inputs: Answers) -> Answers:
            return runners[key].answer(runners[key].place(known[key].arrays), inputs)

        samples = self._data.samples[self._signature]
        return [walk.answers(self._signature, sample.inputs, device) for sample in samples]
