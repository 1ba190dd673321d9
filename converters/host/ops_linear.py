"""Products of matrices, and softmax: float results may differ from TensorFlow's in the last digit.

A stage with such ops is TensorFlow's, but for loops that a device began: there they go on.
"""

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.rules import Array, op, whole
from jaxrt.errors import InvalidArgument

_NARROW = ("float16", "bfloat16")
"""Added up in float32, as TensorFlow does."""


@op("MatMul", exact=whole)
def matmul(node: Node, a: Array, b: Array) -> Array:
    """[m, k] and [k, n], either of them turned first."""
    if a.ndim != 2 or b.ndim != 2:
        wrong, name = (a, "a") if a.ndim != 2 else (b, "b")
        raise InvalidArgument(f"In[{'ab'.index(name)}] ndims must be >= 2: {wrong.ndim}")
    left = a.T if node.attrs.get("transpose_a") else a
    right = b.T if node.attrs.get("transpose_b") else b
    if left.shape[1] != right.shape[0]:
        raise InvalidArgument(
            f"Matrix size-incompatible: In[0]: {shape_text(a)}, In[1]: {shape_text(b)}"
        )
    return _product(left, right)


@op("BatchMatMul", "BatchMatMulV2", exact=whole)
def batch_matmul(node: Node, x: Array, y: Array) -> Array:
    """[..., m, k] and [..., k, n]; `adj` turns the last two dimensions and conjugates."""
    for index, array in enumerate((x, y)):
        if array.ndim < 2:
            raise InvalidArgument(f"In[{index}] ndims must be >= 2: {array.ndim}")
    left = _adjoint(x) if node.attrs.get("adj_x") else x
    right = _adjoint(y) if node.attrs.get("adj_y") else y
    try:
        np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        raise InvalidArgument(
            "In[0] and In[1] must have compatible batch dimensions: "
            f"{shape_text(x)} vs. {shape_text(y)}"
        ) from None
    if left.shape[-1] != right.shape[-2]:
        raise InvalidArgument(
            f"Matrix size-incompatible: In[0]: {shape_text(x)}, In[1]: {shape_text(y)}"
        )
    return _product(left, right)


def _adjoint(array: Array) -> Array:
    return np.asarray(np.conj(np.swapaxes(array, -1, -2)))


def _product(left: Array, right: Array) -> Array:
    if left.dtype.name in _NARROW:
        wide = np.matmul(left.astype(np.float32), right.astype(np.float32))
        return np.asarray(wide.astype(left.dtype))
    return np.asarray(np.matmul(left, right))


@op("Softmax", "LogSoftmax", exact=False)
def softmax(node: Node, logits: Array) -> Array:
    """Along the last dimension."""
    if logits.ndim < 1:
        raise InvalidArgument(f"logits must have >= 1 dimension, got {shape_text(logits)}")
    wide = logits.astype(np.float32) if logits.dtype.name in _NARROW else logits
    if not wide.shape[-1]:
        return logits
    shifted = wide - wide.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    found = shifted - np.log(total) if node.op == "LogSoftmax" else np.exp(shifted) / total
    return np.asarray(found.astype(logits.dtype))
