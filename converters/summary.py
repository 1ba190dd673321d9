"""What a signature costs and where, in one line that a person reads."""

from collections import Counter
from collections.abc import Mapping

from jaxrt.converters.costs import Costs
from jaxrt.units import percent, size

_NAMED = 3
"""Ops that the line names for each reason, and reasons; the table has them all."""


def summary(costs: Costs) -> str:
    """`92 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has tables); no
    TensorFlow needed; 3.2 kB cross per example`."""
    if costs.whole:
        why = costs.segments[0].why.rstrip(".")
        return f"0 % of FLOPs on device; TensorFlow runs all of it on host ({why})"
    hosts = [segment for segment in costs.segments if not segment.on_device]
    if not hosts:
        return "100 % of FLOPs on device; nothing on host"
    reasons: dict[str, Counter[str]] = {}
    for segment in hosts:
        for why, ops in segment.reasons.items():
            reasons.setdefault(why, Counter()).update(ops)
    parts = [f"{_share(costs)} on device", *_reasons(reasons)]
    native = all(segment.where == "host, native" for segment in hosts)
    parts.append("no TensorFlow needed" if native else "TensorFlow runs the host's part")
    crossing = costs.crossing
    parts.append("unknown what crosses" if crossing is None else _crossing(crossing))
    return "; ".join(parts)


def _crossing(count: float) -> str:
    return f"{size(count)} cross per example" if count else "nothing crosses"


def _share(costs: Costs) -> str:
    share = costs.device_share
    if share is None:
        unknown = any(segment.flops is None for segment in costs.segments)
        return "unknown share of FLOPs" if unknown else "no FLOPs at all: none"
    hosts = [segment for segment in costs.segments if not segment.on_device]
    more = share < 1 and any(s.loops for s in costs.segments if s.on_device)
    less = share > 0 and any(s.uncounted for s in hosts)
    bound = {(True, True): "about ", (True, False): "at least ", (False, True): "at most "}
    said = percent(share)
    return f"{'' if said[0] in '<>' else bound.get((more, less), '')}{said} of FLOPs"


def _reasons(reasons: Mapping[str, Mapping[str, int]]) -> list[str]:
    ordered = sorted(reasons.items(), key=lambda item: -sum(item[1].values()))
    if not ordered:
        return ["on host what is cheaper there than what would cross"]
    said = [f"{_ops(ops)} on host ({why})" for why, ops in ordered[:_NAMED]]
    rest = len(ordered) - _NAMED
    return [*said, *([f"{rest} more reasons"] if rest > 0 else [])]


def _ops(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = len(ordered) - _NAMED
    return ops(dict(ordered[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def ops(counts: Mapping[str, int]) -> str:
    """`LookupTableFindV2 ×14, StringLower`."""
    return ", ".join(f"{op} ×{n}" if n > 1 else op for op, n in counts.items())
