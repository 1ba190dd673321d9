"""Floating-point operations of TensorFlow ops that ran, from the shapes that they took and gave.

They are counted as XLA counts them: two for each multiplication and addition of a product of
matrices or a convolution, one for each element that an elementwise op computes, of any number type,
one for each element that a reduction takes; none for what moves elements or handles strings.
"""

import dataclasses
import math
import re
from collections.abc import Iterable

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """What a run saw of a tensor."""

    dtype: str
    """TensorFlow's name: `float32`, `string`, `variant`."""
    shape: Shape

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """One op that ran once; an op in a loop runs several times."""

    op: str
    inputs: tuple[Tensor | None, ...]
    """None for a tensor that nobody recorded."""
    outputs: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The operations of one run."""

    flops: int
    uncounted: tuple[str, ...]
    """Ops whose operations nobody could count, sorted; `flops` leaves them out."""


def work(ran: Iterable[Ran]) -> Work:
    """The sum over all ops that ran."""
    total, uncounted = 0, set()
    for one in ran:
        found = flops(one)
        if found is None:
            uncounted.add(plain(one.op))
        else:
            total += found
    return Work(flops=total, uncounted=tuple(sorted(uncounted)))


def plain(op: str) -> str:
    """`_MklNativeFusedMatMul`, `_FusedMatMul` → `MatMul`: what TensorFlow's own optimizer made."""
    return _FUSED.sub("", op)


def flops(ran: Ran) -> int | None:
    """Operations of one run of an op; None where its shapes or its name do not tell."""
    op = plain(ran.op)
    if any(t is not None and t.dtype == "string" for t in ran.inputs):
        return 0
    if _PRODUCT.fullmatch(op):
        return _product(ran)
    if _CONVOLUTION.fullmatch(op):
        return _convolution(op, ran)
    if _REDUCTION.fullmatch(op):
        first = ran.inputs[0] if ran.inputs else None
        return None if first is None else first.elements
    if _BAG.fullmatch(op):
        return _bag(ran)
    if op in _PER_ELEMENT or _ELEMENTWISE.fullmatch(op):
        return _PER_ELEMENT.get(op, 1) * sum(t.elements for t in ran.outputs[:1])
    computes = any(t.dtype in _FLOATS for t in ran.outputs)
    return None if computes and not _FREE.fullmatch(op) else 0


