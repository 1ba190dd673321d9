"""A version: from the inputs of a request to a program, planned or compiled on demand."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import numpy as np
import pytest

from jaxrt.buckets import Buckets
from jaxrt.errors import (
    ConversionError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Unavailable,
    Unimplemented,
)
from jaxrt.serving.engine.lane import alone
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Loaded, Rows, SignaturePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import warm
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

Shape = tuple[int, ...]


class Program:
    """y = 2 x of the same shape, and the sum of all inputs' elements as s where asked."""

    def __init__(self, shapes: Mapping[str, Shape], clock: Callable[[], None] = lambda: None):
        self.input_shapes = dict(shapes)
        self.output_shapes = {"y": self.input_shapes["x"]}
        self.batches: list[HostTensors] = []
        self.clock = clock

    def run(self, inputs: HostTensors) -> HostTensors:
        assert {a: v.shape for a, v in inputs.items()} == self.input_shapes
        self.batches.append(inputs)
        self.clock()
        return {"y": inputs["x"] * 2}


class Compiler:
    """OnDemand: compiles when `go` is set, says DEPENDENT or refuses by a rule of the shapes."""

    def __init__(
        self,
        rows: Rows = Rows.INDEPENDENT,
        refuses: Callable[[Mapping[str, Shape]], bool] = lambda shapes: False,
        error: Exception | None = None,
    ) -> None:
        self.rows = rows
        self.refuses = refuses
        self.error = error
        self.asked: list[Mapping[str, Shape]] = []
        self.programs: list[Program] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def compile(
        self, signature: str, shapes: Mapping[str, Shape], values: Mapping[str, bool]
    ) -> tuple[Loaded, Rows]:
        self.asked.append(shapes)
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        if self.refuses(shapes):
            raise ConversionError(f"Reshape cannot take {dict(shapes)}")
        self.programs.append(Program(shapes))
        return self.programs[-1], self.rows


def tensor(dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name="t:0", dtype=dtype, dims=(Dim(-1), Dim(-1)))


def spec(*aliases: str, dtype: str = "float32") -> SignatureSpec:
    return SignatureSpec(inputs={a: tensor(dtype) for a in aliases}, outputs={"y": tensor(dtype)})


def planned(
    *shapes: Shape, rows: Rows = Rows.INDEPENDENT, aliases: tuple[str, ...] = ("x",)
) -> SignaturePrograms:
    programs = [(Program(dict.fromkeys(aliases, shape)), rows) for shape in shapes]
    return SignaturePrograms(spec=spec(*aliases), programs=programs)


def version(scheduler: Scheduler, signature: SignaturePrograms, **options: Any) -> Version:
    return Version(name="m", version=3, signatures={"s": signature}, scheduler=scheduler, **options)


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def run(scenario: Callable[[Scheduler], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        scheduler = Scheduler()
        try:
            await scenario(scheduler)
        finally:
            await scheduler.drain(20)

    asyncio.run(asyncio.wait_for(whole(), 60))


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited 20 s in vain"
        await asyncio.sleep(0.0005)


async def fails(model: Version, error: type[Exception], match: str, **inputs: Any) -> None:
    with pytest.raises(error, match=match):
        await model.predict("s", inputs, deadline=None)


@pytest.mark.parametrize(("rows", "ran"), [(1, [1]), (3, [4]), (4, [4]), (9, [4, 4, 1])])
def test_planned_buckets_serve_any_number_of_rows(rows: int, ran: list[int]) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        signature = planned((1, 2), (4, 2))
        x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        outputs = await version(scheduler, signature).predict("s", {"x": x}, deadline=None)
        np.testing.assert_array_equal(outputs["y"], x * 2)
        batches = [b for p, _ in signature.programs if isinstance(p, Program) for b in p.batches]
        assert sorted(len(b["x"]) for b in batches) == sorted(ran)

    run(scenario)


def test_requests_of_different_inner_shapes_use_their_own_buckets() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = version(scheduler, planned((4, 2), (4, 3), (2, 3)))
        shapes = [(3, 2), (1, 3), (2, 2), (4, 3)]
        answers = await asyncio.gather(
            *(model.predict("s", {"x": zeros(*s)}, deadline=None) for s in shapes)
        )
        assert [a["y"].shape for a in answers] == shapes

    run(scenario)


def test_no_rows_give_no_rows_and_run_nothing() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = version(scheduler, planned((4, 2, 5)))
        outputs = await model.predict("s", {"x": zeros(0, 2, 5)}, deadline=None)
        assert outputs["y"].shape == (0, 2, 5) and outputs["y"].dtype == np.float32
        assert scheduler.metrics.snapshot().batches == 0

    run(scenario)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (5, 2)])
