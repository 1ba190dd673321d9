"""The planned programs of a signature, found by the shapes of a request, and by its flags."""

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType

from jaxrt.program import Shapes
from jaxrt.serving.engine.lane import Lane, alone
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.servable import HostTensors, Loaded, Rows, SignaturePrograms
from jaxrt.serving.engine.shapes import common_rows, declared, flags, show

_Key = tuple[tuple[bool, tuple[int, ...]], ...]
"""For each input: whether it has rows, and its shape without them."""

Values = Mapping[str, bool]
"""Scalar inputs by name, where programs are made for one value of them."""

NO_VALUES: Values = MappingProxyType({})

_Choice = tuple[bool | None, ...]
"""A value for each input that programs fix; None: what the request has is no scalar."""


class Planned:
    """Programs by the shapes of their inputs, in the order of the signature's inputs."""

    def __init__(
        self, where: str, signature: SignaturePrograms, metrics: Metrics | None = None
    ) -> None:
        """Raises ValueError when a program does not take the signature's inputs.

        Also when some programs fix other inputs than others.
        """
        self._title = where
        self._metrics = metrics
        self.spec = signature.spec
        self._aliases = tuple(signature.spec.inputs)
        self._exact: dict[tuple[tuple[tuple[int, ...], ...], _Choice], Lane] = {}
        self._shapes: list[Shapes] = []
        fixed = signature.fixed or [NO_VALUES] * len(signature.programs)
        self._fixes = self._same_names(fixed)
        buckets: dict[tuple[_Key, _Choice], dict[int, Loaded]] = {}
        chosen: dict[_Choice, Values] = {}
        for (program, rows), values in zip(signature.programs, fixed, strict=True):
            shapes = dict(program.input_shapes)
            if shapes.keys() != set(self._aliases):
                raise ValueError(
                    f"{where}: a program takes {sorted(shapes)}, the signature "
                    f"{sorted(self._aliases)}"
                )
            if shapes not in self._shapes:
                self._shapes.append(shapes)
            size, choice = self.rows(shapes), self._choice(values)
            chosen[choice] = values
            if rows is Rows.INDEPENDENT and size:
                buckets.setdefault((self._inner(shapes), choice), {})[size] = program
            else:
                self._exact[self._full(shapes), choice] = alone(where, program, values, metrics)
        self._batched = {
            key: self.lane(programs, chosen[key[1]]) for key, programs in buckets.items()
        }
        self._found: dict[Hashable, tuple[Lane | None, int | None]] = {}

    def lanes(self) -> list[Lane]:
        return [*self._batched.values(), *self._exact.values()]

    def lane(self, programs: Mapping[int, Loaded], values: Values = NO_VALUES) -> Lane:
        """The lane of buckets with independent rows, of equal inner shapes."""
        shared = self.spec.shared(next(iter(programs.values())).input_shapes)
        return Lane(
            title=self._title,
            rows=Rows.INDEPENDENT,
            programs=programs,
            shared=shared,
            values=values,
            metrics=self._metrics,
        )

    def values(self, inputs: HostTensors) -> Values:
        """What a request chooses its programs by, beside its shapes."""
        if not self._fixes:
            return NO_VALUES
        return {a: bool(inputs[a]) for a in self._fixes if not inputs[a].shape}

    def route(self, shapes: Shapes, values: Values = NO_VALUES) -> tuple[Lane | None, int | None]:
        """The lane for a request, and its rows: `find` and `rows`, remembered."""
        key = (self._full(shapes), self._choice(values)) if self._fixes else self._full(shapes)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[key] = self.find(shapes, values), self.rows(shapes)
        return found

    def find(self, shapes: Shapes, values: Values = NO_VALUES) -> Lane | None:
        """The lane for a request."""
        choice = self._choice(values)
        if self.rows(shapes) is not None:
            batched = self._batched.get((self._inner(shapes), choice))
            if batched is not None:
                return batched
        return self._exact.get((self._full(shapes), choice))

    def rows(self, shapes: Shapes) -> int | None:
        """The common dim 0 of all inputs but the shared ones, if there is one."""
        shared = self.spec.shared(shapes)
        return common_rows([s for alias, s in shapes.items() if alias not in shared])

    def with_rows(self, shapes: Shapes, rows: int) -> Shapes:
        """The same request with another number of rows."""
        shared = self.spec.shared(shapes)
        return {a: s if a in shared else (rows, *s[1:]) for a, s in shapes.items()}

    def missing(self, shapes: Shapes, values: Values = NO_VALUES) -> str:
        """One sentence for a request that no program fits: what it has, what to do."""
        shown = [show(s) for s in self._shapes]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        has = "; ".join(shown[:_SHOWN]) + more if shown else "no program at all"
        return (
            f"{self._title} has no compiled program for {show(shapes, values)}; it has {has}; "
            f"{self.advice(shapes)}"
        )

    def advice(self, shapes: Shapes, *, batch: bool = False) -> str:
        """Which flags plan these shapes; `batch` also names their rows."""
        rows = self.rows(shapes)
        sizes = {
            size
            for known in self._shapes
            if rows and (size := self.rows(known)) and self._inner(known) == self._inner(shapes)
        }
        found = [] if sizes else [flags(self.spec, shapes)]
        if rows and (sizes or batch):
            found.append(f"--batch-sizes {','.join(map(str, sorted({rows, *sizes})))}")
        if not any(found):
            return f"the signature declares {declared(self.spec)}"
        return f"plan it with `jaxrt compile {' '.join(filter(None, found))}`"

    def _inner(self, shapes: Shapes) -> _Key:
        shared = self.spec.shared(shapes)
        return tuple((a not in shared, shapes[a][a not in shared :]) for a in self._aliases)

    def _choice(self, values: Values) -> _Choice:
        return tuple(values.get(alias) for alias in self._fixes)

    def _same_names(self, fixed: Sequence[Values]) -> tuple[str, ...]:
        """The inputs that all programs fix, in the signature's order."""
        names = {frozenset(values) for values in fixed} or {frozenset()}
        if len(names) > 1:
            raise ValueError(
                f"{self._title}: programs fix {sorted(map(sorted, names))}, "
                "want one set of inputs for all"
            )
        return tuple(alias for alias in self._aliases if alias in next(iter(names)))

    def _full(self, shapes: Shapes) -> tuple[tuple[int, ...], ...]:
        return tuple(shapes[alias] for alias in self._aliases)


_SHOWN = 8
_REMEMBERED = 4096
"""Shapes; clients that send a new one each time must not fill the memory."""