def _product(ran: Ran) -> int | None:
    """2·m·n·k; the matrices may be transposed, so k is what is left of the first one's size."""
    if not ran.inputs or ran.inputs[0] is None or not ran.outputs:
        return None
    first, out = ran.inputs[0].shape, ran.outputs[0].shape
    if len(first) < 2 or len(out) < 2:
        return None
    if not math.prod(out):
        return 0
    return 2 * math.prod(out) * (math.prod(first[-2:]) // out[-2])


def _convolution(op: str, ran: Ran) -> int | None:
    """2 for each weight that a pixel of the result meets; of padding too, unlike XLA."""
    taken = ran.inputs[1] if len(ran.inputs) > 1 else None
    if taken is None or not ran.outputs:
        return None
    weights = taken.shape
    if op.startswith("Depthwise"):  # [height, width, channels, multiplier]
        return 2 * ran.outputs[0].elements * math.prod(weights[:-2])
    if "Backprop" in op:  # the transposed one: each pixel of the third tensor meets the weights
        grown = ran.inputs[2] if len(ran.inputs) > 2 else None
        return None if grown is None else 2 * grown.elements * math.prod(weights[:-1])
    return 2 * ran.outputs[0].elements * math.prod(weights[:-1])


def _bag(ran: Ran) -> int | None:
    """Sums of picked rows: an addition for each element of each row that is picked."""
    picked = ran.inputs[1] if len(ran.inputs) > 1 else None
    if picked is None or not ran.outputs:
        return None
    return picked.elements * math.prod(ran.outputs[0].shape[1:])


_FUSED = re.compile(r"^_(Mkl)?(Native)?(Fused)?")
_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64", "complex64", "complex128"})

_PRODUCT = re.compile(r"(Batch)?MatMul(V\d)?")
_CONVOLUTION = re.compile(r"Conv[123]D(BackpropInput(V2)?)?|DepthwiseConv2dNative")
_REDUCTION = re.compile(
    r"""(
        Sum | Mean | Prod | Max | Min | All | Any | EuclideanNorm | ArgMax | ArgMin | Bincount
      | DenseBincount | Cum(sum|prod) | (Unsorted)?Segment(Sum|Mean|Prod|Max|Min)(V2)?
      | SparseReduceSum | L2Loss
    )""",
    re.VERBOSE,
)
_BAG = re.compile(r"SparseSegment(Sum|Mean|SqrtN)(WithNumSegments)?")

_PER_ELEMENT = {
    "Softmax": 5,
    "LogSoftmax": 5,
    "ResizeBilinear": 9,
    "FusedBatchNormV3": 4,
    "LRN": 5,
}
"""Operations an element of the result; 1 for those of `_ELEMENTWISE`."""

_ELEMENTWISE = re.compile(
    r"""(
        Add(V2|N)? | Sub | Mul(NoNan)? | (Real|Truncate|Floor)?Div | DivNoNan | Xdivy | Xlogy
      | (Floor|Truncate)?Mod | Pow | Maximum | Minimum | SquaredDifference | Atan2 | BiasAdd(V1)?
      | Neg | Abs | Sign | Square | Sqrt | Rsqrt | Reciprocal | Inv | Exp | Expm1 | Log | Log1p
      | A?(Sin|Cos|Tan)h? | Erf | Erfc | Lgamma | Digamma | Sigmoid | Softplus | Softsign
      | (Leaky)?Relu(6)? | Elu | Selu | Floor | Ceil | Round | Rint | Cast | Clip(ByValue)?
      | Equal | NotEqual | Less(Equal)? | Greater(Equal)? | Logical(And|Or|Not|Xor)
      | Is(Nan|Inf|Finite) | Select(V2)? | Bucketize | Bitwise(And|Or|Xor) | Invert | ZerosLike
      | (Left|Right)Shift | Random(Uniform|StandardNormal|UniformInt) | TruncatedNormal
    )""",
    re.VERBOSE,
)

_FREE = re.compile(
    r"""(
        Const | _?Arg | _?Retval | Identity(N)? | Snapshot | StopGradient | PreventGradient
      | Placeholder(WithDefault)? | (Ref)?(Switch|Merge|Enter|Exit|NextIteration|Select)
      | LoopCond | NoOp | Assert | (Stateless)?(If|While|Case) | (Stateful)?PartitionedCall
      | Reshape | Squeeze | ExpandDims | Shape(N)? | Size | Rank | Fill | Tile | OnesLike
      | (Strided)?Slice | Concat(V2)? | Split(V)? | (Un)?[Pp]ack | Transpose | Range | LinSpace
      | (Mirror)?Pad(V2)? | BroadcastTo | Reverse(V2|Sequence)? | Gather(V2|Nd)? | Resource\w*
      | ScatterNd\w* | TensorScatterUpdate | EnsureShape | Bitcast | Where | Unique\w* | TopK(V2)?
      | OneHot | MatrixDiag\w* | MatrixBandPart | Dynamic(Stitch|Partition) | BooleanMask
      | TensorList\w* | TensorArray\w* | Sparse(ToDense|Reorder|Reshape|FillEmptyRows\w*|Concat)
      | SparseSlice | Ragged\w* | Parse\w+ | Decode\w+ | LookupTable\w+ | StringToNumber
      | _?(Host)?(Send|Recv) | ReadVariableOp | Variable(V2)? | VarHandleOp | DepthToSpace
      | SpaceToDepth | (BatchToSpace|SpaceToBatch)(ND)? | ResizeNearestNeighbor
      | CheckNumerics | DeepCopy | ExtractImagePatches
    )""",
    re.VERBOSE,
)
"""Ops that give floats and compute none."""
