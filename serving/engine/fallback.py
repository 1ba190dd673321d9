"""Requests of shapes that no program takes, answered by the whole signature on the host."""

import logging

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.pipeline import HostStage
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.shapes import show

_log = logging.getLogger("jaxrt.serving")

_REMEMBERED = 1024
"""Shapes; clients that send a new one each time must not fill the memory, or the log."""


class NoProgram(InvalidArgument):
    """Nothing was compiled for the shapes of a request; the message says what was."""


class Fallback:
    """One signature, run whole where its programs do not fit; each shape is logged once."""

    def __init__(self, stage: HostStage, metrics: Metrics) -> None:
        self._stage = stage
        self._metrics = metrics
        self._seen: set[str] = set()

    async def run(
        self, inputs: HostTensors, deadline: float | None, because: NoProgram
    ) -> HostTensors:
        """The signature's outputs; raises what the host program raises."""
        self._metrics.fallbacks.add()
        shapes = show({name: array.shape for name, array in inputs.items()})
        if shapes not in self._seen and len(self._seen) < _REMEMBERED:
            self._seen.add(shapes)
            _log.warning("%s; TensorFlow answers it, slowly", because)
        return await self._stage.run(inputs, deadline)
