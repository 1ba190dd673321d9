"""What a layer in few bits is worth: bytes, and the time of its products where time matters."""

import statistics
from collections.abc import Sequence

from jaxrt.compression.goals import Wanted
from jaxrt.compression.layers import Found
from jaxrt.compression.schemes import Rule, Scheme
from jaxrt.converters.layer_times import LayerTimes
from jaxrt.target import Target

OPERATIONS = {"cpu": 5.0, "gpu": 100.0, "tpu": 200.0}
"""Floating-point operations that a device does while it reads a byte of memory, about."""

ROUNDING = (Scheme.W8A8, Scheme.FP8)
"""Schemes that may round activations, so that products take less time."""


def gain(
    takers: Sequence[Found],
    saved: int,
    rule: Rule,
    wanted: Wanted,
    target: Target,
    times: LayerTimes | None,
    total: int,
) -> float:
    """In bytes: `saved` ones of the weights, and those that the device reads in the time that the
    products with the most rows get shorter, if as it was measured (`times`), else by half.

    `takers`: the layer in each program; `total`: bytes of all weights.
    """
    if wanted.slower_is_fine or rule.scheme not in ROUNDING or not takers:
        return float(saved)
    most = max(takers, key=lambda found: found.layer.flops)
    ratio = None if times is None else times.ratio(most, rule, total)
    shorter = 0.5 if ratio is None else max(0.0, 1 - ratio)
    by = OPERATIONS.get(target.platform, statistics.median(OPERATIONS.values()))
    return saved + shorter * most.layer.flops / by
