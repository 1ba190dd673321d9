"""Converted signatures → what an artifact holds: prepared weights, compiled programs, stages."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrt import compiler, layouts
from jaxrt.artifact import ArtifactWriter
from jaxrt.converters import hosting
from jaxrt.converters.conversion import Converted, ConvertedSignature, Optimize, spell
from jaxrt.converters.records import ModelRecord, Stage
from jaxrt.converters.routes import Route, spec_of
from jaxrt.converters.seams import Steps, TensorFlow
from jaxrt.errors import ConversionError
from jaxrt.manifest import (
    ExecutableEntry,
    HostEntry,
    ProgramEntry,
    SignatureEntry,
    StageEntry,
    Stats,
)
from jaxrt.mesh import Spec
from jaxrt.passes import prepare, provenance
from jaxrt.program import Program, Rows
from jaxrt.specs import SignatureSpec, stage_key
from jaxrt.target import Target

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What every step of one build needs."""

    tensorflow: TensorFlow
    model: ModelRecord
    target: Target
    steps: Steps
    writer: ArtifactWriter
    optimize: Optimize
    lay_out: layouts.LayOut
    """Decides how programs lie on devices, and compiles them."""
    built: dict[str, "Files"] = dataclasses.field(default_factory=dict)
    """What was compiled so far, by what it computes: equal programs are compiled once."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """One program compiled and written."""

    portable: str
    executable: str
    built: compiler.Built


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """The programs of one signature as the manifest lists them, and one of them still loaded."""

    entries: tuple[ProgramEntry, ...]
    sample: ProgramEntry
    """The smallest of several rows, if there are such: of one row, a mean over rows is the row.

    Of the values that programs fix, the first that draw no random numbers."""
    executable: Any
    """The sample's; None where its device is elsewhere."""
    program: Program
    """The sample itself."""
    reports: tuple[Mapping[str, Any] | None, ...]
    """JSON: what is to be said of each program on a mesh."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The weights that programs take. Equal arrays are stored once."""

    arrays: Mapping[str, Array]
    """Stored name → array."""
    stored: Mapping[str, str]
    """Name in a program → stored name."""
    source_bytes: int
    """Of the SavedModel's weights that the programs were prepared from."""


def prepare_weights(job: Job, converted: Iterable[ConvertedSignature]) -> Prepared:
    """Runs the weights-only part of every program, once for all buckets that share it."""
    prepared: dict[str, Array] = {}
    used: dict[str, int] = {}
    for signature in converted:
        for program in signature.programs:
            if all(n in prepared for n in program.split.apply.weight_names):
                continue
            source = source_weights(job.tensorflow, job.model, program.split, signature.constants)
            used |= {name: array.nbytes for name, array in source.items()}
            prepared |= prepare.run_prepare(program.split, source)
    arrays, stored = prepare.dedupe(prepared)
    return Prepared(arrays=arrays, stored=stored, source_bytes=sum(used.values()))


def source_weights(
    tensorflow: TensorFlow,
    model: ModelRecord,
    split: prepare.Split,
    constants: Mapping[str, Array],
) -> dict[str, Array]:
    """The weights a program is prepared from: the SavedModel's, and its large constants."""
    found = {name: constants[name] for name in split.needed if name in constants}
    rest = [name for name in split.needed if name not in found]
    return {**found, **tensorflow.weights(model, rest)}


def lay_out(
    job: Job, converted: Iterable[ConvertedSignature], stored: Mapping[str, str]
) -> layouts.LaidOut:
    """How all programs of a model lie on the target's devices; raises DeviceError."""
    programs = [program for signature in converted for program in signature.programs]
    return job.lay_out([_asked(program, stored) for program in programs])


def _asked(program: Converted, stored: Mapping[str, str]) -> layouts.Asked:
    apply = program.split.apply
    names = tuple(stored[name] for name in apply.weight_names)
    return layouts.Asked(program=apply, stored=names, whole=program.optimized.whole)


def compile_signature(
    job: Job,
    number: int,
    key: str,
    programs: Sequence[Converted],
    stored: Mapping[str, str],
    laid_out: layouts.LaidOut,
) -> Compiled:
    """Compiles and writes every program of one signature, the `number`-th of its model.

    Raises ConversionError when the platform cannot run one of them.
    """
    entries = []
    reports = []
    sample = _sample(programs)
    executable = None
    for index, program in enumerate(programs):
        stem = f"{_stem(key)}.{number}.{index}"
        job.steps.step(f"compile {key} {spell(program.planned.shapes, program.values)}")
        files = _files(job, stem, program, _asked(program, stored), laid_out)
        entries.append(_entry(job, stem, program, stored, files))
        reports.append(files.built.report)
        executable = files.built.loaded if index == sample else executable
    return Compiled(
        entries=tuple(entries),
        sample=entries[sample],
        executable=executable,
        program=programs[sample].split.apply,
        reports=tuple(reports),
    )


