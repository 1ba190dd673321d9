"""Calibration data: requests to compare answers on, made up where nobody brought any."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from jaxrt.errors import UsageError
from jaxrt.passes.jaxprs import close, nested
from jaxrt.passes.rewrite import inline
from jaxrt.program import Program, Shapes
from jaxrt.specs import DTYPES, SignatureSpec, TensorSpec

Array = np.ndarray[Any, Any]

ROWS = 512
"""Rows of one signature that are looked at, at most; the search may take fewer."""

MADE_UP = 64
"""Rows that are made up where nobody brought any."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request: alias → array, strings as object arrays of bytes."""

    signature: str
    inputs: Mapping[str, Array]
    where: str
    """File and place in it, for messages."""


Read = Callable[[Mapping[str, SignatureSpec]], Sequence[Request]]
"""Reads a file of requests for a model with these signatures; raises UsageError, ModelError."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where requests come from."""

    said: str
    """For people: a file's name, `the warm-up file`."""
    read: Read = dataclasses.field(compare=False)
    sha256: str = ""
    """Of the file: part of what decides an artifact."""
    strict: bool = True
    """Requests that do not fit the model are the user's mistake; otherwise they are left out."""


def fitting(request: Request, specs: Mapping[str, SignatureSpec]) -> Request:
    """The request in the dtypes of its signature.

    Raises UsageError: where, found, wanted. Whole numbers and floats are cast to one another's
    width where no value changes.
    """
    spec = specs.get(request.signature)
    if spec is None:
        raise UsageError(
            f"{request.where}: no signature {request.signature!r}; the model has: "
            f"{', '.join(specs)}"
        )
    if set(request.inputs) != set(spec.inputs):
        raise UsageError(
            f"{request.where}: found inputs {_list(request.inputs)}, want {_list(spec.inputs)} of "
            f"signature {request.signature!r}"
        )
    inputs = {
        alias: _fit(array, spec.inputs[alias], f"{request.where}: input {alias!r}")
        for alias, array in request.inputs.items()
    }
    _check_rows(inputs, spec, request.where)
    return dataclasses.replace(request, inputs=inputs)


def _fit(array: Array, spec: TensorSpec, where: str) -> Array:
    wanted = DTYPES[spec.dtype].numpy
    shape = spec.shape
    if shape is not None and not (
        len(shape) == array.ndim
        and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    ):
        sizes = ",".join("?" if n is None else str(n) for n in shape)
        raise UsageError(f"{where}: found shape {list(array.shape)}, want [{sizes}]")
    if wanted is None:
        raise UsageError(f"{where}: {spec.dtype} values cannot be calibrated with")
    if array.dtype.kind in "SU" and wanted.kind == "O":
        texts = [t.encode() if isinstance(t, str) else bytes(t) for t in array.ravel().tolist()]
        found = np.empty(len(texts), object)
        found[:] = texts
        return found.reshape(array.shape)
    if array.dtype == wanted:
        return array
    cast = array.astype(wanted) if array.dtype.kind in "biuf" and wanted.kind in "biufV" else None
    widened = cast is not None and (
        wanted.kind in "fV" or np.array_equal(cast.astype(array.dtype), array)
    )
    if cast is None or not widened:
        raise UsageError(f"{where}: found {array.dtype}, want {spec.dtype}")
    return cast


def _check_rows(inputs: Mapping[str, Array], spec: SignatureSpec, where: str) -> None:
    counts = {a: inputs[a].shape[0] for a in inputs if is_rowful(spec.inputs[a])}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{alias!r} {count}" for alias, count in counts.items())
        raise UsageError(f"{where}: found rows {said}, want as many of each input")


def is_rowful(spec: TensorSpec) -> bool:
    """Whether its first dimension is that of the rows of a request."""
    return spec.shape is not None and spec.shape[:1] == (None,)


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, sorted(names))) or "none"


def merged(
    requests: Sequence[Request], spec: SignatureSpec, rows: int = ROWS
) -> list[dict[str, Array]]:
    """Requests of one signature, those that differ in the number of rows alone as one.

    `rows` at most, those at the head. Requests without rows stay apart.
    """
    groups: dict[str, list[Request]] = {}
    for number, request in enumerate(requests):
        rowful = [alias for alias in request.inputs if is_rowful(spec.inputs[alias])]
        parts = [
            (alias, array.shape[1:]) if alias in rowful else (alias, digest([array]))
            for alias, array in sorted(request.inputs.items())
        ]
        groups.setdefault(str(parts) if rowful else str(number), []).append(request)
    return [_joined([r.inputs for r in group], spec, rows) for group in groups.values()]