def test_a_program_with_dependent_rows_takes_one_request_at_exactly_its_shape(
    shape: Shape,
) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        signature = planned(shape, rows=Rows.DEPENDENT)
        model = version(scheduler, signature)
        inputs = {"x": zeros(*shape)}
        await asyncio.gather(*(model.predict("s", inputs, deadline=None) for _ in range(3)))
        program = signature.programs[0][0]
        assert isinstance(program, Program) and len(program.batches) == 3
        await fails(model, InvalidArgument, "has no compiled program for x=", x=zeros(4, 2))

    run(scenario)


def test_inputs_without_a_common_batch_run_alone() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        program = Program({"x": (2, 3), "k": ()})
        signature = SignaturePrograms(spec=spec("x", "k"), programs=[(program, Rows.INDEPENDENT)])
        inputs = {"x": zeros(2, 3), "k": zeros()}
        outputs = await version(scheduler, signature).predict("s", inputs, deadline=None)
        assert outputs["y"].shape == (2, 3)

    run(scenario)


def scaled(*batches: int) -> SignaturePrograms:
    """x [?, 2] beside a scalar k that all rows share."""
    open_rows = TensorSpec(name="x:0", dtype="float32", dims=(Dim(-1), Dim(2)))
    scalar = TensorSpec(name="k:0", dtype="float32", dims=())
    return SignaturePrograms(
        spec=SignatureSpec(inputs={"x": open_rows, "k": scalar}, outputs={"y": open_rows}),
        programs=[(Scaled(n), Rows.INDEPENDENT) for n in batches],
    )


class Scaled(Program):
    """y = k x."""

    def __init__(self, rows: int) -> None:
        super().__init__({"x": (rows, 2), "k": ()})

    def run(self, inputs: HostTensors) -> HostTensors:
        super().run(inputs)
        return {"y": inputs["x"] * inputs["k"]}


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_a_scalar_beside_the_batch_is_padded_and_split_around(rows: int) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = version(scheduler, scaled(1, 4))
        x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        inputs = {"x": x, "k": np.array(3, np.float32)}
        np.testing.assert_array_equal((await model.predict("s", inputs, deadline=None))["y"], x * 3)
        assert (await model.predict("s", {**inputs, "x": x[:0]}, deadline=None))["y"].shape == (
            0,
            2,
        )

    run(scenario)


def test_strangers_share_a_batch_only_if_their_shared_inputs_are_equal() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        signature = scaled(8)
        model = version(scheduler, signature)
        gate = threading.Event()
        blocker = Program({"x": (1, 2)}, clock=lambda: None if gate.wait(20) else None)
        first = asyncio.ensure_future(
            scheduler.submit(alone("blocker", blocker), {"x": zeros(1, 2)})
        )
        await until(lambda: len(blocker.batches) == 1)
        factors = [2.0, float("nan"), 2.0, 5.0, float("nan")]
        requests = [
            asyncio.ensure_future(
                model.predict(
                    "s", {"x": zeros(1, 2) + i, "k": np.array(k, np.float32)}, deadline=None
                )
            )
            for i, k in enumerate(factors)
        ]
        await asyncio.sleep(0)
        gate.set()
        for i, (k, answer) in enumerate(zip(factors, await asyncio.gather(*requests), strict=True)):
            np.testing.assert_array_equal(answer["y"], (zeros(1, 2) + i) * np.float32(k))
        await first
        program = signature.programs[0][0]
        assert isinstance(program, Program)
        found = [float(b["k"]) for b in program.batches]
        np.testing.assert_array_equal(found, [2.0, float("nan"), 5.0])

    run(scenario)


