"""A StableHLO module as plain records: what the evaluator walks, free of MLIR objects."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax.interpreters import mlir as jax_mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from jaxrt.converters.lift import constants
from jaxrt.errors import ConversionError

Aval = jax.ShapeDtypeStruct
Type = Aval | tuple["Type", ...] | None
"""A tensor, a tuple of types, or None for a token."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One op. Values are numbers: unique in the module, bound by exactly one op or block."""

    name: str
    """`stablehlo.add`."""
    operands: tuple[int, ...]
    results: tuple[int, ...]
    types: tuple[Type, ...]
    """Of the results, in their order."""
    attrs: Mapping[str, Any]
    """Plain Python: ints, bools, floats, strings, tuples, numpy arrays, dicts of those."""
    regions: tuple["Block", ...]

    @property
    def aval(self) -> Aval:
        """The type of the only result, a tensor."""
        (found,) = self.types
        assert isinstance(found, Aval)
        return found

    @property
    def avals(self) -> tuple[Aval, ...]:
        """The types of all results, all tensors."""
        assert all(isinstance(t, Aval) for t in self.types)
        return tuple(t for t in self.types if isinstance(t, Aval))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A region's only block, or a function's body; it may use values of the blocks around it."""

    arguments: tuple[int, ...]
    types: tuple[Type, ...]
    operations: tuple[Operation, ...]
    returns: tuple[int, ...]

    def walk(self) -> Iterator[Operation]:
        """All operations, nested ones included, in order."""
        for op in self.operations:
            yield op
            for region in op.regions:
                yield from region.walk()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Module:
    """Functions by name; `main` is the entry."""

    functions: Mapping[str, Block]

    @property
    def main(self) -> Block:
        return self.functions["main"]

    def walk(self) -> Iterator[Operation]:
        for block in self.functions.values():
            yield from block.walk()


def read(data: bytes | str) -> Module:
    """A StableHLO portable artifact, MLIR bytecode or MLIR text → records.

    Raises ConversionError where it does not parse, or a type cannot be carried (dynamic shapes).
    """
    context = jax_mlir.make_ir_context()
    with context:
        parsed = _parse(context, data)
        reader = _Reader()
        every = [op.operation for op in parsed.body.operations]
        found = [op for op in every if op.name == "func.func"]
        functions = {_name(op): reader.block(op.regions[0].blocks[0]) for op in found}
        public = [_name(op) for op in found if "sym_visibility" not in op.attributes]
        if "main" not in functions:
            if len(public) != 1:
                raise ConversionError(f"StableHLO module: public functions {public}, want @main")
            functions["main"] = functions.pop(public[0])
        return Module(functions)


def _name(function: Any) -> str:
    return str(ir.StringAttr(function.attributes["sym_name"]).value)


def _parse(context: ir.Context, data: bytes | str) -> ir.Module:
    if isinstance(data, bytes) and b"StableHLO_v" in data[:64]:
        found = stablehlo.deserialize_portable_artifact(context, data)
        return found if isinstance(found, ir.Module) else ir.Module.parse(found)
    try:
        return ir.Module.parse(data)
    except ir.MLIRError as error:
        raise ConversionError(f"StableHLO module does not parse: {str(error)[:300]}") from None


class _Reader:
    """Numbers the values of one module; used once."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def _bind(self, values: Sequence[Any]) -> tuple[int, ...]:
        out = []
        for value in values:
            self._numbers[value] = len(self._numbers)
            out.append(self._numbers[value])
        return tuple(out)

    def block(self, block: Any) -> Block:
        arguments = self._bind(list(block.arguments))
        types = tuple(type_of(a.type) for a in block.arguments)
        *body, last = [op.operation for op in block.operations]
        operations = tuple(self._operation(op) for op in body)
        return Block(arguments, types, operations, tuple(self._numbers[v] for v in last.operands))

    def _operation(self, op: Any) -> Operation:
        operands = tuple(self._numbers[v] for v in op.operands)
        regions = tuple(self.block(r.blocks[0]) for r in op.regions if len(r.blocks))
        return Operation(
            name=op.name,
            operands=operands,
            results=self._bind(list(op.results)),
            types=tuple(type_of(r.type) for r in op.results),
            attrs=_attributes(op),
            regions=regions,
        )


