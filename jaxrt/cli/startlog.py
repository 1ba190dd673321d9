"""The log at start: what was loaded, what runs where, and why something was compiled again."""

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence

from rich.table import Table

from jaxrt.cli.compressed import compression_summary, made_up_line
from jaxrt.cli.console import table
from jaxrt.cli.ready import Ready
from jaxrt.cli.segments import segment_tables, summaries
from jaxrt.cli.tables import shapes
from jaxrt.program import Shapes
from jaxrt.serving.engine.warmup import Warmed
from jaxrt.units import size


def started_table(name: str, version: int, ready: Ready, warmed: Sequence[Warmed]) -> Table:
    """What runs where after a start, and why an executable was compiled again."""
    first = {_at(w.signature, w.shapes, w.values): w for w in warmed}
    rows = []
    for key, entries in ready.model.parts.items():
        for loaded in entries:
            at = _at(key, loaded.entry.input_shapes, loaded.entry.values)
            rows.append(
                [
                    key,
                    shapes(loaded.entry),
                    loaded.rows.value,
                    loaded.recompiled or "the artifact's executable",
                    _at_once(loaded.entry.slices, first[at].at_once if at in first else 1),
                    f"{loaded.seconds:.2f} s",
                    f"{first[at].seconds * 1e3:.1f} ms" if at in first else "-",
                ]
            )
    return table(
        f"{name} version {version} from {ready.path}: {len(rows)} programs, weights "
        f"{_weights(ready)}",
        ["signature", "input shapes", "rows", "runs", "at once", "loaded in", "first run"],
        rows,
    )


def _at_once(slices: int, batches: int) -> str:
    """Executions side by side: parts of one batch, whole batches."""
    parts = f"{slices} slices" if slices > 1 else "all rows"
    return f"{batches} batches" if batches > 1 and slices == 1 else parts


def _at(signature: str, shapes: Shapes, values: Mapping[str, bool]) -> Hashable:
    return signature, tuple(sorted(shapes.items())), tuple(sorted(values.items()))


def _weights(ready: Ready) -> str:
    """Their bytes and, where there are several devices, on how many."""
    model = ready.model
    place = model.places[0]
    if place.single and len(model.places) == 1:
        return size(model.nbytes)
    on = f"a mesh of {place.shape}" if len(place.devices) > 1 else "one device"
    each = f"{size(model.weights.device_bytes)} on each of {place.devices[0].device_kind!r}"
    return f"{each}, {on}, replicas: {len(model.places)}"


def started_tables(
    name: str, version: int, ready: Ready, warmed: Sequence[Warmed]
) -> Iterator[Table]:
    """The programs of a version, and where its segments run."""
    yield started_table(name, version, ready, warmed)
    yield from segment_tables(ready.artifact.report())


def where_lines(name: str, version: int, ready: Ready) -> Iterator[tuple[int, str]]:
    """Level and text: one line a signature, a warning where the device does nothing of it; and
    what compression did."""
    report = ready.artifact.report()
    for warns, text in summaries(report):
        yield logging.WARNING if warns else logging.INFO, f"{name} version {version}: {text}"
    if (done := compression_summary(report)) is not None:
        yield logging.INFO, f"{name} version {version}: {done}"
        if (aloud := made_up_line(report)) is not None and done.startswith("compressed"):
            yield logging.WARNING, f"{name} version {version}: {aloud}"
