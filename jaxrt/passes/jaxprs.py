"""Jaxprs of every supported jax: one class since 0.11, an open and a closed one before."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr as ClosedJaxpr
from jax.extend.core import Jaxpr, Literal

RANDOM = frozenset(
    {
        "rng_uniform",
        "rng_bit_generator",
        "random_bits",
        "random_seed",
        "random_split",
        "random_fold_in",
        "random_wrap",
        "random_unwrap",
        "random_gamma",
        "random_clone",
        "threefry2x32",
    }
)
"""Primitives that draw: never moved off the request path, and no two runs need agree."""


def is_jaxpr(value: Any) -> bool:
    return isinstance(value, (Jaxpr, ClosedJaxpr))


def close(value: Any, consts: Sequence[Any] = ()) -> ClosedJaxpr:
    """A jaxpr with its constants: its own, or `consts` where it was open."""
    if isinstance(value, ClosedJaxpr) and getattr(value, "consts", None):
        return value
    return ClosedJaxpr(getattr(value, "jaxpr", value), list(consts))


def nested(eqn: Any) -> Iterator[ClosedJaxpr]:
    """The jaxprs in an equation's parameters, closed, in the order of the parameters' names."""
    for name in sorted(eqn.params):
        value = eqn.params[name]
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if is_jaxpr(item):
                yield close(item)


def variables(atoms: Sequence[Any]) -> list[Any]:
    """`atoms` without the literals."""
    return [v for v in atoms if not isinstance(v, Literal)]


def bind(primitive: Any, operands: Sequence[Any], params: Mapping[str, Any]) -> list[Any]:
    """The results of a primitive with the parameters of an equation."""
    found = primitive.bind(*operands, **primitive.get_bind_params(dict(params)))
    return list(found) if primitive.multiple_results else [found]


def literal(atom: Any) -> np.ndarray[Any, Any]:
    """The elements of a Literal, in its own dtype."""
    return np.asarray(atom.val, atom.aval.dtype)
