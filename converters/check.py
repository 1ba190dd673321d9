"""How far answers are from TensorFlow's: random inputs, and the error of each output."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxrt.compression.budget import spell
from jaxrt.compression.errors import relative
from jaxrt.converters.margins import Recorded
from jaxrt.converters.opnames import DRAWS
from jaxrt.errors import ConversionError
from jaxrt.passes.precision import Precision
from jaxrt.program import Shapes
from jaxrt.specs import DTYPES, SignatureSpec

TOLERANCE = 5e-4
"""Of an output's largest finite magnitude, for float32 and narrower; see `tolerance`."""

Tensor = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """How far answers may be from TensorFlow's."""

    relative: float = TOLERANCE
    """Of an output's largest finite magnitude; see `tolerance`."""
    rounded: bool = False
    """Products are: whole numbers and strings may be any, since rounded numbers chose them."""
    recorded: Mapping[str, Recorded] = dataclasses.field(default_factory=dict)
    """By output, what compression does to it."""

    @classmethod
    def at(cls, precision: Precision, relative: float | None = None) -> "Allowed":
        """For programs at a precision; `relative`: another than is usual at it."""
        if relative is None:
            relative = _RELATIVE[precision]
        return cls(relative=relative, rounded=precision is not Precision.F32)

    def compressed(self, recorded: Mapping[str, Recorded]) -> "Allowed":
        """For programs whose weights are in few bits: an output may also be as far off as was
        recorded of it, times a margin."""
        return dataclasses.replace(self, recorded=recorded)


_RELATIVE = {Precision.F32: TOLERANCE, Precision.TF32: 5e-3, Precision.BF16: 4e-2}
"""Operands are rounded at 2^-11 (TF32) and 2^-8 of them, and the errors of layers add up."""

IDS = (10, 2)
"""Bounds of random whole numbers, the next one where TensorFlow refuses those of the first.

It refuses an id that its table does not have, and the smallest tables (token types) have two.
"""


def sample(
    spec: SignatureSpec, shapes: Shapes, rng: np.random.Generator, *, ids: int = IDS[0]
) -> dict[str, Tensor]:
    """Inputs of a realistic scale: normal floats, whole numbers below `ids`, any byte.

    Raises ValueError for a dtype that arrays cannot carry.
    """
    return {
        alias: _draw(DTYPES[tensor.dtype].numpy, shapes[alias], rng, ids)
        for alias, tensor in spec.inputs.items()
    }


def sample_and_run(
    spec: SignatureSpec,
    shapes: Shapes,
    seed: int,
    tensorflow: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    *,
    fixed: Mapping[str, bool] = MappingProxyType({}),
) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
    """Random inputs that TensorFlow takes, and its answer; raises ConversionError if none are.

    `fixed`: scalar inputs that are not random.
    """
    for bound in IDS:
        inputs = sample(spec, shapes, np.random.default_rng(seed), ids=bound)
        inputs |= {alias: np.asarray(value) for alias, value in fixed.items()}
        try:
            return inputs, tensorflow(inputs)
        except ConversionError:
            if bound == IDS[-1]:
                raise
    raise AssertionError("unreachable: the last bound returns or raises")


def _draw(
    dtype: np.dtype[Any] | None, shape: tuple[int, ...], rng: np.random.Generator, ids: int
) -> Tensor:
    if dtype is None or dtype.kind == "O":
        raise ValueError(f"no random values of dtype {dtype}")
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), dtype)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, 256 if dtype == np.uint8 else ids, shape), dtype)
    if dtype.kind == "c":
        return np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), dtype)
    return np.asarray(rng.normal(size=shape), dtype)


EXACT = Allowed()
"""As products in f32 have it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OutputError:
    """One output against TensorFlow's."""

    output: str
    dtype: str
    largest: float
    """Largest finite magnitude TensorFlow gave."""
    max_error: float
    """Largest absolute difference; inf where only one of the two is finite."""
    rms_error: float
    differing: int
    """Values that are not equal bit for bit."""
    values: int
    tolerance: float
    """Allowed absolute difference."""
    relative_rms: float = 0.0
    """Root mean square of the differences, of that of the wanted values: 0.01 is 1 %."""
    allowed_rms: float | None = None
    """Of the same, where weights are in few bits; None: they are not, or it has none."""
    problem: str | None = None
    """Set when the shapes or dtypes differ already, or more strings than may."""

    @property
    def ok(self) -> bool:
        if self.problem is not None:
            return False
        if self.max_error <= self.tolerance:
            return True
        return self.allowed_rms is not None and self.relative_rms <= self.allowed_rms

    @property
    def verdict(self) -> str:
        """For people."""
        if self.problem is not None:
            return self.problem
        said = "ok" if self.ok else "past the tolerance"
        if self.allowed_rms and self.max_error > self.tolerance:
            allowed, found = spell(self.allowed_rms), spell(self.relative_rms)
            return f"{said}; compressed: allowed {allowed} RMS, found {found}"
        if self.ok and self.differing and math.isinf(self.tolerance):
            return f"{self.differing} of {self.values} differ: rounded numbers chose them"
        return said

    @property
    def recorded(self) -> Recorded:
        """As what compression did to it."""
        is_exact = not self.dtype.startswith(("float", "bfloat", "complex"))
        return Recorded(
            rms=0.0 if is_exact else self.relative_rms,
            max_error=0.0 if is_exact else self.max_error,
            agreement=1 - self.differing / max(self.values, 1) if is_exact else None,
            judged=self.values if is_exact else 0,
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"ok": self.ok, "verdict": self.verdict}


