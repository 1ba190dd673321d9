"""Reload: a new set of models in place of the one served."""

from collections.abc import Sequence
from typing import Protocol

from jaxrt.serving.config import ModelConfig


class Reload(Protocol):
    """What the configuration file's poll and the gRPC ModelService hand a new set to."""

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """Serves exactly `models` from now on; returns when those that are new are AVAILABLE.

        Models left out are unloaded; those with another version policy follow at the next poll of
        their directories. Calls take turns. Labels are set first: where one cannot be, nothing else
        changes.

        Raises RequestError leaves with TensorFlow Serving's texts: InvalidArgument for a list that
        cannot be served (a name twice, a relative base path), FailedPrecondition for a label of a
        version that is not available, and RequestError itself (UNKNOWN) when
        a new model did not become available, with the errors of its versions.
        """
