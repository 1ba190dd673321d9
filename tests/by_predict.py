"""A servable that begins no request on the event loop: a base for those of tests."""

from typing import Any

from jaxrt.serving.engine.servable import HostTensors


class ByPredict:
    """All has to go through `predict`."""

    startable = frozenset[str]()

    def start(self, signature: str, inputs: HostTensors, **_: Any) -> None:
        """Never begins one."""
