"""The log at start: what was loaded, what runs where, and why something was compiled again."""

from collections.abc import Sequence

from rich.table import Table

from jaxrt.cli.console import size, table
from jaxrt.cli.loading import Ready
from jaxrt.cli.tables import runner, shapes
from jaxrt.serving.engine.warmup import Warmed


def started_table(name: str, version: int, ready: Ready, warmed: Sequence[Warmed]) -> Table:
    """What runs where after a start, and why an executable was compiled again."""
    first = {(w.signature, tuple(sorted(w.shapes.items()))): w.seconds for w in warmed}
    rows = []
    for key, entries in ready.model.parts.items():
        for loaded in entries:
            at = (key, tuple(sorted(loaded.entry.input_shapes.items())))
            rows.append(
                [
                    key,
                    shapes(loaded.entry),
                    loaded.rows.value,
                    loaded.recompiled or "the artifact's executable",
                    f"{loaded.seconds:.2f} s",
                    f"{first[at] * 1e3:.1f} ms" if at in first else "-",
                ]
            )
    return table(
        f"{name} version {version} from {ready.path}: {len(rows)} programs, weights "
        f"{size(ready.model.weights.nbytes)}",
        ["signature", "input shapes", "rows", "runs", "loaded in", "first run"],
        rows,
    )


def host_lines(ready: Ready) -> list[str]:
    """One line for each host segment: what runs it, and why it is not on the device."""
    return [
        f"signature {key!r} stage {number}: {runner(stage.entry.host)}: {stage.entry.host.why}"
        for key, signature in ready.model.signatures.items()
        for number, stage in enumerate(signature.stages)
        if stage.entry.host
    ]
