"""What a compiled program does with weights in few bits, read from its HLO."""

import math
import re
from collections.abc import Collection, Iterator

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(")
_FUSED = re.compile(r" fusion\(.*calls=%?([\w.\-]+)")
_WIDE = re.compile(r"\b(?:f32|bf16|f16)\[([0-9,]+)\]")
_IN_PLACE = {"parameter", "tuple", "get-tuple-element", "bitcast"}


def widened(hlo: str, shapes: Collection[tuple[int, ...]]) -> list[str]:
    """What writes floats of as many elements as one of `shapes` has to memory.

    Instructions inside fusions write nothing but what the fusion gives.
    """
    sizes = {math.prod(shape) for shape in shapes}
    return [
        line
        for line, result in _written(hlo)
        if any(math.prod(map(int, dims.split(","))) in sizes for dims in _WIDE.findall(result))
    ]


def products(hlo: str) -> set[tuple[str, str]]:
    """(dtype of the operands, of the result) of each product; a TPU's are convolutions."""
    kinds: dict[str, str] = {}
    found = set()
    for line in hlo.splitlines():
        named = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ([a-z0-9]+)\[", line)
        if named is None:
            continue
        kinds[named[1]] = named[2]
        used = re.search(r" (?:dot|convolution)\(%?([\w.\-]+)", line)
        if used is not None:
            found.add((kinds[used[1]], named[2]))
    return found


def _written(hlo: str) -> Iterator[tuple[str, str]]:
    """(instruction, type of its result) of what is not inside a fusion."""
    fused = set(_FUSED.findall(hlo))
    inside = ""
    for line in hlo.splitlines():
        if opened := _COMPUTATION.match(line):
            inside = opened[1]
        found = _INSTRUCTION.match(line)
        if found and inside not in fused and found[2] not in _IN_PLACE:
            yield line.strip(), found[1]