_SCALARS: dict[str, Any] = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "i1": np.bool_,
    "complex<f32>": np.complex64,
    "complex<f64>": np.complex128,
    "index": np.int64,
    "f8E3M4": ml_dtypes.float8_e3m4,
    "f8E4M3": ml_dtypes.float8_e4m3,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "f8E4M3B11FNUZ": ml_dtypes.float8_e4m3b11fnuz,
    "f8E5M2": ml_dtypes.float8_e5m2,
    "f8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "f8E8M0FNU": ml_dtypes.float8_e8m0fnu,
    "i2": ml_dtypes.int2,
    "ui2": ml_dtypes.uint2,
    "i4": ml_dtypes.int4,
    "ui4": ml_dtypes.uint4,
    "f4E2M1FN": ml_dtypes.float4_e2m1fn,
    **{f"i{n}": np.dtype(f"int{n}") for n in (8, 16, 32, 64)},
    **{f"ui{n}": np.dtype(f"uint{n}") for n in (8, 16, 32, 64)},
}


def _is(value: Any, kind: Any) -> bool:
    # Dialect classes answer by their own `isinstance`, builtin ones by Python's.
    test = getattr(kind, "isinstance", None)
    return bool(test(value)) if test else isinstance(value, kind)


def type_of(kind: Any) -> Type:
    """An MLIR type → aval; raises ConversionError for one that JAX cannot hold."""
    text = str(kind)
    if text in ("!stablehlo.token", "!mhlo.token"):
        return None
    if _is(kind, ir.TupleType):
        tuple_type = ir.TupleType(kind)
        return tuple(type_of(tuple_type.get_type(i)) for i in range(tuple_type.num_types))
    if not _is(kind, ir.RankedTensorType):
        raise ConversionError(f"type {text}: want a tensor of known rank")
    tensor = ir.RankedTensorType(kind)
    if not tensor.has_static_shape:
        raise ConversionError(f"type {text}: shapes that depend on data cannot be compiled")
    element = str(tensor.element_type)
    if element not in _SCALARS:
        raise ConversionError(f"type {text}: no JAX dtype for {element}")
    return Aval(tuple(tensor.shape), np.dtype(_SCALARS[element]))


def _attributes(op: Any) -> dict[str, Any]:
    if op.name in ("stablehlo.constant", "chlo.constant"):
        aval = type_of(op.results[0].type)
        assert isinstance(aval, Aval)
        return {"value": constants.dense(op, aval.shape, np.dtype(aval.dtype))}
    return {named.name: attribute(named.attr) for named in _named(op)}


def _named(op: Any) -> list[Any]:
    return [op.attributes[i] for i in range(len(op.attributes))]


def _fields(kind: Any, *names: str) -> Callable[[Any], dict[str, Any]]:
    def convert(attr: Any) -> dict[str, Any]:
        typed = kind(attr)
        values = {n: getattr(typed, n) for n in names}
        return {n: v if isinstance(v, (int, str)) else tuple(v) for n, v in values.items()}

    return convert


def _algorithm(attr: Any) -> dict[str, Any]:
    """Types as MLIR prints them (`tf32` has no dtype), counts, and a flag."""
    names = (
        *("lhs_precision_type", "rhs_precision_type", "accumulation_type"),
        *("lhs_component_count", "rhs_component_count", "num_primitive_operations"),
        "allow_imprecise_accumulation",
    )
    values = {name: getattr(attr, name) for name in names}
    return {n: v if isinstance(v, (bool, int)) else str(v) for n, v in values.items()}


