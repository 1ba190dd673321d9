"""Where fewer bits are faster as well: rules from measurements, for one layer on one target."""

import math

from jaxrt.compression import vectors
from jaxrt.compression.layers import DOT, GATHER, Layer
from jaxrt.compression.schemes import Scheme, supported
from jaxrt.target import Target

CACHE = 32 << 20
"""Bytes of all weights from which a CPU reads them from memory at every call."""

TERMS, CHANNELS = 256, 64
"""Of a product from which int8 units make up for the rounding of activations, on a CPU."""

FEW = 64
"""Rows up to which an accelerator waits for the weights, not for the sums."""


def pays(layer: Layer, scheme: Scheme, target: Target, rows: int, total: int) -> bool:
    """Whether a layer is no slower so; `rows` times it a call, in a model of `total` bytes.

    XLA:CPU multiplies int8 by int8 at 1.3 to 3 times the speed of floats. It widens int8 before
    it multiplies by floats unless there is one row, and a matrix in the cache is read as fast as
    it is widened. Tables are read by the row.
    """
    if scheme is Scheme.FLOAT:
        return True
    if target.platform != "cpu":
        small = scheme is not Scheme.INT4 or rows <= FEW or layer.kind == GATHER
        return small and supported(scheme, target) is None
    if layer.kind == GATHER:
        return scheme in (Scheme.INT8, Scheme.BF16)
    if rows > 1 and scheme is Scheme.W8A8:
        terms = math.prod(layer.shape[d] for d in layer.axes)
        return terms >= TERMS and math.prod(layer.shape) // terms >= CHANNELS
    if rows > 1 or layer.kind != DOT or scheme not in (Scheme.INT8, Scheme.W8A8):
        return False
    return total > CACHE and math.prod(layer.shape) >= vectors.SMALLEST
