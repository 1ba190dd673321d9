"""Which channels of a group go first, and what stands for them: from moments of calibration data.

What a channel is worth is how far sums over it would move: the share of its variance that the
channels that stay do not tell, times the squares of its weights (the second-order rule of Optimal
Brain Surgeon, for whole channels). A channel that is a mixture of others is worth nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.passes.fills import Fill, Product
from jaxrt.passes.opened import Moments

Array = np.ndarray[Any, Any]

ROUNDS = 16
"""In which channels are taken: after each the others are rated again."""

RIDGE = 1e-3
"""Of the mean variance, added to all: data that is short of rows must not be trusted exactly."""

ROWS = 4
"""Rows and pixels of the data for each channel from which mixtures are trusted at all."""


def order(
    channels: Array, ends: Sequence[tuple[Product, Array, Array]], moments: Mapping[str, Moments]
) -> Array:
    """`channels`, what goes first in front.

    `ends`: the products that sum over them, the channel of each index, the operand of weights.
    """
    rated = [_Rated(p, of, weight, moments[p.name]) for p, of, weight in ends]
    left, out = channels, []
    step = max(1, -(-len(channels) // ROUNDS))
    while len(left):
        score = sum((one.worth(left) for one in rated), np.zeros(len(left)))
        gone = left[np.argsort(score, kind="stable")[:step]]
        for one in rated:
            one.take(gone)
        left = np.setdiff1d(left, gone)
        out.append(gone)
    return np.concatenate(out) if out else channels


class _Rated:
    """One product while its channels go."""

    def __init__(self, product: Product, of: Array, weight: Array, moments: Moments) -> None:
        rows = np.moveaxis(weight, product.dim, 0).reshape(weight.shape[product.dim], -1)
        self._squares = (rows.astype(np.float64) ** 2).sum(axis=1)
        self._of = of
        covariance = moments.covariance
        self._variances = covariance if covariance.ndim == 1 else np.diag(covariance)
        self._inverse = None
        if covariance.ndim == 2 and moments.count >= ROWS * len(covariance):
            self._inverse = np.linalg.inv(_ridged(covariance))

    def worth(self, left: Array) -> Array:
        alone = self._variances
        if self._inverse is not None:
            alone = 1 / np.maximum(np.diag(self._inverse), 1e-30)
        size = max(int(left.max()), int(self._of.max())) + 1
        return np.bincount(self._of, alone * self._squares, minlength=size)[left]

    def take(self, gone: Array) -> None:
        goes = np.isin(self._of, gone)
        if self._inverse is None or goes.all():
            return
        # The inverse of what is left, from that of the whole.
        cross = self._inverse[:, goes]
        self._inverse = self._inverse - cross @ np.linalg.solve(
            self._inverse[np.ix_(goes, goes)], cross.T
        )


def _ridged(covariance: Array) -> Array:
    found: Array = covariance + (RIDGE * np.diag(covariance).mean() + 1e-12) * np.eye(
        len(covariance)
    )
    return found


def mean(moments: Moments, goes: Array) -> Fill:
    """`goes`: [size] bool."""
    return Fill(np.where(goes, moments.mean, 0).astype(np.float32))


def mixture(moments: Moments, goes: Array) -> Fill:
    """What the channels that stay tell of those that go; the mean alone where data is short."""
    covariance = moments.covariance
    stays = ~goes
    if covariance.ndim == 1 or moments.count < ROWS * int(stays.sum()) or not stays.any():
        return mean(moments, goes)
    known = _ridged(covariance[np.ix_(stays, stays)])
    mix = np.linalg.solve(known, covariance[np.ix_(stays, goes)])
    values = np.zeros(len(goes))
    values[goes] = moments.mean[goes] - moments.mean[stays] @ mix
    return Fill(values.astype(np.float32), mix.astype(np.float32))
