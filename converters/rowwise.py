"""Whether row i of what a host stage gives depends on row i of what it takes alone."""

from jaxrt.converters.flat import Flat
from jaxrt.converters.stages import Part


def is_rowwise(part: Part, flat: Flat) -> bool:
    return False
