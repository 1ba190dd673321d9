"""Re-emits a StableHLO module op by op with `jax.lax`, so that a jaxpr comes out."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxrt.converters.lift import module as hlo
from jaxrt.errors import ConversionError, UnsupportedOps
from jaxrt.program import Program

Value = Any
"""An Array, a tuple of Values, or None for a token."""
Rule = Callable[..., Value | Sequence[Value]]
Check = Callable[[hlo.Operation], str | None]

LARGE = 1024
"""Constants of more bytes than this become weights: shared by all buckets, open to rewriting."""

IGNORED_ATTRS = frozenset(
    {
        "mhlo.frontend_attributes",
        "mhlo.sharding",
        "mhlo.layout_mode",
        "result_layout",
        "xla_shape",
        "result_accuracy",
        "sdy.sharding",
        "sdy.sharding_per_value",
    }
)
"""Hints that do not change a value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A rule with what it understands; anything else on the op is an error."""

    rule: Rule
    attrs: frozenset[str]
    wants_scope: bool
    check: Check | None


RULES: dict[str, Entry] = {}


def rule(
    name: str, *attrs: str, scope: bool = False, check: Check | None = None
) -> Callable[[Rule], Rule]:
    """Registers the rule of one op: `rule(op, *operands)`, or `rule(op, scope, *operands)`.

    `op` is the Operation; the rule returns one value, or a list of them for several results.
    `check` says what of an op is out of the rule's reach, None where nothing is: a rule that
    depends on the value of an attribute refuses before anything is traced.
    Raises ValueError when the op has a rule already.
    """

    def register(function: Rule) -> Rule:
        if name in RULES:
            raise ValueError(f"{name} already has a rule, {RULES[name].rule.__name__}")
        RULES[name] = Entry(function, frozenset(attrs), scope, check)
        return function

    return register


Rewrite = Callable[[hlo.Module], hlo.Module]
REWRITES: list[Rewrite] = []
"""Run on every module before it is evaluated, in the order of registration."""


def rewrite(function: Rewrite) -> Rewrite:
    """Registers a rewrite: what takes more of a module than one op to see."""
    REWRITES.append(function)
    return function


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """The values a region can see, and the functions of the module."""

    functions: Mapping[str, hlo.Block]
    values: Mapping[int, Value]
    constants: Mapping[int, Value]
    """Result number of a large constant → the argument that carries it."""

    def run(self, block: hlo.Block, arguments: Sequence[Value]) -> list[Value]:
        """Evaluates a block on arguments, seeing everything this scope sees."""
        env = dict(self.values)
        env.update(zip(block.arguments, arguments, strict=True))
        inner = Scope(self.functions, env, self.constants)
        for op in block.operations:
            env.update(zip(op.results, _apply(op, inner), strict=True))
        return [env[number] for number in block.returns]

    def call(self, name: str, arguments: Sequence[Value]) -> list[Value]:
        """Calls a function of the module, which sees no outer values."""
        return Scope(self.functions, {}, self.constants).run(self.functions[name], arguments)


def _apply(op: hlo.Operation, scope: Scope) -> Sequence[Value]:
    if op.results and op.results[0] in scope.constants:
        return [scope.constants[op.results[0]]]
    entry = RULES[op.name]
    operands = [scope.values[number] for number in op.operands]
    arguments = [op, scope, *operands] if entry.wants_scope else [op, *operands]
    try:
        out = entry.rule(*arguments)
    except (TypeError, ValueError, NotImplementedError, AssertionError, KeyError) as error:
        operand_types = [jax.typeof(v) if isinstance(v, Array) else v for v in operands]
        raise ConversionError(f"{op.name}{operand_types} -> {op.types}: {error}") from error
    results = [out] if len(op.types) == 1 and not isinstance(out, list) else list(out)
    _check(op, results)
    return results


def _check(op: hlo.Operation, results: Sequence[Value]) -> None:
    """Each result must have the type the module declares: a wrong rule is loud."""
    for value, wanted in zip(results, op.types, strict=True):
        if isinstance(wanted, hlo.Aval) and (value.shape, value.dtype) != (
            wanted.shape,
            wanted.dtype,
        ):
            raise ConversionError(
                f"{op.name}: rule gave {value.dtype}{list(value.shape)}, "
                f"the module declares {wanted.dtype}{list(wanted.shape)}"
            )


def problems(module: hlo.Module) -> list[str]:
    """Every op and attribute no rule knows, each named once."""
    found: dict[str, None] = {}
    for op in module.walk():
        entry = RULES.get(op.name)
        if entry is None:
            found[f"op {op.name}"] = None
            continue
        for name in sorted(set(op.attrs) - entry.attrs - IGNORED_ATTRS):
            found[f"attribute {name} of {op.name}"] = None
        if entry.check is not None and (reason := entry.check(op)) is not None:
            found[f"op {op.name} {reason}"] = None
    return list(found)


def large_constants(module: hlo.Module) -> dict[int, tuple[str, np.ndarray[Any, Any]]]:
    """Result number → (name by content, array) of constants above LARGE that are not splats."""
    found = {}
    for op in module.walk():
        if op.name == "stablehlo.constant":
            array = op.attrs["value"]
            if array.nbytes > LARGE and not _is_splat(array):
                digest = hashlib.sha256(str((array.dtype, array.shape)).encode())
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
                found[op.results[0]] = (f"const/{digest.hexdigest()[:24]}", array)
    return found


def _is_splat(array: np.ndarray[Any, Any]) -> bool:
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, -1)
    return bool((raw == raw[:1]).all())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lifted:
    """A program, and the weights that stood in the module as constants."""

    program: Program
    constants: Mapping[str, np.ndarray[Any, Any]]


def lift(
    data: bytes | str,
    *,
    signature: str,
    inputs: Sequence[str],
    weights: Sequence[str],
    outputs: Sequence[str],
) -> Lifted:
    """A StableHLO module whose main takes (*inputs, *weights) → a Program (*weights, *inputs).

    Unused weights are dropped; large constants become weights named by their content.
    Raises UnsupportedOps with all unknown ops and attributes at once, ConversionError else.
    """
    module = hlo.read(data)
    if found := problems(module):
        raise UnsupportedOps(f"signature {signature!r}", found)
    module = functools.reduce(lambda read, rewriting: rewriting(read), REWRITES, module)
    constants = large_constants(module)
    names = list(dict.fromkeys(name for name, _ in constants.values()))
    arrays = {name: array for name, array in constants.values()}
    main = module.main
    split = len(inputs)
    if len(main.types) != split + len(weights):
        raise ConversionError(
            f"signature {signature!r}: main takes {len(main.types)} arguments, "
            f"{split} inputs and {len(weights)} weights are named"
        )

    def function(*arguments: Array) -> list[Value]:
        carried = dict(zip(names, arguments[: len(names)], strict=True))
        captured = arguments[len(names) : len(names) + len(weights)]
        given = arguments[len(names) + len(weights) :]
        scope = Scope(
            module.functions, {}, {number: carried[name] for number, (name, _) in constants.items()}
        )
        return _flat(scope.run(main, [*given, *captured]))

    avals = [
        *(hlo.Aval(arrays[n].shape, arrays[n].dtype) for n in names),
        *main.types[split:],
        *main.types[:split],
    ]
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*avals)
    program = _drop_unused(closed, signature, [*names, *weights], inputs, outputs)
    return Lifted(
        program=program, constants={n: arrays[n] for n in program.weight_names if n in arrays}
    )


def _flat(values: Sequence[Value]) -> list[Value]:
    """Tuples opened; tokens, which carry nothing, dropped."""
    flat = []
    for value in values:
        if isinstance(value, tuple):
            flat += _flat(value)
        elif value is not None:
            flat.append(value)
    return flat


def _drop_unused(
    closed: Any,
    signature: str,
    weights: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Program:
    """Keeps the weights and consts something depends on; inputs stay, used or not."""
    jaxpr = closed.jaxpr
    needed = {id(v) for v in jaxpr.outvars}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(id(v) in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(id(v) for v in eqn.invars)
    keep = [id(v) in needed for v in jaxpr.invars[: len(weights)]]
    invars = [v for v, k in zip(jaxpr.invars, keep, strict=False) if k]
    consts = [
        (v, c) for v, c in zip(jaxpr.constvars, closed.consts, strict=True) if id(v) in needed
    ]
    trimmed = jaxpr.replace(
        constvars=[v for v, _ in consts],
        invars=[*invars, *jaxpr.invars[len(weights) :]],
        eqns=kept[::-1],
        debug_info=jaxpr.debug_info._replace(arg_names=None),  # the names count the arguments
    )
    return Program(
        signature=signature,
        jaxpr=closed.replace(jaxpr=trimmed, consts=[c for _, c in consts]),
        weight_names=tuple(n for n, k in zip(weights, keep, strict=True) if k),
        input_names=tuple(inputs),
        output_names=tuple(outputs),
    )
