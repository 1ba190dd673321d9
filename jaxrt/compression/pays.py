"""Where fewer bits are faster as well: rules from measurements, for one layer on one target."""

import math

from jaxrt.compression import vectors
from jaxrt.compression.layers import DOT, GATHER, Found
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import Scheme, supported
from jaxrt.target import Target

CACHE = 32 << 20
"""Bytes of all weights from which a CPU reads them from memory at every call."""

TERMS, CHANNELS = 256, 64
"""Of a product from which int8 units make up for the rounding of activations, on a CPU."""

FEW = 64
"""Rows up to which an accelerator waits for the weights, not for the sums."""


def pays(found: Found, form: Form, target: Target, total: int) -> bool:
    """Whether a layer is no slower so, in one program of a model of `total` bytes.

    XLA:CPU multiplies int8 by int8 at 1.3 to 3 times the speed of floats. It widens int8 before
    it multiplies by floats unless there is one row, and a matrix in the cache is read as fast as
    it is widened. Tables are read by the row. In loops arrays are widened before the first round.
    """
    layer, scheme = found.layer, form.scheme
    kinds = {use.kind for use in found.uses}
    if target.platform != "cpu":
        small = scheme is not Scheme.INT4 or layer.rows <= FEW or kinds == {GATHER}
        return small and supported(scheme, target) is None
    if any(use.is_nested for use in found.uses):
        return False
    if kinds == {GATHER}:
        return scheme in (Scheme.INT8, Scheme.BF16)
    if GATHER in kinds:
        return False  # multiplied with too, where rows are widened
    terms = math.prod(layer.shape[d] for d in layer.axes)
    if layer.rows > 1:
        large = terms >= TERMS and math.prod(layer.shape) // max(1, terms) >= CHANNELS
        return scheme is Scheme.W8A8 and large
    by_row = kinds == {DOT} and scheme in (Scheme.INT8, Scheme.W8A8)
    return by_row and total > CACHE and math.prod(layer.shape) >= vectors.SMALLEST
