"""The table of native ops: name → function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.tensorproto import strings

Array = np.ndarray[Any, Any]
Value = Any
"""What flows along an edge: an array (strings: object arrays of bytes), a Table, a TensorList."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """How one op runs."""

    run: Callable[..., Value]
    """(node, *inputs) → the result, or a tuple of all results. Inputs are never changed."""
    rowwise: bool | Callable[..., Any]
    """True: elementwise with broadcasting, row i of the result is of row i of the inputs. A
    function: see jaxrt.converters.host.rowwise. False: nothing is known."""
    exact: bool | Callable[[Node], bool]
    """Bit for bit as TensorFlow; False: a float result may differ in the last digit.
    A function: by the node's attributes."""
    pure: bool
    """Same inputs, same results: may run once at build."""
    defaults: Mapping[str, Any]
    """Of attributes; a GraphDef may leave them out."""
    covers: Callable[[Node], bool] | None = None
    """Whether it does what a node's attributes ask for; None: whatever they ask for."""

    def same(self, node: Node) -> bool:
        """Whether this node's results are TensorFlow's bit for bit."""
        return self.exact(node) if callable(self.exact) else self.exact


OPS: dict[str, Rule] = {}


def op(
    *names: str,
    rowwise: bool | Callable[..., Any] = False,
    exact: bool | Callable[[Node], bool] = True,
    pure: bool = True,
    covers: Callable[[Node], bool] | None = None,
    **defaults: Any,
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Register a function for the ops `names`; `defaults` are those of their attributes."""

    def register(run: Callable[..., Value]) -> Callable[..., Value]:
        for name in names:
            if name in OPS:
                raise ValueError(f"op {name!r} already has a rule, {OPS[name].run.__qualname__}")
            OPS[name] = Rule(run, rowwise, exact, pure, defaults, covers)
        return run

    return register


def string_array(values: Any, shape: tuple[int, ...]) -> Array:
    """A flat list of bytes → object[shape]."""
    return strings(values).reshape(shape)


def map_strings(function: Callable[[bytes], Any], array: Array) -> Array:
    """object[...] of bytes → object[...], the function applied to each."""
    return string_array([function(value) for value in array.ravel().tolist()], array.shape)


def whole(node: Node) -> bool:
    """Of sums and the like: exact unless they are of floats, which numpy adds in another order."""
    return node.attrs.get("T", node.attrs.get("dtype")) not in _FLOATS


_FLOATS = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
