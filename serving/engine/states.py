"""The states of versions as metrics; where a version ends, its own series end."""

from jaxrt.errors import Code
from jaxrt.serving.engine.servable import State
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.calls import Calls


class States:
    """An observer of a manager."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._known: dict[tuple[str, int], State] = {}

    def __call__(self, name: str, version: int, state: State, code: Code) -> None:
        registry = self._calls.registry
        before = self._known.get((name, version))
        if state is State.END:
            self._calls.forget(name, version)
            if code is not Code.OK:
                registry.counter(families.FAILED_LOADS, name).add()
        elif before is not None:
            registry.gauge(families.MODEL_STATE, name, str(version), before.value).set(0)
        self._known[name, version] = state
        registry.gauge(families.MODEL_STATE, name, str(version), state.value).set(1)