_CONVERTERS: list[tuple[Any, Callable[[Any], Any]]] = [
    (ir.BoolAttr, lambda a: bool(ir.BoolAttr(a).value)),
    (ir.IntegerAttr, lambda a: int(ir.IntegerAttr(a).value)),
    (ir.FloatAttr, lambda a: float(ir.FloatAttr(a).value)),
    (ir.StringAttr, lambda a: ir.StringAttr(a).value_bytes.decode("utf-8", "replace")),
    (ir.FlatSymbolRefAttr, lambda a: ir.FlatSymbolRefAttr(a).value),
    (ir.TypeAttr, lambda a: str(ir.TypeAttr(a).value)),
    (ir.DenseI64ArrayAttr, lambda a: tuple(ir.DenseI64ArrayAttr(a))),
    (ir.DenseI32ArrayAttr, lambda a: tuple(ir.DenseI32ArrayAttr(a))),
    (ir.DenseBoolArrayAttr, lambda a: tuple(bool(x) for x in ir.DenseBoolArrayAttr(a))),
    (ir.DenseIntElementsAttr, lambda a: np.asarray(ir.DenseIntElementsAttr(a))),
    (ir.DenseFPElementsAttr, lambda a: np.asarray(ir.DenseFPElementsAttr(a))),
    (ir.ArrayAttr, lambda a: tuple(attribute(x) for x in ir.ArrayAttr(a))),
    (ir.DictAttr, lambda a: {n.name: attribute(n.attr) for n in _dict_items(ir.DictAttr(a))}),
    (ir.UnitAttr, lambda a: True),
    (
        stablehlo.GatherDimensionNumbers,
        _fields(
            stablehlo.GatherDimensionNumbers,
            "offset_dims",
            "collapsed_slice_dims",
            "operand_batching_dims",
            "start_indices_batching_dims",
            "start_index_map",
            "index_vector_dim",
        ),
    ),
    (
        stablehlo.ScatterDimensionNumbers,
        _fields(
            stablehlo.ScatterDimensionNumbers,
            "update_window_dims",
            "inserted_window_dims",
            "input_batching_dims",
            "scatter_indices_batching_dims",
            "scattered_dims_to_operand_dims",
            "index_vector_dim",
        ),
    ),
    (
        stablehlo.DotDimensionNumbers,
        _fields(
            stablehlo.DotDimensionNumbers,
            "lhs_batching_dimensions",
            "rhs_batching_dimensions",
            "lhs_contracting_dimensions",
            "rhs_contracting_dimensions",
        ),
    ),
    (
        stablehlo.ConvDimensionNumbers,
        _fields(
            stablehlo.ConvDimensionNumbers,
            "input_batch_dimension",
            "input_feature_dimension",
            "input_spatial_dimensions",
            "kernel_input_feature_dimension",
            "kernel_output_feature_dimension",
            "kernel_spatial_dimensions",
            "output_batch_dimension",
            "output_feature_dimension",
            "output_spatial_dimensions",
        ),
    ),
    (stablehlo.DotAlgorithm, lambda a: _algorithm(stablehlo.DotAlgorithm(a))),
    *(
        (kind, (lambda k: lambda a: k(a).value)(kind))
        for kind in (
            stablehlo.ComparisonDirectionAttr,
            stablehlo.ComparisonTypeAttr,
            stablehlo.FftTypeAttr,
            stablehlo.PrecisionAttr,
            stablehlo.RngAlgorithmAttr,
            stablehlo.RngDistributionAttr,
            stablehlo.TransposeAttr,
        )
    ),
]


def _dict_items(attr: Any) -> list[Any]:
    return [attr[i] for i in range(len(attr))]


def attribute(attr: Any) -> Any:
    """An MLIR attribute → plain Python; an unknown one becomes its text."""
    for kind, convert in _CONVERTERS:
        if _is(attr, kind):
            return convert(attr)
    return str(attr)


def dtype_named(element: str) -> np.dtype[Any]:
    """MLIR's name of an element type → dtype: `bf16`, `ui8`. Raises KeyError where JAX has none."""
    found: np.dtype[Any] = np.dtype(_SCALARS[element])
    return found
