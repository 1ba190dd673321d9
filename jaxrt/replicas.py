"""Replicas: the same program in several places, each run by one that is idle."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxrt.occupancy import Occupancy
from jaxrt.placed import Array, Place
from jaxrt.running import Running


class ReplicatedProgram:
    """One program on each replica; as many threads as there are replicas keep them all busy.

    The first run runs on all of them, so that a later one finds code and buffers in place.
    """

    def __init__(
        self, programs: Sequence[Running], places: Sequence[Place], occupancy: Occupancy
    ) -> None:
        """`occupancy`: that of everything that runs on these devices."""
        self.programs = tuple(programs)
        self._ids = [place.ids for place in places]
        self._occupancy = occupancy
        self._ran = False

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.programs[0].input_shapes

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.programs[0].output_shapes

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """As Running says; waits for an idle replica."""
        if not self._ran:
            return self._everywhere(inputs)
        with self._occupancy.one_of(self._ids) as number:
            return self.programs[number].run(inputs)

    def _everywhere(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        everything = frozenset().union(*self._ids)
        with self._occupancy.one_of([everything]), ThreadPoolExecutor(len(self.programs)) as pool:
            found = [pool.submit(program.run, inputs) for program in self.programs]
            first, *_ = [future.result() for future in found]
        self._ran = True
        return first
