"""What reaches the device parts of a model when its signatures are asked with calibration data."""

from collections.abc import Mapping, Sequence

from jaxrt.converters import sensitivity
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Sample
from jaxrt.converters.runner import Answers, Runner
from jaxrt.converters.walking import Run, Walk
from jaxrt.errors import ConversionError, JaxrtError


def answered(walk: Walk, key: str, sample: Sample, device: Run, notes: list[str]) -> Answers | None:
    """The answers of signature `key`; None, and a note why, where a stage refuses."""
    try:
        return walk.answers(key, sample.inputs, device)
    except JaxrtError as error:
        notes.append(f"left out: a request of {key!r}: {error}")
        return None


def parts(
    runners: Sequence[tuple[Base, Runner]],
    walk: Walk,
    samples: Mapping[str, Sequence[Sample]],
    notes: list[str],
) -> tuple[list[sensitivity.Part], dict[str, list[Sample]]]:
    """Every part with its inputs, and the samples that could be answered."""
    known = {base.key: (base, runner) for base, runner in runners}
    placed = {key: runner.place(base.arrays) for key, (base, runner) in known.items()}
    inputs: dict[str, list[Answers]] = {key: [] for key in known}

    def device(key: str, given: Answers) -> Answers:
        if key not in known:
            raise ConversionError(f"{key!r} draws random numbers or has no program")
        answers = known[key][1].answer(placed[key], given)
        inputs[key].append(given)
        return answers

    left = {
        key: [s for s in found if answered(walk, key, s, device, notes) is not None]
        for key, found in samples.items()
    }
    return [sensitivity.part(base, runner, inputs[base.key]) for base, runner in runners], left
