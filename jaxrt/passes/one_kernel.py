"""A small program as one function of machine code, run by the thread that calls it.

XLA:CPU runs a program as a list of kernels and hands their halves to other threads. Waking those,
and being woken at the end, costs 50 to 90 µs on a virtual machine: several times what a model of
one row takes. XLA has a way to compile a called function as a single kernel, which it takes for
the bodies of short loops; an attribute asks for it. Products of matrices are naive loops there, so
that it is for products with a vector.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes.jaxprs import ClosedJaxpr, close, nested, variables
from jaxrt.passes.rewrite import CALLS
from jaxrt.program import Program

ATTRIBUTE = "xla_cpu_small_call"
"""Plain text in a serialized program."""

LARGEST = 2e7
"""FLOPs of a program's products from which a second thread is worth being woken."""

NAIVE = 1e5
"""FLOPs of a product of two matrices that naive loops may do."""

_PLAIN = frozenset((
    "abs", "add", "and", "argmax", "argmin", "bitcast_convert_type", "broadcast_in_dim",
    "ceil", "clamp", "concatenate", "convert_element_type", "copy", "copy_p", "cos", "div",
    "dot_general", "dynamic_slice", "dynamic_update_slice", "eq", "erf", "erf_inv", "erfc",
    "exp", "exp2", "expand_dims", "expm1", "floor", "gather", "ge", "gt", "integer_pow",
    "iota", "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "name",
    "ne", "neg", "not", "optimization_barrier", "or", "pad", "pow", "reduce_and",
    "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "rem", "reshape",
    "rev", "round", "rsqrt", "scan", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "slice", "split", "sqrt", "square", "squeeze",
    "stop_gradient", "sub", "tanh", "transpose", "xor",
))  # fmt: skip
"""Primitives that need no routine of XLA's runtime, which such a function does not find.

No `while`: it is timed on random numbers, with which a loop may not end.
"""


def fits(program: Program) -> bool:
    """Whether it may be compiled so, and might gain; loops count once."""
    made = {v for eqn in program.jaxpr.jaxpr.eqns for v in eqn.outvars}
    results = program.jaxpr.jaxpr.outvars
    if not made.issuperset(variables(results)) or len(set(map(id, results))) < len(results):
        return False
    flops = 0.0
    for eqn in _equations(program.jaxpr):
        if eqn.primitive.name not in _PLAIN:
            return False
        if eqn.primitive.name == "dot_general":
            mine, is_vector = _product(eqn)
            if mine > NAIVE and not is_vector:
                return False
            flops += mine
    return 0 < flops <= LARGEST


def function(jaxpr: ClosedJaxpr, *, whole: bool) -> Callable[..., Any]:
    """What jax.jit takes; `whole`: as one kernel."""
    plain: Callable[..., Any] = jaxpr_as_fun(jaxpr)
    if not whole:
        return plain
    needed = {v for eqn in jaxpr.jaxpr.eqns for v in variables(eqn.invars)}
    used = [v in needed for v in jaxpr.jaxpr.invars]
    called = jax.jit(lambda *some: plain(*_filled(some, used, jaxpr)))

    def in_one(*arguments: Any) -> Any:
        # An argument that nothing needs makes XLA abort.
        some = [a for a, is_used in zip(arguments, used, strict=True) if is_used]
        # Not inlined, or there would be no call to compile.
        with set_xla_metadata(inlineable="false", **{ATTRIBUTE: "true"}):
            return called(*some)

    return in_one


def options(*, whole: bool) -> dict[str, str]:
    """Of the compiler: in one kernel there is no library's product."""
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if whole else {}


def _filled(some: Sequence[Any], used: Sequence[bool], jaxpr: ClosedJaxpr) -> list[Any]:
    """All arguments, with zeros for those that nothing needs."""
    given = iter(some)
    return [
        next(given) if is_used else np.zeros(aval.shape, aval.dtype)
        for is_used, aval in zip(used, jaxpr.in_avals, strict=True)
    ]


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Those that compute; of the calls, what is called."""
    for eqn in close(jaxpr).jaxpr.eqns:
        if eqn.primitive.name not in CALLS:
            yield eqn
        for body in nested(eqn):
            yield from _equations(body)


def _product(eqn: Any) -> tuple[float, bool]:
    """FLOPs, and whether one side has a single row for each of the batch."""
    (contracted, other), (batch, _) = eqn.params["dimension_numbers"]
    x, y = (v.aval.shape for v in eqn.invars)
    terms = math.prod(x[i] for i in contracted)
    groups = math.prod(x[i] for i in batch)
    rows = math.prod(x) // max(1, terms * groups)
    columns = math.prod(y) // max(1, math.prod(y[i] for i in other) * groups)
    return 2.0 * groups * rows * columns * terms, 1 in (rows, columns)