def test_an_unplanned_shape_keeps_its_shared_inputs_beside_the_bucket() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        model = version(scheduler, scaled(), on_demand=compiler, batch_sizes=Buckets(sizes=(1, 4)))
        inputs = {"x": zeros(3, 2), "k": zeros()}
        assert (await model.predict("s", inputs, deadline=None))["y"].shape == (3, 2)
        assert compiler.asked == [{"x": (4, 2), "k": ()}]

    run(scenario)


def test_an_unknown_signature_is_an_invalid_argument() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        with pytest.raises(InvalidArgument) as caught:
            await version(scheduler, planned((1, 2))).predict("t", {}, deadline=None)
        assert str(caught.value) == 'Serving signature name: "t" not found in signature def'

    run(scenario)


def test_a_refused_signature_says_why() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        refused = SignaturePrograms(spec=spec("x"), programs=[], refused="It needs PyFunc.")
        await fails(version(scheduler, refused), Unimplemented, "^It needs PyFunc.$", x=zeros(1))

    run(scenario)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs \[\] given, want \['x'\]; missing: x$"),
        (
            {"x": zeros(1, 2), "z": zeros(1)},
            r"inputs \['x', 'z'\] given, want \['x'\]; unknown: z$",
        ),
        ({"x": np.zeros((1, 2))}, 'input "x" has dtype float64, want float32$'),
        ({"x": zeros(1, 2).astype(">f4")}, 'input "x" has dtype >f4, want float32$'),
    ],
)
def test_inputs_must_have_the_names_and_dtypes_of_the_signature(
    inputs: HostTensors, message: str
) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = version(scheduler, planned((1, 2)))
        await fails(
            model, InvalidArgument, f'^signature "s" of model m version 3: {message}', **inputs
        )

    run(scenario)


@pytest.mark.parametrize(
    ("signature", "shape", "message"),
    [
        (
            planned((1, 2), (4, 2)),
            (5, 7),
            "has no compiled program for x=[5,7]; it has x=[1,2]; x=[4,2]; "
            "plan it with `jaxrt compile --shape x=7`",
        ),
        (
            planned((1, 2), (4, 2), rows=Rows.DEPENDENT),
            (3, 2),
            "has no compiled program for x=[3,2]; it has x=[1,2]; x=[4,2]; "
            "plan it with `jaxrt compile --batch-sizes 1,3,4`",
        ),
        (
            planned(),
            (3, 2),
            "has no compiled program for x=[3,2]; it has no program at all; "
            "plan it with `jaxrt compile --shape x=2`",
        ),
        (
            planned(*((n, 2) for n in range(1, 11)), rows=Rows.DEPENDENT),
            (),
            "has no compiled program for x=[]; it has "
            + "; ".join(f"x=[{n},2]" for n in range(1, 9))
            + " and 2 more; the signature declares x=[?,?]",
        ),
    ],
)
def test_an_unplanned_shape_is_told_what_there_is_and_which_flag_adds_it(
    signature: SignaturePrograms, shape: Shape, message: str
) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        with pytest.raises(InvalidArgument) as caught:
            await version(scheduler, signature).predict("s", {"x": zeros(*shape)}, deadline=None)
        assert str(caught.value) == f'signature "s" of model m version 3 {message}'

    run(scenario)