def tolerance(dtype: np.dtype[Any], largest: float, allowed: Allowed) -> float:
    """Allowed absolute difference of an output: exact for integers, booleans and strings.

    Half precision rounds at 2^-8 (bfloat16) or 2^-11 (float16): four such steps are allowed.
    float64 is held to 1e-6.
    """
    if dtype.kind in "biuO":
        return math.inf if allowed.rounded else 0.0
    relative = allowed.relative
    scale = largest or 1e-6
    if dtype in (np.float64, np.complex128):
        return min(relative, 1e-6) * scale
    if dtype.itemsize == 2:
        return max(relative, 2.0**-6 if dtype.kind == "V" else 2.0**-9) * scale
    return relative * scale


def compare(
    got: Mapping[str, Tensor], want: Mapping[str, Tensor], allowed: Allowed = EXACT
) -> list[OutputError]:
    """One entry for each output of TensorFlow's answer, in its order."""
    return [_compare_one(name, got[name], value, allowed) for name, value in want.items()]


def failed(want: Mapping[str, Tensor], why: str) -> list[OutputError]:
    """One entry for each output of TensorFlow's answer, where there is none to hold beside it."""
    return [
        dataclasses.replace(_compare_one(name, value, value, EXACT), problem=why)
        for name, value in want.items()
    ]


def incomparable(ops: Collection[str]) -> str | None:
    """Why no two runs of a signature with these TensorFlow ops need to agree; None: they must."""
    drawing = sorted(op for op in ops if DRAWS.match(op))
    if not drawing:
        return None
    return f"it draws random numbers: {', '.join(drawing)}; no two runs are equal bit for bit"


def _compare_one(name: str, got: Tensor, want: Tensor, allowed: Allowed) -> OutputError:
    problem = None
    if got.shape != want.shape or got.dtype != want.dtype:
        problem = (
            f"{got.dtype}{list(got.shape)} where TensorFlow gives {want.dtype}{list(want.shape)}"
        )
        got = want
    if want.dtype.kind == "O":
        return _compare_strings(name, got, want, problem, allowed)
    recorded = allowed.recorded.get(name)
    same = got == want
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        g, w = got.astype(wide).reshape(-1), want.astype(wide).reshape(-1)
        if want.dtype.kind in "fcV":
            same = same | ((got != got) & (want != want))
        difference = np.where(same.reshape(-1), 0.0, np.abs(g - w))
    difference = np.where(np.isnan(difference), np.inf, difference)
    finite = np.abs(w[np.isfinite(w)])
    largest, differing = float(finite.max(initial=0.0)), int((~same).sum())
    found = OutputError(
        output=name,
        dtype=str(want.dtype),
        largest=largest,
        max_error=float(difference.max(initial=0.0)),
        rms_error=float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0,
        differing=differing,
        values=int(want.size),
        tolerance=tolerance(want.dtype, largest, allowed),
        relative_rms=relative(float(np.sum(difference**2)), float(np.sum(finite**2))),
        problem=problem,
    )
    if recorded is None:
        return found
    if want.dtype.kind in "biu":
        return _counted(found, recorded)
    return dataclasses.replace(
        found,
        tolerance=max(found.tolerance, recorded.allowed_max),
        allowed_rms=recorded.allowed_rms,
    )


def _counted(found: OutputError, recorded: Recorded) -> OutputError:
    """Of whole numbers and strings so many may differ."""
    most = recorded.allowed_differing(found.values)
    problem = found.problem
    if found.differing > most:
        problem = problem or f"{found.differing} of {found.values} differ, {most} may: compressed"
    return dataclasses.replace(found, tolerance=math.inf, problem=problem)


def _compare_strings(
    name: str, got: Tensor, want: Tensor, problem: str | None, allowed: Allowed
) -> OutputError:
    limit, recorded = tolerance(want.dtype, 0.0, allowed), allowed.recorded.get(name)
    pairs = list(zip(got.ravel().tolist(), want.ravel().tolist(), strict=True))
    differing = [(g, w) for g, w in pairs if g != w]
    if differing and not limit and recorded is None:
        found, wanted = differing[0]
        problem = problem or f"{_short(found)} where TensorFlow gives {_short(wanted)}"
    error = OutputError(
        output=name,
        dtype="string",
        largest=0.0,
        max_error=0.0,
        rms_error=0.0,
        differing=len(differing),
        values=len(pairs),
        tolerance=limit,
        problem=problem,
    )
    return error if recorded is None else _counted(error, recorded)


def _short(text: bytes) -> str:
    return repr(text if len(text) <= 40 else text[:40] + b"...")
