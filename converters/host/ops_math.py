"""Elementwise arithmetic and comparisons."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import Array, op, whole
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES

Binary = Callable[[Array, Array], Any]
Unary = Callable[[Array], Any]
Exact = bool | Callable[[Node], bool]


def shape_text(array: Array) -> str:
    """TensorShape::DebugString: `[2,3]`."""
    return "[" + ",".join(map(str, array.shape)) + "]"


def _broadcast(function: Binary, x: Array, y: Array) -> Array:
    try:
        return np.asarray(function(x, y))
    except ValueError:
        raise InvalidArgument(f"Incompatible shapes: {shape_text(x)} vs. {shape_text(y)}") from None


def _register_binary(name: str, function: Binary, exact: Exact = True) -> None:
    @op(name, rowwise=True, exact=exact)
    def run(node: Node, x: Array, y: Array) -> Array:
        if x.dtype == np.object_ and not (x.ndim or y.ndim):
            return _broadcast(function, x.reshape(1), y).reshape(())  # numpy would unpack bytes
        return _broadcast(function, x, y)


def _register_unary(name: str, function: Unary, exact: Exact = True) -> None:
    @op(name, rowwise=True, exact=exact)
    def run(node: Node, x: Array) -> Any:
        return function(x)


def _whole(x: Array) -> bool:
    return x.dtype.kind in "iu"


def _check_divisor(y: Array) -> None:
    if _whole(y) and not y.all():
        raise InvalidArgument("Integer division by zero")


def floor_divide(x: Array, y: Array) -> Any:
    _check_divisor(y)
    # Of floats, the floor of the rounded quotient; numpy's is that of the exact one.
    return np.floor_divide(x, y) if _whole(x) else np.floor(np.divide(x, y))


def truncate_divide(x: Array, y: Array) -> Any:
    _check_divisor(y)
    if not _whole(x):
        return np.divide(x, y)
    quotient = np.floor_divide(x, y)
    inexact = np.not_equal(np.multiply(quotient, y), x) & np.less(quotient, 0)
    return np.add(quotient, inexact.astype(quotient.dtype))


def floor_modulo(x: Array, y: Array) -> Any:
    _check_divisor(y)
    if _whole(x):
        return np.mod(x, y)
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def truncate_modulo(x: Array, y: Array) -> Any:
    _check_divisor(y)
    return np.fmod(x, y)


def power(x: Array, y: Array) -> Any:
    if x.dtype.kind == "i" and (y < 0).any():
        raise InvalidArgument("Integers to negative integer powers are not allowed")
    return np.power(x, y)


def squared_difference(x: Array, y: Array) -> Any:
    return np.square(np.subtract(x, y))


def divide_no_nan(x: Array, y: Array) -> Any:
    return np.where(y == 0, np.zeros((), y.dtype), np.divide(x, y))


def multiply_no_nan(x: Array, y: Array) -> Any:
    return np.where(y == 0, np.zeros((), y.dtype), np.multiply(x, y))


def left_shift(x: Array, y: Array) -> Any:
    return np.left_shift(x, _amount(x, y))


def right_shift(x: Array, y: Array) -> Any:
    return np.right_shift(x, _amount(x, y))


def _amount(x: Array, y: Array) -> Array:
    return np.clip(y, 0, x.dtype.itemsize * 8 - 1)


def maximum(x: Array, y: Array) -> Any:
    return _zero_like_eigen(x, y, np.maximum(x, y))


def minimum(x: Array, y: Array) -> Any:
    return _zero_like_eigen(x, y, np.minimum(x, y))


def _zero_like_eigen(x: Array, y: Array, found: Any) -> Any:
    """Zeros are equal and differ in their sign: a vector instruction takes the second one's."""
    if _whole(x):
        return found
    return np.where(x == y, x if x.dtype.itemsize == 2 else y, found)


def xlogy(x: Array, y: Array) -> Any:
    return np.where(x == 0, np.zeros((), x.dtype), np.multiply(x, np.log(y)))


_EXACT_BINARY: dict[str, Binary] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Div": truncate_divide,
    "TruncateDiv": lambda x, y: truncate_divide(x, y) if _whole(x) else np.trunc(x / y),
    "FloorDiv": floor_divide,
    "FloorMod": floor_modulo,
    "Mod": truncate_modulo,
    "TruncateMod": truncate_modulo,
    "Maximum": maximum,
    "Minimum": minimum,
    "SquaredDifference": squared_difference,
    "DivNoNan": divide_no_nan,
    "MulNoNan": multiply_no_nan,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "LeftShift": left_shift,
    "RightShift": right_shift,
}
_CLOSE_BINARY: dict[str, Binary] = {
    "Pow": power,
    "Atan2": np.arctan2,
    "Xlogy": xlogy,
}


def sign(x: Array) -> Any:
    # bfloat16 has a kernel of its own, which knows one zero.
    found = np.sign(x)
    return np.add(found, np.zeros((), x.dtype)) if x.dtype == ml_dtypes.bfloat16 else found


def relu(x: Array) -> Any:
    return np.maximum(x, np.zeros((), x.dtype))


def relu6(x: Array) -> Any:
    return np.minimum(relu(x), np.asarray(6, x.dtype))


def round_even(x: Array) -> Any:
    # Eigen halves an integer and rounds that: TensorFlow's kernel gives zeros for all of them.
    return np.zeros_like(x) if _whole(x) else np.rint(x)


def reciprocal(x: Array) -> Any:
    return np.divide(np.ones((), x.dtype), x)


