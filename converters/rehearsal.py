"""A cut signature run stage by stage in TensorFlow, beside the signature as a whole."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters import arithmetic, stage_graphs
from jaxrt.converters.arithmetic import Ran
from jaxrt.converters.arrays import Array, answered
from jaxrt.converters.bodies import Uncuttable
from jaxrt.converters.flat import Flat
from jaxrt.converters.records import Measured, TableContents
from jaxrt.converters.samples import clues, samples
from jaxrt.converters.savedmodel import first_line
from jaxrt.converters.stages import Part
from jaxrt.converters.traced import traced
from jaxrt.specs import SignatureSpec

ROWS = (3, 1)
CLOSE = 1e-5
"""Of an output's largest value. TensorFlow fuses ops of a whole graph that a stage parts."""

Whole = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def rehearse(
    flat: Flat,
    spec: SignatureSpec,
    parts: Sequence[Part],
    rowwise: Sequence[bool],
    whole: Whole,
) -> tuple[Measured, ...]:
    """What each stage did for a row. Raises Uncuttable where the stages answer otherwise than
    `whole`, where a stage that is said to be rowwise is not, or where no inputs can be made that
    `whole` takes."""
    run = Rehearsal(flat, parts, rowwise)
    measured: tuple[Measured, ...] = ()
    for rows in ROWS:
        given, want = _taken(flat, spec, rows, whole)
        random = _differ(want, whole(given))
        try:
            got = run(given)
        except Exception as error:  # whatever TensorFlow's C++ and Python layers raise
            raise Uncuttable(f"Its stages fail where it does not: {first_line(error)}") from error
        _compare(got, want, random)
        measured = measured or run.measured(given, rows)
    return measured


def _taken(
    flat: Flat, spec: SignatureSpec, rows: int, whole: Whole
) -> tuple[dict[str, Array], Mapping[str, Array]]:
    said = "it has none"
    for given in samples(clues(flat), spec, rows, seed=0):
        try:
            return given, whole(given)
        except Exception as error:  # TensorFlow's, of inputs that it does not take
            said = first_line(error)
    raise Uncuttable(f"No inputs could be made to check its stages with: {said}")


class Rehearsal:
    """Stages as sessions and functions of TensorFlow's."""

    def __init__(self, flat: Flat, parts: Sequence[Part], rowwise: Sequence[bool]) -> None:
        self._parts, self._rowwise = parts, rowwise
        self._runs = [self._device(flat, p) if p.on_device else _Host(flat, p) for p in parts]
        self._results = flat.body.results

    def __call__(self, given: Mapping[str, Array]) -> dict[str, Array]:
        values = dict(given)
        for part, run, rowwise in zip(self._parts, self._runs, self._rowwise, strict=True):
            taken = [values[name] for name in part.takes]
            answers = run(taken)
            if rowwise:
                self._check_rows(part, run, taken, answers)
            values |= answers
        return {alias: values[alias] for alias, _ in self._results}

    def measured(self, given: Mapping[str, Array], rows: int) -> tuple[Measured, ...]:
        """Runs all stages once more, and looks."""
        values, found = dict(given), []
        for part, run in zip(self._parts, self._runs, strict=True):
            taken = [values[name] for name in part.takes]
            flops: float | None = None
            uncounted: tuple[str, ...] = ()
            if isinstance(run, _Host):
                answers, ran = run.traced(taken)
                done = arithmetic.work(ran)
                flops, uncounted = done.flops / rows, done.uncounted
            else:
                answers = run(taken)
            values |= answers
            sizes = {n: _bytes(values[n]) / rows for n in (*part.takes, *part.gives)}
            found.append(Measured(flops=flops, uncounted=uncounted, bytes=sizes))
        return tuple(found)

    def _check_rows(
        self,
        part: Part,
        run: Callable[[list[Array]], dict[str, Array]],
        taken: list[Array],
        answers: Mapping[str, Array],
    ) -> None:
        """Runs each row alone."""
        rowful = [_has_rows(part, name) for name in part.takes]
        counts = {len(a) for a, rows in zip(taken, rowful, strict=True) if rows}
        for row in range(counts.pop() if len(counts) == 1 else 0):
            one = [a[row : row + 1] if r else a for a, r in zip(taken, rowful, strict=True)]
            for name, answer in run(one).items():
                rows = slice(row, row + 1) if _has_rows(part, name) else slice(None)
                want = answers[name][rows] if answers[name].shape else answers[name]
                if not _same(answer, want):
                    raise Uncuttable(f"Rows change {name} of one another, and should not.")

    def _device(self, flat: Flat, part: Part) -> Callable[[list[Array]], dict[str, Array]]:
        function = stage_graphs.function(part, flat)

        def run(given: list[Array]) -> dict[str, Array]:
            weights = [tf.constant(w.read()) for w in function.weights]
            answers = function.concrete(*map(tf.constant, given), *weights)
            names = [o.name for o in function.outputs]
            return {n: a.numpy() for n, a in zip(names, answers, strict=True)}

        return run


