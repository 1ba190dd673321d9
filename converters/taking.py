"""How many channels may be taken: the budget's share of pruning, and sizes that targets like."""

import math

from jaxrt.compression.budget import Budget
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.schemes import Scheme

LIKED = {"cpu": 8, "cuda": 8, "gpu": 8, "tpu": 128}
"""Sizes that are multiples of it keep vectors, tensor cores or lanes full."""


def limit(wanted: Wanted) -> Budget:
    """What pruning may take of the budget: half, where fewer bits are to have the other half.

    Errors of both add up as squares, rows that change their class by their number.
    """
    whole = wanted.limit
    if wanted.scheme is Scheme.FLOAT and not wanted.rules:
        return whole
    error, agreement = whole.max_error, whole.min_agreement
    return Budget(
        max_error=None if error is None else error / math.sqrt(2),
        min_agreement=None if agreement is None else (1 + agreement) / 2,
    )


def liked(platform: str, goal: Goal, size: int) -> int:
    """What the channels that stay are to be a multiple of: of few, a quarter."""
    if goal is Goal.SIZE:
        return 1
    quarter = max(1, size // 4)
    return min(LIKED.get(platform, 1), 1 << (quarter.bit_length() - 1))
