"""Host stages → what an artifact holds of them: graphs, tables, or the SavedModel itself."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from jaxrt.artifact import SAVED_MODEL, ArtifactWriter
from jaxrt.converters.host import graph, native, tables
from jaxrt.converters.planning import ShapeRule
from jaxrt.converters.records import Kind, ModelRecord, Stage
from jaxrt.converters.seams import TensorFlow
from jaxrt.manifest import HostEntry, SignatureEntry, StageEntry
from jaxrt.program import Rows
from jaxrt.specs import SignatureSpec


def whole(model: ModelRecord, key: str, why: str) -> StageEntry:
    """A signature that TensorFlow runs as it is; `copy_saved_model` brings the model."""
    spec = model.signatures[key]
    return StageEntry(
        spec=SignatureSpec(inputs=spec.inputs, outputs=spec.outputs),
        host=as_it_is(model, key, why),
    )


def as_it_is(model: ModelRecord, key: str, why: str) -> HostEntry:
    return HostEntry(
        executor="saved_model",
        rows=Rows.DEPENDENT.value,
        ops=model.ops.get(key, ()),
        why=why,
        signature=key,
        stateful=key in model.refused and model.refused[key].kind is Kind.STATE,
    )


def with_fallback(
    model: ModelRecord, key: str, entry: SignatureEntry, rules: Sequence[ShapeRule]
) -> SignatureEntry:
    """TensorFlow for shapes that no program takes, where requests may have such.

    They do where the rows are not proven independent, so that nothing may be padded; and where
    sizes beside the rows are open and `rules` of the user do not say which will come.
    """
    programs = [*entry.programs, *(p for stage in entry.stages for p in stage.programs)]
    shapes = [tensor.shape for tensor in entry.spec.inputs.values()]
    open_rows = any(shape is None or shape[:1] == (None,) for shape in shapes)
    named = any(rule.names_input(key, alias) for rule in rules for alias in entry.spec.inputs)
    open_sizes = not named and any(shape is None or None in shape[1:] for shape in shapes)
    fixed = any(program.rows == Rows.DEPENDENT.value for program in programs)
    if not programs or not (open_sizes or (open_rows and fixed)):
        return entry
    why = "Its sizes are open." if open_sizes else "Its rows depend on each other."
    return dataclasses.replace(entry, fallback=as_it_is(model, key, why))


def copy_saved_model(path: Path, writer: ArtifactWriter) -> None:
    """The SavedModel into the artifact: it must not depend on where it came from."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            shutil.copyfile(file, writer.file(f"{SAVED_MODEL}/{file.relative_to(path).as_posix()}"))


def host_entry(
    tensorflow: TensorFlow,
    model: ModelRecord,
    writer: ArtifactWriter,
    signature: str,
    number: int,
    stage: Stage,
    *,
    stem: str,
) -> HostEntry:
    """Writes the graph and the tables of host stage `number`, and chooses who runs it."""
    assert stage.graph is not None
    content = Path(stage.graph).read_bytes()
    file = f"host/{stem}.pb"
    writer.file(file).write_bytes(content)
    found = {}
    if stage.tables:
        contents = tensorflow.tables(model, signature, number)
        for index, node in enumerate(stage.tables):
            found[node] = f"host/{stem}.{index}.table"
            tables.write(writer.file(found[node]), contents[node])
    parsed = graph.parse(content)
    return HostEntry(
        executor="tensorflow" if _missing(parsed, stage) else "native",
        rows=(Rows.INDEPENDENT if _rowwise(parsed, stage) else Rows.DEPENDENT).value,
        ops=stage.ops,
        why=stage.why,
        graph=file,
        feeds=stage.feeds,
        fetches=stage.fetches,
        targets=stage.targets,
        tables=found,
    )


def _missing(parsed: graph.Graph, stage: Stage) -> tuple[str, ...]:
    """Ops that only TensorFlow runs, or runs to the last digit."""
    feeds, fetches = tuple(stage.feeds.values()), tuple(stage.fetches.values())
    lacking = native.missing(parsed, fetches, feeds, stage.tables, stage.targets)
    return lacking + native.inexact(parsed, fetches, feeds, stage.targets)


def _rowwise(parsed: graph.Graph, stage: Stage) -> bool:
    """Whether requests may share a run: proven for values that all have rows, denied otherwise."""
    if stage.rowwise:
        return True
    values = (*stage.inputs, *stage.outputs)
    if stage.targets or not all(v.shape and v.shape[0] is None for v in values):
        return False
    feeds, fetches = tuple(stage.feeds.values()), tuple(stage.fetches.values())
    return native.rowwise(parsed, feeds, fetches, stage.tables)
