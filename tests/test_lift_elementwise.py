"""Every elementwise op means lifted what XLA takes it to mean, in every dtype it exists for."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import lifting
import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, Any]

NAMES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
    "i1": np.bool_,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "ui8": np.uint8,
    "ui16": np.uint16,
    "ui32": np.uint32,
    "ui64": np.uint64,
    "complex<f32>": np.complex64,
    "complex<f64>": np.complex128,
}
FLOATS = ("f16", "bf16", "f32", "f64")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("ui8", "ui16", "ui32", "ui64")
INTEGERS = SIGNED + UNSIGNED
COMPLEX = ("complex<f32>", "complex<f64>")
BOOL = ("i1",)

RTOL = {"f16": 2e-3, "bf16": 2e-2, "f32": 2e-6, "f64": 1e-13, COMPLEX[0]: 1e-5, COMPLEX[1]: 1e-12}


def operand(kind: str, seed: int = 0) -> Array:
    """[16] of a dtype, its special values first."""
    dtype = np.dtype(NAMES[kind])
    random = np.random.default_rng(seed)
    if kind == "i1":
        return np.array([n % (2 + seed) == 0 for n in range(16)])
    if kind in INTEGERS:
        info = np.iinfo(dtype)
        extremes = [info.min, info.max, 0, 1, 3, 7, info.max // 3, info.min // 3 + 1]
        more = random.integers(max(info.min, -9), 9, 8)
        return np.concatenate([np.roll(np.array(extremes, dtype), seed), more.astype(dtype)])
    if kind in COMPLEX:
        return (random.normal(size=16) + 1j * random.normal(size=16)).astype(dtype)
    values = [np.nan, -np.inf, np.inf, -0.0, 0.0, 0.5, -1.5, 2.5]
    floats = random.normal(size=8) * 2
    return np.roll(np.concatenate([np.array(values), floats]), 3 * seed).astype(dtype)


Case = tuple[str, tuple[str, ...], str, str]
"""Op, dtypes of its operands, dtype of its result, attributes."""


def module_of(cases: list[Case]) -> tuple[str, list[Array]]:
    """One module with a result per case, and its arguments: compiling costs more than running."""
    needed = dict.fromkeys((kind, n) for _, kinds, _, _ in cases for n, kind in enumerate(kinds))
    names = {key: f"%x{i}" for i, key in enumerate(needed)}
    lines = []
    for i, (op, kinds, result, attributes) in enumerate(cases):
        given = ", ".join(names[kind, n] for n, kind in enumerate(kinds))
        types = ", ".join(f"tensor<16x{kind}>" for kind in kinds)
        lines.append(f'%r{i} = "{op}"({given}) {attributes} : ({types}) -> tensor<16x{result}>')
    out = ", ".join(f"tensor<16x{result}>" for _, _, result, _ in cases)
    results = ", ".join(f"%r{i}" for i in range(len(cases)))
    parameters = ", ".join(f"{name}: tensor<16x{kind}>" for (kind, _), name in names.items())
    body = "\n".join([*lines, f"return {results} : {out}"])
    return lifting.main(body, f"({parameters}) -> ({out})"), [operand(*key) for key in needed]


def check(*cases: Case) -> None:
    module, arguments = module_of(list(cases))
    found, wanted = lifting.lifted(module, *arguments), lifting.by_xla(module, *arguments)
    for (op, _, result, attributes), x, y in zip(cases, found, wanted, strict=True):
        try:
            lifting.assert_equal([x], [y], rtol=RTOL.get(result, 0.0))
        except AssertionError as error:
            raise AssertionError(f"{op} {attributes}: {error}") from None


UNARY = {
    "abs": FLOATS + SIGNED,
    "cbrt": FLOATS,
    "ceil": FLOATS,
    "cosine": FLOATS + COMPLEX,
    "count_leading_zeros": INTEGERS,
    "exponential": FLOATS + COMPLEX,
    "exponential_minus_one": FLOATS + COMPLEX,
    "floor": FLOATS,
    "log": FLOATS + COMPLEX,
    "log_plus_one": FLOATS + COMPLEX,
    "logistic": FLOATS + COMPLEX,
    "negate": FLOATS + INTEGERS + COMPLEX,
    "not": BOOL + INTEGERS,
    "popcnt": INTEGERS,
    "round_nearest_afz": FLOATS,
    "round_nearest_even": FLOATS,
    "rsqrt": FLOATS + COMPLEX,
    "sign": FLOATS + SIGNED + COMPLEX,
    "sine": FLOATS + COMPLEX,
    "sqrt": FLOATS + COMPLEX,
    "tan": FLOATS + COMPLEX,
    "tanh": FLOATS + COMPLEX,
}

BINARY = {
    "add": FLOATS + INTEGERS + COMPLEX + BOOL,
    "and": BOOL + INTEGERS,
    "atan2": FLOATS + COMPLEX,
    "divide": FLOATS + COMPLEX,
    "maximum": FLOATS + INTEGERS + BOOL,
    "minimum": FLOATS + INTEGERS + BOOL,
    "multiply": FLOATS + INTEGERS + COMPLEX + BOOL,
    "or": BOOL + INTEGERS,
    "power": FLOATS + COMPLEX,
    "remainder": FLOATS,
    "shift_left": INTEGERS,
    "shift_right_arithmetic": INTEGERS,
    "shift_right_logical": INTEGERS,
    "subtract": FLOATS + INTEGERS + COMPLEX,
    "xor": BOOL + INTEGERS,
}


@pytest.mark.parametrize("kind", FLOATS + INTEGERS + COMPLEX + BOOL)
def test_unary_ops_give_what_xla_gives(kind: str) -> None:
    check(*((f"stablehlo.{op}", (kind,), kind, "") for op, kinds in UNARY.items() if kind in kinds))


@pytest.mark.parametrize("kind", FLOATS + INTEGERS + COMPLEX + BOOL)
def test_binary_ops_give_what_xla_gives(kind: str) -> None:
    ops = [f"stablehlo.{op}" for op, kinds in BINARY.items() if kind in kinds]
    check(*((op, (kind, kind), kind, "") for op in ops))


@pytest.mark.parametrize("kind", SIGNED + UNSIGNED)
@pytest.mark.parametrize("op", ["divide", "remainder"])
def test_integer_division_truncates_and_the_remainder_has_the_dividends_sign(
    op: str, kind: str
) -> None:
    low = 0 if kind in UNSIGNED else -7
    x, y = np.meshgrid(np.arange(low, 8), [v for v in (-3, -2, 2, 3) if v > low or low < 0])
    positive = np.abs(y) if kind in UNSIGNED else y
    dtype = NAMES[kind]
    a, b = x.ravel().astype(dtype), positive.ravel().astype(dtype)
    t = f"tensor<{a.size}x{kind}>"
    module = lifting.main(
        f"%r = stablehlo.{op} %a, %b : {t}\n return %r : {t}", f"(%a: {t}, %b: {t}) -> {t}"
    )
    quotient = np.trunc(x.ravel() / positive.ravel()).astype(dtype)
    wanted = quotient if op == "divide" else (a - quotient * b).astype(dtype)
    lifting.assert_equal(lifting.lifted(module, a, b), [wanted])


@pytest.mark.parametrize("kind", SIGNED + UNSIGNED)
def test_integer_power_wraps_and_a_negative_exponent_truncates(kind: str) -> None:
    dtype = NAMES[kind]
    bases = np.array([2, 3, 1, 0, 0, 7, 5, 1], dtype)
    exponents = np.array([5, 0, 9, 0, 3, 63, 2, 1], dtype)
    if kind in SIGNED:
        bases = np.concatenate([bases, np.array([-1, -1, 2, -2, 1, -3, -1, 5], dtype)])
        exponents = np.concatenate([exponents, np.array([-1, -2, -1, -1, -5, 3, 7, -4], dtype)])
    t = f"tensor<{bases.size}x{kind}>"
    module = lifting.main(
        f"%r = stablehlo.power %a, %b : {t}\n return %r : {t}", f"(%a: {t}, %b: {t}) -> {t}"
    )
    bits = np.iinfo(dtype).bits
    wanted = []
    for base, exponent in zip(bases.tolist(), exponents.tolist(), strict=True):
        if exponent >= 0:
            wrapped = base**exponent % 2**bits
            signed = kind in SIGNED and wrapped >= 2 ** (bits - 1)
            wanted.append(wrapped - 2**bits if signed else wrapped)
        else:
            wanted.append(base ** (exponent % 2) if base in (1, -1) else 0)
    lifting.assert_equal(lifting.lifted(module, bases, exponents), [np.array(wanted, dtype)])


def test_the_absolute_value_of_a_complex_number_is_real() -> None:
    check(
        ("stablehlo.abs", ("complex<f32>",), "f32", ""),
        ("stablehlo.abs", ("complex<f64>",), "f64", ""),
    )


def test_is_finite_refuses_infinities_and_nan() -> None:
    check(*(("stablehlo.is_finite", (kind,), "i1", "") for kind in FLOATS))


def test_complex_numbers_are_made_and_taken_apart() -> None:
    for part, whole in (("f32", "complex<f32>"), ("f64", "complex<f64>")):
        check(
            ("stablehlo.complex", (part, part), whole, ""),
            ("stablehlo.real", (whole,), part, ""),
            ("stablehlo.imag", (whole,), part, ""),
        )


def test_a_real_number_is_its_own_real_part_and_has_no_imaginary_one() -> None:
    x = operand("f32")[5:]
    t = "tensor<11xf32>"
    body = f"%r = stablehlo.real %a : {t}\n %i = stablehlo.imag %a : {t}\n return %r, %i : {t}, {t}"
    module = lifting.main(body, f"(%a: {t}) -> ({t}, {t})")
    lifting.assert_equal(lifting.lifted(module, x), [x, np.zeros_like(x)])


DIRECTIONS = ("EQ", "NE", "GE", "GT", "LE", "LT")


def direction(name: str) -> str:
    return f"{{comparison_direction = #stablehlo<comparison_direction {name}>}}"


@pytest.mark.parametrize("kind", FLOATS + INTEGERS + BOOL)
def test_comparisons_go_by_value(kind: str) -> None:
    check(*(("stablehlo.compare", (kind, kind), "i1", direction(name)) for name in DIRECTIONS))


def test_complex_numbers_are_equal_or_not() -> None:
    pair = ("complex<f32>", "complex<f32>")
    check(*(("stablehlo.compare", pair, "i1", direction(name)) for name in ("EQ", "NE")))


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("kind", FLOATS)
def test_the_total_order_tells_zeros_apart_and_ranks_nan(name: str, kind: str) -> None:
    special = np.array([-np.nan, -np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan], NAMES[kind])
    ranks = np.arange(8)
    pairs = list(itertools.product(ranks, ranks))
    a, b = (np.array([special[p[i]] for p in pairs]) for i in (0, 1))
    t = f"tensor<64x{kind}>"
    module = lifting.main(
        f"%r = stablehlo.compare {name}, %a, %b, TOTALORDER : ({t}, {t}) -> tensor<64xi1>\n"
        "return %r : tensor<64xi1>",
        f"(%a: {t}, %b: {t}) -> tensor<64xi1>",
    )
    compare = {"EQ": "__eq__", "NE": "__ne__", "GE": "__ge__", "GT": "__gt__", "LE": "__le__"}
    method = compare.get(name, "__lt__")
    wanted = np.array([getattr(int(x), method)(int(y)) for x, y in pairs])
    lifting.assert_equal(lifting.lifted(module, a, b), [wanted])


@pytest.mark.parametrize("kind", FLOATS + INTEGERS + COMPLEX + BOOL)
@pytest.mark.parametrize("which", ["tensor<16xi1>", "tensor<i1>"])
def test_select_takes_one_predicate_or_one_for_each_element(which: str, kind: str) -> None:
    t = f"tensor<16x{kind}>"
    module = lifting.main(
        f"%r = stablehlo.select %p, %a, %b : {which}, {t}\n return %r : {t}",
        f"(%p: {which}, %a: {t}, %b: {t}) -> {t}",
    )
    predicate = operand("i1") if "16" in which else np.array(False)
    a, b = operand(kind, 0), operand(kind, 1)
    lifting.assert_equal(lifting.lifted(module, predicate, a, b), [np.where(predicate, a, b)])


@pytest.mark.parametrize("kind", FLOATS + INTEGERS)
@pytest.mark.parametrize("bound", ["16x", ""])
def test_clamp_takes_scalar_bounds_or_one_for_each_element(bound: str, kind: str) -> None:
    t, b = f"tensor<16x{kind}>", f"tensor<{bound}{kind}>"
    module = lifting.main(
        f'%r = "stablehlo.clamp"(%l, %x, %h) : ({b}, {t}, {b}) -> {t}\n return %r : {t}',
        f"(%l: {b}, %x: {t}, %h: {b}) -> {t}",
    )
    shape = (16,) if bound else ()
    low, high = (np.full(shape, v, NAMES[kind]) for v in (1, 4))
    arguments = (low, operand(kind), high)
    lifting.assert_equal(lifting.lifted(module, *arguments), lifting.by_xla(module, *arguments))


CASTS = (*FLOATS, *INTEGERS, *BOOL, *COMPLEX)


@pytest.mark.parametrize("source", CASTS)
def test_conversions_are_xlas(source: str) -> None:
    check(*(("stablehlo.convert", (source,), target, "") for target in CASTS))


def test_anything_but_zero_is_true() -> None:
    x = np.array([0, 1j, 1, np.nan, 0.5], np.complex64)
    a, b = "tensor<5xcomplex<f32>>", "tensor<5xi1>"
    module = lifting.main(
        f"%r = stablehlo.convert %a : ({a}) -> {b}\n return %r : {b}", f"(%a: {a}) -> {b}"
    )
    lifting.assert_equal(lifting.lifted(module, x), [x != 0])


@pytest.mark.parametrize(
    "dtype",
    [jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float8_e4m3b11fnuz, jnp.int4, jnp.uint4],
)
def test_narrow_types_convert_there_and_back(dtype: Any) -> None:
    x = np.array([0, 1, 2, 3, 5, 7], np.float32)
    module = lifting.stablehlo_of(lambda v: v.astype(dtype).astype(np.float32), x)
    lifting.assert_equal(lifting.lifted(module, x), [x.astype(dtype).astype(np.float32)])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.float32, np.int32),
        (np.int64, np.float64),
        (np.uint16, ml_dtypes.bfloat16),
        (np.int32, np.uint8),
        (np.float64, np.uint16),
        (np.uint8, np.int32),
        (np.uint8, np.float64),
    ],
)
def test_bits_are_kept_between_dtypes_of_any_width(source: Any, target: Any) -> None:
    have, want = np.dtype(source).itemsize, np.dtype(target).itemsize
    shape = (2, 3) if have >= want else (2, 3, want // have)
    raw = np.random.default_rng(0).integers(0, 60, (*shape, have), np.uint8)
    x = raw.view(source).reshape(shape)
    result = (2, 3, have // want) if have > want else (2, 3)
    names = {np.dtype(v): k for k, v in NAMES.items()}

    def tensor(size: tuple[int, ...], dtype: Any) -> str:
        return f"tensor<{'x'.join(map(str, size))}x{names[np.dtype(dtype)]}>"

    a, b = tensor(shape, source), tensor(result, target)
    module = lifting.main(
        f"%r = stablehlo.bitcast_convert %a : ({a}) -> {b}\n return %r : {b}", f"(%a: {a}) -> {b}"
    )
    wanted = x.view(target).reshape(result)
    lifting.assert_equal(lifting.lifted(module, x), [wanted])


@pytest.mark.parametrize(("exponent", "mantissa"), [(5, 10), (8, 7), (4, 3)])
def test_reduce_precision_rounds_to_a_narrower_format(exponent: int, mantissa: int) -> None:
    attributes = f"{{exponent_bits = {exponent} : i32, mantissa_bits = {mantissa} : i32}}"
    check(("stablehlo.reduce_precision", ("f32",), "f32", attributes))


def test_scalars_stay_scalars_and_strongly_typed() -> None:
    module = lifting.stablehlo_of(lambda v: v * jnp.float32(2) + jnp.float32(1), np.float32(3))
    lifting.assert_equal(lifting.lifted(module, np.float32(3)), [np.float32(7)])
    assert "weak_type=True" not in lifting.jaxpr_of(module, 1)


def test_empty_arrays_pass() -> None:
    x = np.zeros((0, 3), np.float32)
    module = lifting.stablehlo_of(lambda v: jax.nn.gelu(v), x)
    lifting.assert_equal(lifting.lifted(module, x), [x])
