"""The exchanges in a compiled program, read from its HLO."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator

KINDS = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")

_OP = re.compile(
    r"=\s*(?P<type>\(.*?\)|[a-z0-9]+\[[0-9,]*\]\S*)\s+"
    r"(?P<kind>" + "|".join(KINDS) + r")(?:-start)?\("
)
_ARRAY = re.compile(r"([a-z]+)([0-9]*)[a-z0-9]*\[([0-9,]*)\]")
_FUNCTION = "jit(function)/"
"""The name of the function in `jaxrt.tpu.apply`, as `op_name` has it."""
_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One exchange of a compiled program."""

    kind: str
    nbytes: int
    """Of its results on one device."""
    scope: str
    """The weight that was used last before it, as far as XLA kept that; else empty."""


def found(hlo: str) -> Iterator[Found]:
    """Every exchange in the text of an HLO module; those that are started and done count once."""
    for line in hlo.splitlines():
        match = _OP.search(line)
        if match is not None:
            name = _NAME.search(line)
            yield Found(
                kind=match["kind"],
                nbytes=_nbytes(match["type"]),
                scope=_scope(name[1]) if name else "",
            )


def counts(exchanges: Iterable[Found]) -> dict[str, int]:
    """Kind → how many there are."""
    return dict(collections.Counter(exchange.kind for exchange in exchanges))


def _scope(op_name: str) -> str:
    """`jit(call)/call_exported/jit(function)/dense_1/kernel/dot_general` → `dense_1/kernel`."""
    _, found, rest = op_name.rpartition(_FUNCTION)
    return rest.rpartition("/")[0] if found else ""


def _nbytes(text: str) -> int:
    total = 0
    for kind, bits, dims in _ARRAY.findall(text):
        size = 1
        for dim in dims.split(","):
            size *= int(dim) if dim else 1
        total += size * (1 if kind == "pred" else max(int(bits or 32) // 8, 1))
    return total
