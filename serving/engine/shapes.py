"""The shapes of a request: the rows they share, and how messages and flags write them."""

from collections.abc import Sequence

from jaxrt.program import Shapes


def common_rows(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Dim 0 where every shape has the same one; None where there is no common one."""
    if not shapes or not all(shapes):
        return None
    rows = shapes[0][0]
    return rows if all(shape[0] == rows for shape in shapes) else None


def show(shapes: Shapes) -> str:
    """`a=[1,3], b=[1]`."""
    return ", ".join(f"{a}=[{','.join(map(str, shape))}]" for a, shape in shapes.items())


def flags(shapes: Shapes) -> str:
    """`--shape a=1,3 --shape b=1`: what plans these shapes."""
    return " ".join(f"--shape {a}={','.join(map(str, s))}" for a, s in shapes.items())
