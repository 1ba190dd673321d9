"""Host segments of an artifact, opened; what runs them is imported where there is one."""

from collections.abc import Callable

from jaxrt.artifact import Artifact
from jaxrt.loader import HostProgram
from jaxrt.manifest import HostEntry


def opener(artifact: Artifact) -> Callable[[HostEntry], HostProgram]:
    """What `jaxrt.loader.load` opens the host segments of one artifact with."""
    executors: list[Callable[[HostEntry], HostProgram]] = []

    def open_host(entry: HostEntry) -> HostProgram:
        if not executors:
            from jaxrt.converters.host.executors import Executors

            executors.append(Executors(artifact).open)
        return executors[0](entry)

    return open_host