def _files(
    job: Job, stem: str, program: Converted, asked: layouts.Asked, laid_out: layouts.LaidOut
) -> Files:
    """Those of an equal program, such as another signature of the same function, or new ones."""
    computed = None if program.random else provenance.of_closed(program.split.apply.jaxpr)
    if computed is not None and asked.whole:
        computed += " whole"
    if computed is not None and laid_out.mesh is not None:
        computed += f" {[laid_out.weights.get(name) for name in asked.stored]}"
    if computed is not None and (known := job.built.get(computed)) is not None:
        stats = dataclasses.replace(known.built.stats, compile_seconds=0.0)
        return dataclasses.replace(known, built=dataclasses.replace(known.built, stats=stats))
    built = _built(program, job.target, lambda: laid_out.build(asked))
    files = Files(
        portable=job.writer.portable(stem, built.portable),
        executable=job.writer.executable(stem, built.executable),
        built=built,
    )
    if computed is not None:
        job.built[computed] = files
    return files


def _sample(programs: Sequence[Converted]) -> int:
    values = next((p.values for p in programs if not p.random), programs[0].values)
    same = [index for index, program in enumerate(programs) if program.values == values]
    return next((i for i in same if (programs[i].planned.batch or 0) > 1), same[0])


def build(program: Converted, target: Target) -> compiler.Built:
    """Compiles one program for the attached device.

    Raises ConversionError when the platform cannot run it.
    """
    whole = program.optimized.whole
    return _built(program, target, lambda: compiler.build(program.split.apply, target, whole=whole))


def _built(
    program: Converted, target: Target, make: Callable[[], compiler.Built]
) -> compiler.Built:
    try:
        return make()
    except jax.errors.JaxRuntimeError as error:
        raise ConversionError(
            f"signature {program.split.apply.signature!r} at "
            f"{spell(program.planned.shapes, program.values)}: XLA "
            f"does not compile it for {target.platform}: {str(error).splitlines()[0]}"
        ) from error


def signature(
    job: Job,
    number: int,
    key: str,
    spec: SignatureSpec,
    route: Route | None,
    compiled: Mapping[str, Compiled],
    refused: str | None,
) -> SignatureEntry:
    """What the manifest says of one signature; host graphs and tables are written here."""
    if route is None:
        return SignatureEntry(spec=spec, refused=refused)
    if route.whole is not None:
        stage = hosting.whole(job.model, key, route.whole)
        return SignatureEntry(spec=spec, stages=(stage,))
    if not route.stages:
        return SignatureEntry(spec=spec, programs=_entries(compiled, key))
    return SignatureEntry(
        spec=spec,
        stages=tuple(
            StageEntry(
                spec=spec_of(stage),
                host=host(job, number, key, index, stage) if stage.where == "host" else None,
                programs=_entries(compiled, stage_key(key, index)),
            )
            for index, stage in enumerate(route.stages)
        ),
    )


def _entries(compiled: Mapping[str, Compiled], key: str) -> tuple[ProgramEntry, ...]:
    return compiled[key].entries if key in compiled else ()


def host(job: Job, number: int, key: str, index: int, stage: Stage) -> HostEntry:
    stem = f"{_stem(key)}.{number}.{index}"
    return hosting.host_entry(job.tensorflow, job.model, job.writer, key, index, stage, stem=stem)


def _stem(key: str) -> str:
    """A signature's name as a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)[:80] or "_"


def _entry(
    job: Job,
    stem: str,
    program: Converted,
    stored: Mapping[str, str],
    files: Files,
) -> ProgramEntry:
    apply = program.split.apply
    inputs = dict(zip(apply.input_names, apply.input_avals, strict=True))
    outputs = dict(zip(apply.output_names, apply.jaxpr.out_avals, strict=True))
    stats = files.built.stats
    return ProgramEntry(
        key=stem,
        input_names=apply.input_names,
        input_shapes={n: _batch(a, program.optimized.slices) for n, a in inputs.items()},
        input_dtypes={n: a.dtype.name for n, a in inputs.items()},
        output_names=apply.output_names,
        output_shapes={n: _batch(a, program.optimized.slices) for n, a in outputs.items()},
        output_dtypes={n: a.dtype.name for n, a in outputs.items()},
        weights=tuple(stored[name] for name in apply.weight_names),
        rows=(Rows.INDEPENDENT if program.rows.independent else Rows.DEPENDENT).value,
        rows_reason=program.rows.reason,
        random=program.random,
        values=dict(program.values),
        portable=files.portable,
        input_layouts=_split(apply.input_names, files.built.input_layouts),
        output_layouts=_split(apply.output_names, files.built.output_layouts),
        slices=program.optimized.slices,
        executable=ExecutableEntry(file=files.executable, key=job.target.fingerprint),
        stats=Stats(
            flops=program.optimized.all_rounds(stats.flops),
            bytes_accessed=stats.bytes_accessed * program.optimized.rounds,
            argument_bytes=stats.argument_bytes,
            output_bytes=stats.output_bytes * program.optimized.slices,
            temp_bytes=stats.temp_bytes * program.optimized.slices,
            generated_code_bytes=stats.code_bytes,
            compile_seconds=stats.compile_seconds,
        ),
    )


def _batch(aval: Any, slices: int) -> tuple[int, ...]:
    """The shape of a whole batch, of one slice's."""
    return (aval.shape[0] * slices, *aval.shape[1:]) if slices > 1 else tuple(aval.shape)


def _split(names: Sequence[str], specs: Sequence[Spec]) -> dict[str, Spec]:
    """Layouts by name, of what is split; of none on one device."""
    return {name: spec for name, spec in zip(names, specs, strict=False) if any(spec)}