def sigmoid(x: Array) -> Any:
    one = np.ones((), x.dtype)
    return one / (one + np.exp(-x))


def softplus(x: Array) -> Any:
    return np.maximum(x, np.zeros((), x.dtype)) + np.log1p(np.exp(-np.abs(x)))


_EXACT_UNARY: dict[str, Unary] = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": sign,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": round_even,
    "Rint": np.rint,
    "Sqrt": np.sqrt,
    "Square": np.square,
    "IsNan": np.isnan,
    "IsFinite": np.isfinite,
    "IsInf": np.isinf,
    "LogicalNot": np.logical_not,
    "Invert": np.invert,
    "Relu": relu,
    "Relu6": relu6,
}


def rsqrt(x: Array) -> Any:
    return np.divide(np.ones((), x.dtype), np.sqrt(x))


_CLOSE_UNARY: dict[str, Unary] = {
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Log": np.log,
    "Log1p": np.log1p,
    "Rsqrt": rsqrt,
    "Reciprocal": reciprocal,
    "Inv": reciprocal,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
    "Softplus": softplus,
}

for _name, _binary in _EXACT_BINARY.items():
    _register_binary(_name, _binary)
for _name, _binary in _CLOSE_BINARY.items():
    _register_binary(_name, _binary, exact=whole)
for _name, _unary in _EXACT_UNARY.items():
    _register_unary(_name, _unary)
for _name, _unary in _CLOSE_UNARY.items():
    _register_unary(_name, _unary, exact=whole)


@op("Equal", rowwise=True, incompatible_shape_error=True)
def equal(node: Node, x: Array, y: Array) -> Array:
    return _compared(node, np.equal, x, y, differ=False)


@op("NotEqual", rowwise=True, incompatible_shape_error=True)
def not_equal(node: Node, x: Array, y: Array) -> Array:
    return _compared(node, np.not_equal, x, y, differ=True)


def _compared(node: Node, function: Binary, x: Array, y: Array, differ: bool) -> Array:
    try:
        return _broadcast(function, x, y).astype(np.bool_, copy=False)
    except InvalidArgument:
        if node.attrs["incompatible_shape_error"]:
            raise
        return np.asarray(differ)


@op("AddN", rowwise=True)
def add_n(node: Node, *inputs: Array) -> Array:
    total = inputs[0]
    for i, value in enumerate(inputs):
        if value.shape != total.shape:
            raise InvalidArgument(
                f"Inputs to operation {node.name} of type AddN must have the same size and shape."
                f"  Input 0: {shape_text(total)} != input {i}: {shape_text(value)}"
            )
    for value in inputs[1:]:
        total = np.add(total, value)
    return np.asarray(total)


@op("ClipByValue", rowwise=True)
def clip(node: Node, x: Array, low: Array, high: Array) -> Array:
    # The lower limit wins where they cross; NaN stays.
    below = np.where(x > high, high, x)
    return np.asarray(np.where(below < low, low, below))


@op("Cast", rowwise=True, Truncate=False)
def cast(node: Node, x: Array) -> Array:
    wanted = DTYPES[node.attrs["DstT"]].numpy
    assert wanted is not None
    if x.dtype.kind == "c" and wanted.kind != "c":
        x = x.real
    return x.astype(wanted)


@op("SelectV2", rowwise=True)
def select_v2(node: Node, condition: Array, x: Array, y: Array) -> Array:
    try:
        return np.where(condition, x, y)
    except ValueError:
        raise InvalidArgument(
            f"condition {shape_text(condition)}, then {shape_text(x)}, and else {shape_text(y)}"
            " must be broadcastable"
        ) from None


@op("Select", rowwise=True)
def select(node: Node, condition: Array, x: Array, y: Array) -> Array:
    """A vector chooses rows."""
    if x.shape != y.shape:
        raise InvalidArgument(
            "'then' and 'else' must have the same size.  but received:"
            f" {shape_text(x)} vs. {shape_text(y)}"
        )
    if condition.ndim == 1 and x.ndim and len(condition) != len(x):
        raise InvalidArgument(
            "Number of batches of 'then' must match size of 'cond', but saw:"
            f" {len(x)} vs. {len(condition)}"
        )
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(condition, x, y)


@op("LeakyRelu", rowwise=True, alpha=float(np.float32(0.2)))
def leaky_relu(node: Node, x: Array) -> Array:
    return np.where(x > 0, x, x * np.asarray(node.attrs["alpha"], x.dtype))


@op("CheckNumerics", "CheckNumericsV2", rowwise=True)
def check_numerics(node: Node, x: Array) -> Array:
    bad = [t for t, f in (("Inf", np.isinf), ("NaN", np.isnan)) if f(x.astype(np.float64)).any()]
    if bad:
        text = node.attrs["message"].decode()
        raise InvalidArgument(f"{text} : Tensor had {' and '.join(bad)} values")
    return x


@op("BiasAdd", rowwise=True, data_format=b"NHWC")
def bias_add(node: Node, x: Array, bias: Array) -> Array:
    channel = 1 if node.attrs["data_format"] == b"NCHW" else -1
    if bias.shape[0] != x.shape[channel]:
        raise InvalidArgument(
            "Must provide as many biases as the last dimension of the input tensor: "
            f"{shape_text(bias)} vs. {shape_text(x)}"
        )
    if channel == 1:
        bias = bias.reshape(-1, *[1] * (x.ndim - 2))
    return np.asarray(np.add(x, bias))
