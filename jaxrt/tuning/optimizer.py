"""The passes that make a program fast, each with a switch, and what they report."""

import collections
import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from jaxrt import slices
from jaxrt import target as targets
from jaxrt.errors import UsageError
from jaxrt.passes import batchnorm, blocks, convolution_lowering, lanes, precision, prepare, resize
from jaxrt.passes.convolution import Convolution
from jaxrt.passes.convolution_table import LOWERINGS, XLA
from jaxrt.passes.precision import Precision, Rounding
from jaxrt.program import Program
from jaxrt.target import Target
from jaxrt.tuning import forms, rules
from jaxrt.tuning.choices import Choice, Choices
from jaxrt.tuning.tuner import Autotune, Tuner

FORMS = tuple(form.name for form in forms.FORMS)

WIDE_VECTORS = "wide-vectors"

_LOOPS = frozenset({"scan", "while"})

Resized = Callable[[int], Program | None]
"""Rows → the same function for so many; None where TensorFlow or the proof of rows refuses."""

PASSES = (
    *("resize", "batch-norm", "convolutions", "winograd", "blocks", "slices", "one-kernel"),
    "lanes",
    WIDE_VECTORS,
    *FORMS,
)
"""The switches: `winograd` takes those lowerings from `convolutions`, for the least error."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """What the user chose; raises UsageError for a pass that is none of PASSES."""

    autotune: Autotune = Autotune.OFF
    disabled: tuple[str, ...] = ()
    rounding: Rounding = Rounding()

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.disabled) - set(PASSES)):
            raise UsageError(f"--disable-pass {unknown[0]}: want one of {', '.join(PASSES)}")

    def suited(self, target: Target) -> Target:
        """The target as compilers are to see it: what they are told of it may be a pass."""
        if WIDE_VECTORS not in self.disabled:
            return target
        return dataclasses.replace(target, vector_bits=targets.NARROW)

    def to_json(self) -> dict[str, Any]:
        return {
            "autotune": self.autotune.value,
            "disabled": sorted(set(self.disabled)),
            "rounding": self.rounding.to_json(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Optimized:
    """A program after the passes."""

    program: Program
    """All rows at once, weights as they came."""
    source: Program
    """Before convolutions took other forms: it has no loops over rows."""
    split: prepare.Split
    """What is prepared and compiled: of `program`, or a loop over blocks of its rows."""
    exact: Program | None = None
    """As `source`, before products were rounded; None: they were not."""
    block: int | None = None
    """Rows of a block; None: all at once."""
    rounds: int = 1
    """Of the loop over blocks, or of slices that are none: how often counted work is done."""
    whole: bool = False
    """To be compiled as one kernel (`jaxrt.passes.one_kernel`)."""
    slices: int = 1
    """Runs of `split` at once that make one of `program` (`jaxrt.slices`)."""
    sliced: float | None = None
    """How many times as fast that was; None where it is not done."""
    gains: tuple[str, ...] = ()
    """A line for each pass that changed something."""
    convolutions: tuple[tuple[Convolution, Choice], ...] = ()
    """What was chosen for each, in the order of the program."""

    @property
    def has_own_loops(self) -> bool:
        """Loops over rows that the passes wrote."""
        return self.rounds > 1 or any("by row" in c.lowering for _, c in self.convolutions)

    def all_rounds(self, counted: float) -> float:
        """FLOPs a call, from XLA's count, in which the body of a loop runs once."""
        by_row = [c for c, choice in self.convolutions if "by row" in choice.lowering]
        return self.rounds * (counted + sum(c.flops * (c.batch - 1) / c.batch for c in by_row))

    def to_json(self) -> dict[str, Any]:
        """For the report; convolutions of equal shape are counted, not repeated."""
        counts = collections.Counter(str(conv) for conv, _ in self.convolutions)
        distinct = {str(conv): choice for conv, choice in self.convolutions}
        return {
            "gains": list(self.gains),
            "convolutions": [
                {"convolution": key, "count": counts[key], **choice.to_json()}
                for key, choice in distinct.items()
            ],
        }