def _joined(
    inputs: Sequence[Mapping[str, Array]], spec: SignatureSpec, rows: int
) -> dict[str, Array]:
    return {
        alias: np.concatenate([i[alias] for i in inputs])[:rows]
        if is_rowful(spec.inputs[alias])
        else inputs[0][alias]
        for alias in inputs[0]
    }


def digest(arrays: Sequence[Array]) -> str:
    """SHA-256 of dtypes, shapes and values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape} ".encode())
        content = str(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
        found.update(content)
    return found.hexdigest()


def made_up(
    spec: SignatureSpec, shapes: Shapes, ids: Mapping[str, int], seed: int
) -> dict[str, Array]:
    """Inputs of a realistic scale: normal floats, ids of the rows that their tables have (`ids`),
    other whole numbers 0 or 1 (masks, segments), bytes of images.

    Raises ValueError for a dtype that arrays cannot carry.
    """
    draw = np.random.default_rng(seed)
    return {
        alias: _draw(DTYPES[tensor.dtype].numpy, shapes[alias], ids.get(alias), draw)
        for alias, tensor in spec.inputs.items()
    }


def made_up_for(program: Program, ids: Mapping[str, int]) -> dict[str, Array]:
    """As `made_up`, of exactly the shapes that a program takes."""
    draw = np.random.default_rng(0)
    return {
        name: _draw(np.dtype(aval.dtype), aval.shape, ids.get(name), draw)
        for name, aval in zip(program.input_names, program.input_avals, strict=True)
    }


def _draw(
    dtype: np.dtype[Any] | None,
    shape: tuple[int, ...],
    ids: int | None,
    draw: np.random.Generator,
) -> Array:
    if dtype is None or dtype.kind in "OcS":
        raise ValueError(f"no values of dtype {dtype} can be made up")
    if dtype.kind == "b":
        return np.asarray(draw.integers(0, 2, shape).astype(bool) if shape else False)
    if dtype.kind in "iu":
        bound = ids or (256 if dtype == np.uint8 else 2)
        return np.asarray(draw.integers(0, bound, shape), dtype)
    return np.asarray(draw.normal(size=shape), dtype)


_SAME = frozenset(
    {
        *("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "slice", "copy"),
        *("convert_element_type", "clamp", "select_n", "concatenate", "stop_gradient", "max"),
        *("min", "add", "sub", "rem", "dynamic_slice", "rev", "gather"),
    }
)
"""What ids may go through on the way to their table."""


def vocabularies(program: Program) -> dict[str, int]:
    """Input alias → rows of the smallest table that it looks up, of those that look up any."""
    found: dict[str, int] = {}
    closed = inline(program.jaxpr)
    count = len(program.weight_names)
    inputs = dict(zip(closed.jaxpr.invars[count:], program.input_names, strict=True))
    owners = {variable: frozenset({alias}) for variable, alias in inputs.items()}
    for alias, rows in _lookups(closed.jaxpr, owners):
        found[alias] = min(rows, found.get(alias, rows))
    return found


def _lookups(jaxpr: Any, owners: dict[Any, frozenset[str]]) -> Iterator[tuple[str, int]]:
    for eqn in jaxpr.eqns:
        sources = [
            frozenset() if isinstance(a, Literal) else owners.get(a, frozenset())
            for a in eqn.invars
        ]
        name = eqn.primitive.name
        if name == "gather" and sources[1] and not sources[0]:
            axes = eqn.params["dimension_numbers"].start_index_map
            rows = min((eqn.invars[0].aval.shape[axis] for axis in axes), default=0)
            yield from ((alias, rows) for alias in sources[1] if rows > 1)
        if name in _SAME and eqn.outvars[0].aval.dtype.kind in "iu":
            owners[eqn.outvars[0]] = frozenset().union(*sources)
        for body in nested(eqn):
            inner = close(body).jaxpr
            if len(inner.invars) == len(eqn.invars):
                yield from _lookups(inner, dict(zip(inner.invars, sources, strict=True)))
