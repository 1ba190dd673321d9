"""A signature's stages one after the other, before there is an artifact."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrt.converters import emit, trial
from jaxrt.converters.division import Divided
from jaxrt.specs import stage_key

Array = np.ndarray[Any, Any]
Answers = Mapping[str, Array]
Run = Callable[[str, Answers], Answers]
"""(key of a device part, its inputs) → its outputs."""


class Walk:
    """Runs signatures with whatever computes their parts on the device."""

    def __init__(self, job: emit.Job, found: Divided) -> None:
        self._job = job
        self._ways = found.ways
        self._hosts: dict[tuple[str, int], Callable[[Answers], Answers]] = {}

    def answers(self, key: str, inputs: Answers, device: Run) -> Answers:
        """The outputs of the signature. Raises what `device` and host stages raise."""
        stages = self._ways[key].stages
        if not stages:
            return device(key, inputs)
        values = dict(inputs)
        for number, stage in enumerate(stages):
            given = {value.name: values[value.name] for value in stage.inputs}
            if stage.where == "host":
                values |= self._host(key, number)(given)
            else:
                values |= device(stage_key(key, number), given)
        return values

    def _host(self, key: str, number: int) -> Callable[[Answers], Answers]:
        if (key, number) not in self._hosts:
            place = list(self._job.model.signatures).index(key)
            stage = self._ways[key].stages[number]
            entry = emit.host(self._job, place, key, number, stage)
            self._hosts[key, number] = trial.host(self._job, entry)
        return self._hosts[key, number]