class Optimizer:
    """Program → the same function, faster on one target."""

    def __init__(
        self,
        tuner: Tuner,
        *,
        platform: str,
        rounding: Rounding,
        without: Collection[str] = (),
        vector_bits: int = targets.NARROW,
        cores: int = 1,
    ) -> None:
        """`without` are names of PASSES left out; `vector_bits` and `cores` are the target's."""
        self._tuner = tuner
        self._platform = platform
        self._rounding = rounding
        self._vector_bits = vector_bits
        self._cores = cores
        self._without = frozenset(without)

    def __call__(
        self,
        program: Program,
        smaller: Sequence[Optimized] = (),
        shared: frozenset[str] = frozenset(),
        resized: Resized | None = None,
    ) -> Optimized:
        """`smaller`: what the same function became for fewer rows, where rows are independent.

        `shared` inputs have no rows. `resized` gives the same function at other numbers of rows;
        None: there is no such, or rows depend on each other.
        """
        done = self._optimized(program, smaller, shared)
        if resized is None or shared or "slices" in self._without:
            return done
        return self._sliced(done, smaller, resized)

    def _sliced(self, done: Optimized, smaller: Sequence[Optimized], resized: Resized) -> Optimized:
        """Cut into executions at once, where loops leave cores idle and that is faster."""
        rows = _rows(done, frozenset())
        count = slices.count(rows, self._cores)
        loops = _LOOPS.intersection(prepare.primitives(done.split.apply.jaxpr))
        if count == 1 or not loops or (few := resized(rows // count)) is None:
            return done
        part = self._part(done, few, smaller)
        if part is None or not blocks.fits(done.program, part.apply, shared=frozenset()):
            return done
        like = next((s for s in smaller if s.block is not None and s.block == done.block), None)
        # Of loops over the same block, the shortest tells for all: long ones take seconds to time.
        faster = like.sliced if like else self._tuner.slices(done.split.apply, part.apply, count)
        if faster is None:
            return done
        gain = f"slices: {count} executions at once, {faster:.1f} times as fast"
        return dataclasses.replace(
            done,
            split=part,
            slices=count,
            sliced=faster,
            rounds=done.rounds if done.block else count,
            gains=(*done.gains, gain),
        )

    def _part(
        self, done: Optimized, few: Program, smaller: Sequence[Optimized]
    ) -> prepare.Split | None:
        """What one slice runs; None where it is none of the whole blocks."""
        if done.block is None:
            part = self._optimized(few, (), frozenset())
            return None if part.whole else part.split
        inner = next(
            s for s in smaller if s.block is None and _rows(s, frozenset()) == done.block
        ).split
        if not blocks.fits(few, inner.apply, shared=frozenset()):
            return None
        alone = few.input_shapes == inner.apply.input_shapes
        return inner if alone else blocks.looped(few, inner, shared=frozenset())

    def _optimized(
        self, program: Program, smaller: Sequence[Optimized], shared: frozenset[str]
    ) -> Optimized:
        exact, gains = self._certain(program)
        program, gains = self._rounded(exact, gains)
        loops = [] if "blocks" in self._without else _loops(program, smaller, shared)
        block = self._tuner.block(program, loops) if loops else None
        if block is None:
            return dataclasses.replace(self._chosen(program, gains), exact=exact)
        source = next(s for s in smaller if s.block is None and _rows(s, shared) == block)
        gain = f"blocks: {block} row{'s' * (block > 1)} at a time, for the cache"
        return dataclasses.replace(
            source,
            program=program,
            source=program,
            exact=exact,
            split=dict(loops)[block],
            block=block,
            rounds=_times(program, source.split.apply, shared),
            whole=False,
            slices=1,
            sliced=None,
            gains=(*source.gains, gain),
        )

    def _certain(self, program: Program) -> tuple[Program, list[str]]:
        """The passes that always pay, whatever is chosen after them."""
        gains = []
        if "resize" not in self._without:
            program, count = resize.separate(program)
            if count:
                gains.append(f"resize: {count} as rows, then columns")
        if "batch-norm" not in self._without:
            program, count = batchnorm.fold(program)
            if count:
                gains.append(f"batch norm: {count} folded into weights")
        return program, gains

    def _rounded(self, program: Program, gains: list[str]) -> tuple[Program, list[str]]:
        """After what computes new weights, which are rounded once."""
        chosen = self._rounding.on(self._platform)
        if self._platform == "cpu" and chosen is not Precision.BF16:
            return program, gains  # CPUs multiply f32 as it is
        rounded = precision.apply(program, self._rounding, self._platform)
        if rounded.changed or rounded.kept:
            kept = f", {rounded.kept} kept f32" if rounded.kept else ""
            line = f"precision: {rounded.changed} products, convolutions and tables at"
            gains = [*gains, f"{line} {chosen.value}{kept}"]
        return rounded.program, gains

    def _chosen(self, program: Program, gains: list[str]) -> Optimized:
        """All rows at once, in the forms that suit the shapes."""
        source = program
        chosen: list[tuple[Convolution, Choice]] = []
        if "convolutions" not in self._without:
            # All are chosen first: nothing can be timed while jax traces.
            found = convolution_lowering.convolutions(program)
            chosen = [(conv, self._tuner.choose(conv)) for conv in found]
            names = {conv: choice.lowering for conv, choice in chosen}
            program = convolution_lowering.lower(program, names.__getitem__)
            gains += _spell(chosen)
            if chosen and self._vector_bits != targets.NARROW:
                gains.append(f"wide vectors: of {self._vector_bits} bits in loops over elements")
        program, written = forms.rewritten(program, self._without)
        gains += written
        if self._platform == "tpu" and "lanes" not in self._without:
            program, count = lanes.pack(program)
            gains += [f"lanes: {count} tables of several rows side by side"] if count else []
        split = prepare.split(program)
        whole = "one-kernel" not in self._without and self._tuner.whole(split.apply)
        if whole:
            gains.append(f"one-kernel: on the calling thread, {whole:.1f} times as fast")
        return Optimized(
            program=program,
            source=source,
            split=split,
            whole=bool(whole),
            gains=tuple(gains),
            convolutions=tuple(chosen),
        )


def _loops(
    program: Program, smaller: Sequence[Optimized], shared: frozenset[str]
) -> list[tuple[int, prepare.Split]]:
    """Rows of a block → the loop over such blocks; none for what the cache holds anyway.

    Where products alone make it large, only the largest block, and that only if it reads the
    weights for much more than their own size.
    """
    fitting = [
        s for s in smaller if s.block is None and blocks.fits(program, s.split.apply, shared=shared)
    ]
    if not fitting or blocks.largest(program) <= rules.CACHE:
        return []
    if not convolution_lowering.convolutions(program):
        fitting = [max(fitting, key=lambda s: _rows(s, shared))]
        if blocks.reuse(fitting[0].split.apply) < rules.REUSE:
            return []
    return [(_rows(s, shared), blocks.looped(program, s.split, shared=shared)) for s in fitting]


def _times(program: Program, block: Program, shared: frozenset[str]) -> int:
    name = next(name for name in block.input_names if name not in shared)
    return program.input_shapes[name][0] // block.input_shapes[name][0]


def _rows(optimized: Optimized, shared: frozenset[str]) -> int:
    shapes = optimized.split.apply.input_shapes
    return next(shape[0] for name, shape in shapes.items() if name not in shared)


def _spell(chosen: list[tuple[Convolution, Choice]]) -> list[str]:
    """`convolutions: 35 depthwise → shift-multiply-add, 34 1x1 → dot, 1 7x7 → XLA's own`."""
    counts = collections.Counter((_kind(c), choice.lowering) for c, choice in chosen)
    if not counts:
        return []
    texts = [
        f"{count} {kind} → {XLA_NAME if name == XLA else name}"
        for (kind, name), count in counts.most_common()
    ]
    own = sum(c.seconds.get(XLA, 0.0) for _, c in chosen)
    mine = sum(c.seconds[c.lowering] for _, c in chosen if XLA in c.seconds)
    timed = f"; those timed: {own / mine:.1f} times XLA's own" if mine else ""
    return [f"convolutions: {', '.join(texts)}{timed}"]


XLA_NAME = "XLA's own"


def _kind(conv: Convolution) -> str:
    if conv.is_depthwise:
        return "depthwise"
    window = "x".join(map(str, conv.window))
    return f"{window} transposed" if conv.is_transposed else window


def optimizer(target: Target, passes: Passes, *, cache: Path | None = None) -> Optimizer:
    """For one target; choices are kept below `cache`, if given."""
    target, disabled = passes.suited(target), passes.disabled
    tuner = Tuner(
        target,
        passes.autotune,
        choices=None if cache is None else Choices(cache, target.fingerprint),
        clock=time.perf_counter,
        without=[n for n in LOWERINGS if "Winograd" in n] if "winograd" in disabled else [],
    )
    other = () if target.platform == "cpu" else FORMS
    return Optimizer(
        tuner,
        platform=target.platform,
        rounding=passes.rounding,
        without=(*disabled, *other),
        vector_bits=target.vector_bits,
        cores=slices.cores(),
    )