def on_demand(scheduler: Scheduler, compiler: Compiler, **options: Any) -> Version:
    options.setdefault("batch_sizes", Buckets(sizes=(1, 4, 8)))
    return version(scheduler, planned((4, 2)), on_demand=compiler, **options)


def test_an_unplanned_shape_is_compiled_once_for_its_bucket_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler)
        requests = [
            asyncio.ensure_future(model.predict("s", {"x": zeros(n, 5)}, deadline=None))
            for n in (2, 3, 4)
        ]
        await until(lambda: len(compiler.asked) == 1)
        compiler.go.set()
        answers = await asyncio.gather(*requests)
        assert [a["y"].shape for a in answers] == [(2, 5), (3, 5), (4, 5)]
        assert compiler.asked == [{"x": (4, 5)}]
        assert all(name.startswith("jaxrt-compile-m") for name in compiler.threads)
        assert scheduler.metrics.snapshot().unplanned_compiles == 1

    with caplog.at_level(logging.WARNING, "jaxrt.serving"):
        run(scenario)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith(
        'signature "s" of model m version 3: unplanned shape x=[4,5] compiled in '
    )
    assert message.endswith(" s; plan it with `jaxrt compile --shape x=5`")


def test_buckets_made_on_demand_share_one_lane() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        model = on_demand(scheduler, compiler)
        for n in (8, 1, 20):
            outputs = await model.predict("s", {"x": zeros(n, 5)}, deadline=None)
            assert outputs["y"].shape == (n, 5)
        assert compiler.asked == [{"x": (8, 5)}, {"x": (1, 5)}]
        eight, one = compiler.programs
        assert (len(eight.batches), len(one.batches)) == (4, 1)

    run(scenario)


def test_no_rows_of_an_unplanned_shape_have_the_shape_its_program_gives() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        model = on_demand(scheduler, compiler)
        outputs = await model.predict("s", {"x": zeros(0, 5)}, deadline=None)
        assert outputs["y"].shape == (0, 5)
        assert compiler.asked == [{"x": (1, 5)}] and compiler.programs[0].batches == []

    run(scenario)


@pytest.mark.parametrize(
    ("compiler", "asked"),
    [
        (Compiler(Rows.DEPENDENT), [{"x": (4, 5)}, {"x": (3, 5)}]),
        (Compiler(refuses=lambda s: s["x"][0] != 3), [{"x": (4, 5)}, {"x": (3, 5)}]),
    ],
    ids=["dependent rows", "the graph fixes the batch"],
)
def test_where_the_bucket_does_not_do_the_exact_shape_is_compiled(
    compiler: Compiler, asked: list[Mapping[str, Shape]]
) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = on_demand(scheduler, compiler)
        for _ in range(2):
            outputs = await model.predict("s", {"x": zeros(3, 5)}, deadline=None)
            assert outputs["y"].shape == (3, 5)
        assert compiler.asked == asked
        assert [len(b["x"]) for b in compiler.programs[-1].batches] == [3, 3]

    run(scenario)


def test_an_exact_bucket_with_dependent_rows_is_asked_for_once() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler(Rows.DEPENDENT)
        model = on_demand(scheduler, compiler)
        await model.predict("s", {"x": zeros(4, 5)}, deadline=None)
        assert compiler.asked == [{"x": (4, 5)}]

    run(scenario)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_without_batch_sizes_or_a_batch_the_exact_shape_is_compiled(shape: Shape) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        model = on_demand(scheduler, compiler, batch_sizes=None)
        outputs = await model.predict("s", {"x": zeros(*shape)}, deadline=None)
        assert outputs["y"].shape == shape and compiler.asked == [{"x": shape}]

    run(scenario)


