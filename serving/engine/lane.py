"""A lane: the programs that may serve the same tasks."""

import dataclasses
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from jaxrt.buckets import Buckets
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.servable import Loaded, Rows


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Lane:
    """Tasks of one lane may share a batch.

    INDEPENDENT: `programs` are buckets, rows → program, of equal inner shapes. DEPENDENT: one
    program under the key 1, and each task counts as one row, so that every batch is one request
    at exactly its shapes.
    """

    title: str
    rows: Rows
    programs: Mapping[int, Loaded]
    shared: frozenset[str] = frozenset()
    """Inputs without rows: the same value for a whole batch, so only tasks with equal ones meet."""
    values: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """Scalar inputs that the programs are made for one value of."""
    flexible: bool = False
    """The only program takes any number of rows up to its key: nothing is padded."""
    inner: Hashable = None
    """Set apart from other lanes of the same programs: the shapes without rows, if flexible."""
    seconds: dict[int, float] = dataclasses.field(default_factory=dict)
    """Bucket → seconds on the device, filled by warm-up; buckets may be missing."""
    at_once: dict[int, int] = dataclasses.field(default_factory=dict)
    """Bucket → how many batches may run while one of it does, filled by warm-up; those missing
    run as their scheduler usually does."""
    metrics: Metrics | None = None
    """Where its batches are counted; None: with those of their scheduler."""
    buckets: Buckets = dataclasses.field(init=False)
    key: Hashable = dataclasses.field(init=False)
    """Equal for lanes of the same programs (a lane holds them, so their ids stay taken)."""

    def __post_init__(self) -> None:
        sizes = tuple(sorted(self.programs))
        if self.rows is Rows.DEPENDENT and sizes != (1,):
            raise ValueError(
                f"{self.title}: a program that runs alone wants the key 1, got {sizes}"
            )
        object.__setattr__(self, "buckets", Buckets(sizes=sizes))
        key = (self.rows, self.inner, *((size, id(self.programs[size])) for size in sizes))
        object.__setattr__(self, "key", key)


def alone(
    title: str,
    program: Loaded,
    values: Mapping[str, bool] = MappingProxyType({}),
    metrics: Metrics | None = None,
) -> Lane:
    """The lane of a program that takes exactly one request at exactly its shapes."""
    return Lane(
        title=title, rows=Rows.DEPENDENT, programs={1: program}, values=values, metrics=metrics
    )


def title(name: str, version: int, signature: str) -> str:
    """The start of messages about a signature."""
    return f'signature "{signature}" of model {name} version {version}'
