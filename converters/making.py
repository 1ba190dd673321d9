"""The weights and programs of a model: compressed where that was asked for and is not slower."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxrt import layouts
from jaxrt.compression.layers import GATHER, Layer
from jaxrt.compression.schemes import Scheme
from jaxrt.converters import bases, calibrating, compressing, emit, pruning, speed
from jaxrt.converters.compressing import Compression
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.counted import announce
from jaxrt.converters.division import Divided
from jaxrt.converters.layer_times import LayerTimes
from jaxrt.converters.options import Options
from jaxrt.converters.pruning import Pruned
from jaxrt.errors import ConversionError
from jaxrt.target import Target
from jaxrt.tuning.tuner import Autotune

TRIES = 3
"""How often layers are taken back where programs are slower, before all stays float."""

LONG, MUCH_SLOWER = 1e-3, 1.1
"""Seconds, and times as long, from which programs of fewer channels are seen to be slower: they
do less, and what is read off quick programs is noise."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What an artifact is made of, apart from its host stages."""

    found: Divided
    weights: emit.Prepared
    laid_out: layouts.LaidOut
    compiled: Mapping[str, emit.Compiled]
    failed: Mapping[str, str]
    """Part → why the target does not run it."""
    pruned: Pruned | None = None
    compression: Compression | None = None
    speeds: tuple[speed.Speed, ...] = ()
    dropped: str | None = None
    """Why nothing is compressed after all."""


def make(job: emit.Job, found: Divided, options: Options) -> Made:
    """Prepares and compiles. Raises DeviceError for what does not fit the target, UsageError."""
    if options.compression is None:
        return _made(job, found)
    wanted = options.compression
    job.steps.step("calibrate")
    data = calibrating.gather(job, found, wanted.calibration)
    less, pruned = pruning.prune_model(job, found, wanted, data)
    times = _times(job, options)
    small = compressing.compress(job, less, wanted, data, times)
    for tries_left in range(TRIES, -2, -1):
        compression = small.compression
        made = dataclasses.replace(_made(job, small.found), compression=compression, pruned=pruned)
        if not compression.chosen:
            return _if_no_slower(job, found, less, made)
        if not _is_here(job.target):
            return made
        after = small.found.converted
        speeds = speed.measure(job, less.converted, after, made.compiled, made.weights.arrays)
        slower = [s for s in speeds if s.slower]
        if not slower or wanted.slower_is_fine:
            return dataclasses.replace(made, speeds=tuple(speeds))
        worst = _slowest(slower)
        why = _said(worst, "would take")
        if not (free := _free(compression)):
            return dataclasses.replace(
                made, speeds=tuple(speeds), compression=_with_slow_rules(compression, worst)
            )
        _again(job, less)
        if not (
            back := _taken_back(
                free, bool(compression.forced), tries_left, times.ratios if times else {}
            )
        ):
            break
        small = small.without(back, why)
    return dataclasses.replace(
        _made(job, less),
        compression=compression,
        pruned=pruned,
        speeds=tuple(speeds),
        dropped=f"{why}; --optimize size compresses it nevertheless",
    )


def _if_no_slower(job: emit.Job, found: Divided, less: Divided, made: Made) -> Made:
    """What was pruned alone, beside the whole model `found`."""
    if not (made.pruned and made.pruned.channels and _is_here(job.target)):
        return made
    arrays = made.weights.arrays
    speeds = speed.measure(job, found.converted, less.converted, made.compiled, arrays)
    slower = [s for s in speeds if s.before > LONG and s.after > MUCH_SLOWER * s.before]
    if not slower or (made.compression and made.compression.wanted.slower_is_fine):
        return dataclasses.replace(made, speeds=tuple(speeds))
    why = _said(_slowest(slower), "would take")
    _again(job, found)
    return dataclasses.replace(
        _made(job, found),
        compression=made.compression,
        speeds=tuple(speeds),
        dropped=f"without channels {why}; --optimize size takes them nevertheless",
    )


def _slowest(found: Sequence[speed.Speed]) -> speed.Speed:
    return max(found, key=lambda s: s.after / s.before)


def _said(found: speed.Speed, takes: str) -> str:
    return f"{found.part} {found.shapes} {takes} {found.after / found.before:.2f} times as long"


def _is_here(target: Target) -> bool:
    """Whether programs can be timed."""
    return target.platform == "cpu" and not target.absent and target.num_devices == 1


def _times(job: emit.Job, options: Options) -> LayerTimes | None:
    """None where nothing is to be timed before programs are compiled."""
    if options.passes.autotune is Autotune.OFF or not _is_here(job.target):
        return None
    return LayerTimes(job.target, job.optimize)


def _again(job: emit.Job, found: Divided) -> None:
    """Makes ready for compiling once more what was compiled: files are written over."""
    job.built.clear()
    announce(job.steps, sum(len(c.programs) for c in found.converted.values()))


def _free(compression: Compression) -> list[Layer]:
    """Compressed layers that no rule wants so."""
    return [
        choice.layer
        for choice in compression.layers
        if choice.scheme is not Scheme.FLOAT and choice.layer.name not in compression.forced
    ]


def _taken_back(
    free: Sequence[Layer], is_more: bool, tries_left: int, ratios: Mapping[str, float]
) -> list[str]:
    """Layers to be left float where all together are slower; none where nothing would be left.

    The third that gained least when timed alone, or the smaller half of products that were not;
    at the last try all but the tables. `is_more`: others stay compressed, whatever
    becomes of these.
    """
    if timed := sorted((x for x in free if x.name in ratios), key=lambda x: -ratios[x.name]):
        back = timed[: math.ceil(len(timed) / 3)]
        if tries_left == 1 and len(timed) < len(free):
            back = timed
        back = back if tries_left > 0 else list(free)
        return [layer.name for layer in back] if is_more or len(back) < len(free) else []
    products = sorted((x for x in free if x.kind != GATHER), key=lambda x: x.nbytes)
    back = products if tries_left == 1 else products[: max(1, len(products) // 2)]
    if tries_left <= 0 or not back:
        back = list(free)
    return [layer.name for layer in back] if is_more or len(back) < len(free) else []


def _with_slow_rules(compression: Compression, worst: speed.Speed) -> Compression:
    """What is slower is wanted so: that is said."""
    because = bases.because(compression.forced)
    said = f"slower as it is: {_said(worst, 'takes')} as in float{because}"
    return dataclasses.replace(compression, notes=(*compression.notes, said))


def _made(job: emit.Job, found: Divided) -> Made:
    job.steps.step("prepare weights")
    weights = emit.prepare_weights(job, found.converted.values())
    if job.target.num_devices > 1 or job.target.absent:
        job.steps.step(f"plan for {job.target.describe()}")
    laid_out = emit.lay_out(job, found.converted.values(), weights.stored)
    compiled, failed = _compile(job, found.converted, weights, laid_out)
    return Made(found=found, weights=weights, laid_out=laid_out, compiled=compiled, failed=failed)


def _compile(
    job: emit.Job,
    converted: Mapping[str, ConvertedSignature],
    weights: emit.Prepared,
    laid_out: layouts.LaidOut,
) -> tuple[dict[str, emit.Compiled], dict[str, str]]:
    """The parts that the target runs, and why it does not run the others."""
    compiled, failed = {}, {}
    for number, (key, found) in enumerate(converted.items()):
        if found.programs:
            try:
                compiled[key] = emit.compile_signature(
                    job, number, key, found.programs, weights.stored, laid_out
                )
            except ConversionError as error:
                failed[key] = str(error)
    return compiled, failed
