"""Which ops XLA has no kernel for, as TensorFlow's own registry says. TensorFlow's process."""

import functools
from collections.abc import Collection, Iterable
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels

from jaxrt.converters.opnames import CONTROL_FLOW, PLAIN, REFERENCE
from jaxrt.converters.subgraph import Node

_DEVICE = "XLA_CPU_JIT"
_GONE = {*CONTROL_FLOW, *PLAIN, *REFERENCE, "VarHandleOp", "Placeholder"}
"""Ops that no lowering meets: they become arguments, or another kind of control flow."""


def missing(nodes: Iterable[Node], functions: Collection[str]) -> set[str]:
    """Ops of the nodes that XLA cannot take at these dtypes. `functions` are called as ops."""
    return {n.op for n in nodes if n.op not in functions and not _is_covered(n)}


def _is_covered(node: Node) -> bool:
    if node.op in _GONE:
        return True
    return any(_fits(node, kernel) for kernel in _kernels(node.op))


def _fits(node: Node, kernel: Any) -> bool:
    """Whether the node has dtypes that the kernel takes; those left out of it are the defaults."""
    for constraint in kernel.constraint:
        allowed = set(constraint.allowed_values.list.type)
        if allowed and constraint.name in node.attr:
            attr = node.attr[constraint.name]
            found = set(attr.list.type) or {attr.type}
            if not found <= allowed | {types_pb2.DT_INVALID}:
                return False
    return True


@functools.cache
def _kernels(op: str) -> tuple[Any, ...]:
    _registered()
    found = kernels.get_registered_kernels_for_op(op).kernel
    return tuple(kernel for kernel in found if kernel.device_type == _DEVICE)


@functools.cache
def _registered() -> None:
    """Compiles something: TensorFlow registers XLA's kernels when it first needs them."""
    with tf.device("CPU"):
        one = tf.constant(1.0)
        double = tf.function(lambda x: x + x, jit_compile=True)
        lower = double.experimental_get_compiler_ir(one)
        lower(stage="stablehlo")
