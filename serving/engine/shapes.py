"""The shapes of a request: the rows its inputs share, and how messages and flags write them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from jaxrt.program import Shapes
from jaxrt.specs import SignatureSpec, TensorSpec


def common_rows(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Dim 0 where every shape has the same one; None where there is no common one."""
    if not shapes or not all(shapes):
        return None
    rows = shapes[0][0]
    return rows if all(shape[0] == rows for shape in shapes) else None


def show(shapes: Shapes, values: Mapping[str, bool] = MappingProxyType({})) -> str:
    """`a=[1,3], b=[1]`; an input of `values` is written with its value: `training=true`."""
    return ", ".join(
        f"{a}={str(values[a]).lower()}" if a in values else f"{a}=[{','.join(map(str, shape))}]"
        for a, shape in shapes.items()
    )


def declared(spec: SignatureSpec) -> str:
    """`a=[?,3], b=[unknown rank]`."""
    return ", ".join(f"{a}=[{_dims(tensor)}]" for a, tensor in spec.inputs.items())


def flags(spec: SignatureSpec, shapes: Shapes) -> str:
    """`--shape a=48x64 --shape b=7`: plans the inner dimensions that the signature leaves open.

    What crosses between stages (`%4`) is planned by the input that its tensor is named after.
    Empty where it leaves none open, or contradicts the shapes.
    """
    found = []
    for alias, tensor in spec.inputs.items():
        sizes = _open_sizes(tensor, shapes[alias])
        if sizes is None:
            return ""
        if sizes:
            name = tensor.name if alias.startswith("%") else alias
            found.append(f"--shape {name}={'x'.join(map(str, sizes))}")
    return " ".join(dict.fromkeys(found))


def _dims(tensor: TensorSpec) -> str:
    if tensor.shape is None:
        return "unknown rank"
    return ",".join("?" if d is None else str(d) for d in tensor.shape)


def _open_sizes(tensor: TensorSpec, shape: tuple[int, ...]) -> list[int] | None:
    """The sizes of dimensions beyond the batch that the signature leaves open; None: no fit."""
    if tensor.shape is None:
        return list(shape[1:])
    pairs = list(zip(tensor.shape, shape, strict=False))
    if len(tensor.shape) != len(shape) or any(want not in (None, got) for want, got in pairs):
        return None
    return [got for want, got in pairs[1:] if want is None]
