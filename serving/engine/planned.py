"""The planned programs of a signature, found by the shapes of a request."""

from jaxrt.program import Shapes
from jaxrt.serving.engine.lane import Lane, alone
from jaxrt.serving.engine.servable import Loaded, Rows, SignaturePrograms
from jaxrt.serving.engine.shapes import common_rows, flags, show

_Key = tuple[tuple[int, ...], ...]


class Planned:
    """Programs by the shapes of their inputs, in the order of the signature's inputs."""

    def __init__(self, where: str, signature: SignaturePrograms) -> None:
        """Raises ValueError when a program does not take the signature's inputs."""
        self._title = where
        self._aliases = tuple(signature.spec.inputs)
        self._exact: dict[_Key, Lane] = {}
        self._shapes: list[Shapes] = []
        buckets: dict[_Key, dict[int, Loaded]] = {}
        for program, rows in signature.programs:
            shapes = dict(program.input_shapes)
            if shapes.keys() != set(self._aliases):
                raise ValueError(
                    f"{where}: a program takes {sorted(shapes)}, the signature "
                    f"{sorted(self._aliases)}"
                )
            self._shapes.append(shapes)
            size = common_rows(list(shapes.values()))
            if rows is Rows.INDEPENDENT and size:
                buckets.setdefault(self._inner(shapes), {})[size] = program
            else:
                self._exact[self._full(shapes)] = alone(where, program)
        self._batched = {
            inner: Lane(title=where, rows=Rows.INDEPENDENT, programs=programs)
            for inner, programs in buckets.items()
        }

    def find(self, shapes: Shapes, rows: int | None) -> Lane | None:
        """The lane for a request; `rows` is the common dim 0 of its shapes, if there is one."""
        if rows is not None:
            batched = self._batched.get(self._inner(shapes))
            if batched is not None:
                return batched
        return self._exact.get(self._full(shapes))

    def lanes(self) -> list[Lane]:
        return [*self._batched.values(), *self._exact.values()]

    def missing(self, shapes: Shapes, rows: int | None) -> str:
        """One sentence for a request that no program fits: what it has, what to do."""
        shown = [show(s) for s in self._shapes]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        has = "; ".join(shown[:_SHOWN]) + more if shown else "no program at all"
        return (
            f"{self._title} has no compiled program for {show(shapes)}; it has {has}; "
            f"add one with `{self._flag(shapes, rows)}`"
        )

    def _flag(self, shapes: Shapes, rows: int | None) -> str:
        """--batch-sizes where only dim 0 differs from what is there, else --shape."""
        inner = self._inner(shapes) if rows else None
        sizes = [
            common_rows(list(s.values()))
            for s in self._shapes
            if all(s.values()) and self._inner(s) == inner
        ]
        if rows and sizes and all(sizes):
            wanted = sorted({rows, *(size for size in sizes if size)})
            return f"jaxrt compile --batch-sizes {','.join(map(str, wanted))}"
        return f"jaxrt compile {flags(shapes)}"

    def _inner(self, shapes: Shapes) -> _Key:
        return tuple(shapes[alias][1:] for alias in self._aliases)

    def _full(self, shapes: Shapes) -> _Key:
        return tuple(shapes[alias] for alias in self._aliases)


_SHOWN = 8