class _Host:
    """A host stage's graph in a session, its tables filled."""

    def __init__(self, flat: Flat, part: Part) -> None:
        self._part = part
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        definition = stage_graphs.graph(part, flat)
        tables = {n: flat.tables[n].read() for n in stage_graphs.tables(part, flat)}
        with self._session.graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
            for name, contents in tables.items():
                self._fill(self._session.graph.get_tensor_by_name(f"{name}:0"), contents)

    def _fill(self, handle: Any, contents: TableContents) -> None:
        keys = tf.constant(contents.keys, tf.as_dtype(contents.key_dtype))
        values = tf.constant(contents.values, tf.as_dtype(contents.value_dtype))
        self._session.run(
            tf.raw_ops.InitializeTableV2(table_handle=handle, keys=keys, values=values)
        )

    def __call__(self, given: list[Array]) -> dict[str, Array]:
        answers: dict[str, Array] = self._session.run(self._wanted(), self._feeds(given))[0]
        return {name: answered(answer) for name, answer in answers.items()}

    def traced(self, given: list[Array]) -> tuple[dict[str, Array], list[Ran]]:
        """The answers, and the ops that ran."""
        (answers, _), ran = traced(self._session, self._wanted(), self._feeds(given))
        return {name: answered(answer) for name, answer in answers.items()}, ran

    def _wanted(self) -> tuple[dict[str, str], list[str]]:
        return dict(self._part.gives), list(self._part.effects)

    def _feeds(self, given: list[Array]) -> dict[str, Array]:
        return {f"{a}:0": v for a, v in zip(self._part.takes.values(), given, strict=True)}


def _bytes(value: Array) -> int:
    """Of strings, those of their text."""
    return sum(map(len, value.flat)) if value.dtype == object else value.nbytes


def _has_rows(part: Part, name: str) -> bool:
    shape = part.values[name].shape
    return bool(shape) and shape is not None and shape[0] is None


def _differ(first: Mapping[str, Array], second: Mapping[str, Array]) -> frozenset[str]:
    """Outputs that are drawn at random: nobody can say what they should be."""
    return frozenset(alias for alias in first if not _same(first[alias], second[alias]))


def _compare(got: Mapping[str, Array], want: Mapping[str, Array], random: Collection[str]) -> None:
    for alias, expected in want.items():
        found = got[alias]
        if found.shape != expected.shape:
            raise Uncuttable(
                f"Its stages give {alias} the shape {found.shape}, TensorFlow {expected.shape}."
            )
        if alias not in random and not _same(found, expected):
            raise Uncuttable(f"Its stages answer otherwise than TensorFlow in {alias}.")


def _same(found: Array, expected: Array) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if found.dtype.kind in "OSUbiu" or not found.size:
        return bool(np.array_equal(found, expected))
    exact, close = (a.astype(np.complex128) for a in (expected, found))
    largest = np.max(np.abs(exact[np.isfinite(exact)]), initial=0.0)
    return bool(np.allclose(close, exact, rtol=0.0, atol=CLOSE * largest, equal_nan=True))