def test_a_shape_that_cannot_be_compiled_is_refused_and_remembered() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler(refuses=lambda shapes: True)
        model = on_demand(scheduler, compiler)
        for _ in range(2):
            await fails(
                model, InvalidArgument, r"^signature .*: Reshape cannot take", x=zeros(4, 5)
            )
        assert len(compiler.asked) == 1
        seen = scheduler.metrics.snapshot()
        assert (seen.unplanned_compiles, seen.unplanned_failures) == (0, 1)

    run(scenario)


def test_a_broken_compiler_is_the_servers_fault_and_tried_again() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler(error=MemoryError("no room"))
        model = on_demand(scheduler, compiler)
        for _ in range(2):
            await fails(model, Internal, "MemoryError: no room", x=zeros(4, 5))
        assert len(compiler.asked) == 2

    run(scenario)


def test_the_least_recently_used_unplanned_program_is_dropped() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        model = on_demand(scheduler, compiler, max_unplanned=2)
        for width in (5, 6, 5, 7, 5, 6):
            await model.predict("s", {"x": zeros(1, width)}, deadline=None)
        assert [a["x"][1] for a in compiler.asked] == [5, 6, 7, 6]

    run(scenario)


def test_a_deadline_ends_the_request_and_not_the_compile() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler)
        with pytest.raises(DeadlineExceeded, match=r"the unplanned shape x=\[1,5\] was compiled"):
            await model.predict("s", {"x": zeros(1, 5)}, deadline=time.monotonic() + 0.02)
        compiler.go.set()
        await model.predict("s", {"x": zeros(1, 5)}, deadline=None)
        assert len(compiler.asked) == 1
        assert scheduler.metrics.snapshot().expired == 1

    run(scenario)


def test_cancelling_one_of_those_who_wait_for_a_compile_leaves_the_others() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler)
        gone, stays = (
            asyncio.ensure_future(model.predict("s", {"x": zeros(1, 5)}, deadline=None))
            for _ in range(2)
        )
        await until(lambda: len(compiler.asked) == 1)
        gone.cancel()
        await asyncio.sleep(0)
        compiler.go.set()
        assert (await stays)["y"].shape == (1, 5)
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert len(compiler.asked) == 1

    run(scenario)


def test_compiles_that_wait_are_bounded() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler, max_unplanned=1)
        first = asyncio.ensure_future(model.predict("s", {"x": zeros(1, 5)}, deadline=None))
        await until(lambda: len(compiler.asked) == 1)
        await fails(model, Unavailable, "1 unplanned shapes wait to be compiled", x=zeros(1, 6))
        compiler.go.set()
        await first

    run(scenario)


def test_planned_requests_are_served_while_a_shape_compiles() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler)
        slow = asyncio.ensure_future(model.predict("s", {"x": zeros(1, 5)}, deadline=None))
        await until(lambda: len(compiler.asked) == 1)
        assert (await model.predict("s", {"x": zeros(1, 2)}, deadline=None))["y"].shape == (1, 2)
        assert not slow.done()
        compiler.go.set()
        await slow

    run(scenario)


def test_a_draining_version_finishes_what_it_accepted_and_refuses_the_rest() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler)
        accepted = asyncio.ensure_future(model.predict("s", {"x": zeros(1, 5)}, deadline=None))
        await until(lambda: len(compiler.asked) == 1)
        drained = asyncio.ensure_future(model.drain(20))
        await asyncio.sleep(0)
        await fails(model, Unavailable, "model m version 3 is shutting down", x=zeros(1, 2))
        compiler.go.set()
        assert (await accepted)["y"].shape == (1, 5)
        assert await drained
        await model.idle()

    run(scenario)


def test_after_the_grace_period_those_who_wait_for_a_compile_fail() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = Compiler()
        compiler.go.clear()
        model = on_demand(scheduler, compiler)
        waiting = asyncio.ensure_future(model.predict("s", {"x": zeros(1, 5)}, deadline=None))
        await until(lambda: len(compiler.asked) == 1)
        assert not await model.drain(0.01)
        with pytest.raises(Unavailable, match="model m is being unloaded"):
            await waiting
        compiler.go.set()
        await model.idle()

    run(scenario)


def test_a_program_that_does_not_take_the_signatures_inputs_is_refused() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        signature = SignaturePrograms(
            spec=spec("x"), programs=[(Program({"x": (1,), "k": (1,)}), Rows.INDEPENDENT)]
        )
        with pytest.raises(ValueError, match=r"a program takes \['k', 'x'\], the signature"):
            version(scheduler, signature)

    run(scenario)


@pytest.mark.parametrize(("seconds", "runs"), [(2.0, 1), (1 / 64, 4), (1 / 1024, 5)])
def test_warm_up_runs_every_planned_program_and_short_ones_several_times(
    seconds: float, runs: int
) -> None:
    async def whole() -> None:
        now = [0.0]

        def tick() -> None:
            now[0] += seconds

        scheduler = Scheduler(clock=lambda: now[0])
        buckets = [Program({"x": (n, 2)}, tick) for n in (1, 4)]
        lone = Program({"x": (3,)}, tick)
        signature = SignaturePrograms(
            spec=spec("x", dtype="int32"),
            programs=[*((p, Rows.INDEPENDENT) for p in buckets), (lone, Rows.DEPENDENT)],
        )
        model = version(scheduler, signature)
        warmed = await warm(model)
        assert [(w.signature, w.shapes["x"], w.seconds) for w in warmed] == [
            ("s", (1, 2), seconds),
            ("s", (4, 2), seconds),
            ("s", (3,), seconds),
        ]
        assert [len(p.batches) for p in (*buckets, lone)] == [runs, runs, runs]
        assert all((b["x"] == 0).all() for p in (*buckets, lone) for b in p.batches)
        assert [lane.seconds for lane in model.lanes()["s"]] == [
            {1: seconds, 4: seconds},
            {1: seconds},
        ]
        await scheduler.drain(20)

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", 1), ("bool", False), ("complex64", 1), ("string", b"")]
)
def test_warm_up_inputs_are_safe_values_of_the_signatures_dtype(dtype: str, value: object) -> None:
    async def scenario(scheduler: Scheduler) -> None:
        program = Program({"x": (2, 2)})
        program.run = lambda inputs: program.batches.append(inputs) or {"y": inputs["x"]}  # type: ignore
        signature = SignaturePrograms(
            spec=spec("x", dtype=dtype), programs=[(program, Rows.INDEPENDENT)]
        )
        await warm(version(scheduler, signature))
        assert (program.batches[0]["x"] == np.array(value, object)).all()

    run(scenario)


def test_warm_up_runs_a_program_of_two_signatures_once() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        program = Program({"x": (2, 2)})
        programs = [(program, Rows.INDEPENDENT)]
        both = {key: SignaturePrograms(spec=spec("x"), programs=programs) for key in ("s", "t")}
        model = Version(name="m", version=1, signatures=both, scheduler=scheduler)
        once = len(program.batches)
        warmed = await warm(model)
        assert [w.signature for w in warmed] == ["s", "t"]
        assert warmed[0].seconds == warmed[1].seconds
        first = len(program.batches) - once
        await warm(version(scheduler, both["s"]))
        assert first == len(program.batches) - first - once
        (lanes, others) = (model.lanes()[key] for key in ("s", "t"))
        assert [lane.seconds for lane in lanes] == [lane.seconds for lane in others]

    run(scenario)


def test_warm_up_finds_a_program_that_fails_before_any_request_does() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        program = Program({"x": (2, 2)})
        program.run = lambda inputs: {"y": inputs["x"][:1]}  # type: ignore[method-assign]
        signature = SignaturePrograms(spec=spec("x"), programs=[(program, Rows.INDEPENDENT)])
        with pytest.raises(Internal, match="wanted the batch as its first dimension"):
            await warm(version(scheduler, signature))

    run(scenario)
