"""TensorFlow Serving's batching over HTTP: whole answers of a real version with gated programs."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from rest_server import infer, inference_error, serving

from jaxrt.serving.app import build_app
from jaxrt.serving.engine.batchpool import BatchPool
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Rows, SignaturePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

Address = tuple[str, int]


class Program:
    """`outputs` of its inputs, which have to be of exactly its shapes, behind a gate."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        outputs: Callable[[HostTensors], HostTensors],
        gate: threading.Event,
        ran: list[list[Any]],
    ) -> None:
        self.input_shapes = dict(shapes)
        self.output_shapes = {alias: value.shape for alias, value in outputs(self._zeros()).items()}
        self._outputs = outputs
        self._gate = gate
        self._ran = ran

    def _zeros(self) -> HostTensors:
        return {alias: np.zeros(shape, np.float32) for alias, shape in self.input_shapes.items()}

    def run(self, inputs: HostTensors) -> HostTensors:
        assert {alias: x.shape for alias, x in inputs.items()} == self.input_shapes
        self._ran.append(next(iter(inputs.values())).tolist())
        assert self._gate.wait(20)
        return self._outputs(inputs)


class Bench:
    """A server of one model `m` with several signatures, and what its programs ran."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.ran: list[list[Any]] = []
        self._sizes = sizes

    def signature(
        self,
        outputs: Callable[[HostTensors], HostTensors],
        *aliases: str,
        rows: Rows = Rows.INDEPENDENT,
        inner: tuple[int, ...] = (),
    ) -> SignaturePrograms:
        shapes = [dict.fromkeys(aliases, (n, *inner)) for n in self._sizes]
        programs = [(Program(shape, outputs, self.gate, self.ran), rows) for shape in shapes]
        return SignaturePrograms(
            spec=SignatureSpec(
                inputs={alias: tensor(f"{alias}:0") for alias in aliases},
                outputs={alias: tensor(f"{alias}_out:0") for alias in programs[0][0].output_shapes},
            ),
            programs=programs,
        )

    def signatures(self) -> dict[str, SignaturePrograms]:
        return {
            "serving_default": self.signature(lambda i: {"y": i["x"] * 2}, "x"),
            "add": self.signature(lambda i: {"s": i["a"] + i["b"]}, "a", "b"),
            "sum": self.signature(
                lambda i: {"t": np.float32(i["v"].sum())},  # type: ignore[dict-item]
                "v",
                rows=Rows.DEPENDENT,
            ),
            "first": self.signature(lambda i: {"f": i["w"][:1]}, "w", rows=Rows.DEPENDENT),
            "fail": self.signature(_fail, "z"),
        }


def _fail(inputs: HostTensors) -> HostTensors:
    if inputs["z"].any():
        raise ValueError("not zero")
    return {"q": inputs["z"]}


def tensor(name: str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", dims=(Dim(-1),))


@contextlib.contextmanager
def batching(
    *, sizes: tuple[int, ...] = (2, 4), threads: int = 1, timeout_ms: int = 30_000, **values: Any
) -> Iterator[tuple[Address, Bench]]:
    bench = Bench(sizes)
    scheduler = Scheduler()
    parameters = BatchingParameters(**({"max_batch_size": 4} | values))
    model = Version(
        name="m",
        version=1,
        signatures=bench.signatures(),
        scheduler=scheduler,
        batching=(parameters, BatchPool(threads=threads)),
    )
    manager = Manager(schedulers=[scheduler])
    manager.add(model)
    try:
        with serving(build_app(manager, timeout_ms=timeout_ms)) as address:
            yield address, bench
            bench.gate.set()
    finally:
        assert asyncio.run(scheduler.drain(20))


def rows(*values: float, signature: str = "serving_default") -> bytes:
    return json.dumps({"signature_name": signature, "instances": list(values)}).encode()


def columns(value: Any, signature: str = "serving_default") -> bytes:
    return json.dumps({"signature_name": signature, "inputs": value}).encode()


def predictions(address: Address, body: bytes) -> list[float]:
    status, answer = infer(address, "m:predict", body)
    assert status == 200, answer
    found: list[float] = json.loads(answer)["predictions"]
    return found


def refused(address: Address, body: bytes) -> tuple[int, str]:
    return inference_error(address, "m:predict", body)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def ask(pool: ThreadPoolExecutor, address: Address, body: bytes) -> "Future[tuple[int, bytes]]":
    return pool.submit(infer, address, "m:predict", body)


ALLOWED: dict[str, Any] = {"allowed_batch_sizes": (2, 4)}


def test_batches_run_at_allowed_sizes_and_answers_have_no_padding() -> None:
    with batching(**ALLOWED) as (address, bench):
        assert predictions(address, rows(1)) == [2]
        assert predictions(address, rows(1, 2, 3)) == [2, 4, 6]
        assert predictions(address, rows(1, 2, 3, 4)) == [2, 4, 6, 8]
        assert bench.ran == [[1, 1], [1, 2, 3, 1], [1, 2, 3, 4]]


@pytest.mark.parametrize("sizes", [(8,), (1,), (1, 8)])
def test_allowed_sizes_without_programs_are_padded_or_split_to_those_there_are(
    sizes: tuple[int, ...],
) -> None:
    with batching(sizes=sizes, **ALLOWED) as (address, bench):
        assert predictions(address, rows(1, 2, 3)) == [2, 4, 6]
        assert {len(batch) for batch in bench.ran} <= set(sizes)


def test_clients_share_a_batch_while_it_is_open() -> None:
    with batching(batch_timeout_micros=30_000_000) as (address, bench):
        with ThreadPoolExecutor(4) as pool:
            answers = [ask(pool, address, rows(n)) for n in range(4)]
            found = [json.loads(answer.result(20)[1])["predictions"] for answer in answers]
        assert found == [[0], [2], [4], [6]]
        assert [sorted(batch) for batch in bench.ran] == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (rows(1, 2, 3, 4, 5), "Task size 5 is larger than maximum input batch size 4"),
        (columns(3.0), "Batching Run() input tensors must have at least one dimension"),
        (
            columns({"a": [1.0, 2.0], "b": [1.0]}, "add"),
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        (
            columns({"a": [1.0, 2.0], "b": 1.0}, "add"),
            "Batching Run() input tensors must have at least one dimension",
        ),
        (columns([1.0, 2.0], "sum"), "Batched output tensor has 0 dimensions"),
        (rows(1, 2, signature="sum"), "Batched output tensor has 0 dimensions"),
        (
            columns([1.0, 2.0], "first"),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_what_cannot_be_batched_is_a_400(body: bytes, message: str) -> None:
    with batching(**ALLOWED) as (address, _):
        assert refused(address, body) == (400, message)


def test_syntax_models_and_signatures_are_looked_at_before_the_queue() -> None:
    with batching() as (address, bench):
        assert refused(address, b"{")[0] == 400
        assert inference_error(address, "other:predict", rows(1, 2, 3, 4, 5))[0] == 404
        status, text = refused(address, rows(1, 2, 3, 4, 5, signature="none"))
        assert (status, text) == (
            400,
            'Serving signature name: "none" not found in signature def',
        )
        assert not bench.ran


def test_a_full_queue_is_a_503() -> None:
    with batching(max_enqueued_batches=1) as (address, bench), ThreadPoolExecutor(3) as pool:
        bench.gate.clear()
        running = ask(pool, address, rows(1, 2, 3, 4))
        until(lambda: len(bench.ran) == 1)
        waiting = ask(pool, address, rows(5, 6, 7))
        time.sleep(0.2)
        assert refused(address, rows(8, 9)) == (
            503,
            "The batch scheduling queue to which this task was submitted is full; currently 1 "
            "batches enqueued and max_enqueued_batches is 1",
        )
        # Another signature has a queue of its own.
        other = ask(pool, address, columns({"a": [1.0], "b": [2.0]}, "add"))
        bench.gate.set()
        assert [answer.result(20)[0] for answer in (running, waiting, other)] == [200] * 3


def test_a_full_queue_of_splitting_says_what_is_left() -> None:
    with batching(
        max_batch_size=8,
        max_enqueued_batches=1,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
    ) as (address, _):
        assert refused(address, rows(*range(5))) == (
            503,
            "The batch scheduling queue to which this task was submitted is full; task size is 5 "
            "but scheduling capacity is only 4 (num_enqueued_batches=1, max_enqueued_batches=1, "
            "open_batch_size=0, max_execution_batch_size=4)",
        )


def test_large_requests_are_split_when_that_is_on() -> None:
    with batching(
        max_batch_size=16,
        allowed_batch_sizes=(2, 4, 16),
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
    ) as (address, bench):
        assert predictions(address, rows(*range(9))) == [2 * n for n in range(9)]
        assert bench.ran == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 8]]
        assert refused(address, rows(*range(17))) == (
            400,
            "Task size 17 is larger than maximum input batch size 16",
        )


def test_a_request_whose_time_ran_out_in_the_queue_is_a_429() -> None:
    with batching(timeout_ms=100, batch_timeout_micros=300_000) as (address, bench):
        assert refused(address, rows(1)) == (
            429,
            "Run() timeout exceeded while waiting in batching queue",
        )
        assert not bench.ran
        assert predictions(address, rows(1, 2, 3, 4)) == [2, 4, 6, 8]


def test_a_batch_whose_time_runs_out_on_the_device_is_a_504() -> None:
    with batching(timeout_ms=200) as (address, bench):
        bench.gate.clear()
        status, text = refused(address, rows(1))
        assert status == 504
        assert "deadline" in text
        assert bench.ran == [[1, 1]]


def test_an_error_is_told_to_everyone_in_the_batch() -> None:
    with batching(batch_timeout_micros=30_000_000) as (address, _), ThreadPoolExecutor(2) as pool:
        bad, good = (rows(*values, signature="fail") for values in ((1, 0), (0, 0)))
        answers = [ask(pool, address, body).result for body in (bad, good)]
        found = [answer(20) for answer in answers]
        assert [status for status, _ in found] == [500, 500]
        assert all(b"not zero" in body for _, body in found)


def test_a_request_without_rows_is_answered_at_once() -> None:
    with batching(batch_timeout_micros=30_000_000) as (address, bench):
        status, answer = infer(address, "m:predict", columns([]))
        assert (status, json.loads(answer)) == (200, {"outputs": []})
        assert not bench.ran


def test_a_version_that_is_unloaded_answers_what_waits_in_its_queues() -> None:
    async def scenario() -> None:
        bench = Bench((4,))
        scheduler = Scheduler()
        model = Version(
            name="m",
            version=1,
            signatures=bench.signatures(),
            scheduler=scheduler,
            batching=(
                BatchingParameters(max_batch_size=4, batch_timeout_micros=30_000_000),
                BatchPool(threads=1),
            ),
        )
        x = {"x": np.ones(1, np.float32)}
        request = asyncio.ensure_future(model.predict("serving_default", x, deadline=None))
        await asyncio.sleep(0.01)
        assert not bench.ran
        assert await model.drain(20)
        assert (await request)["y"].tolist() == [2]
        assert await scheduler.drain(20)

    asyncio.run(scenario())


def test_without_the_flag_nothing_of_this_is_refused() -> None:
    bench = Bench((2, 4))
    scheduler = Scheduler()
    model = Version(name="m", version=1, signatures=bench.signatures(), scheduler=scheduler)
    manager = Manager(schedulers=[scheduler])
    manager.add(model)
    with serving(build_app(manager)) as address:
        assert predictions(address, rows(*range(11))) == [2 * n for n in range(11)]
        status, answer = infer(address, "m:predict", columns([1.0, 2.0], "sum"))
        assert (status, json.loads(answer)) == (200, {"outputs": 3.0})
        status, answer = infer(address, "m:predict", columns([1.0, 2.0], "first"))
        assert (status, json.loads(answer)) == (200, {"outputs": [1.0]})
    assert asyncio.run(scheduler.drain(20))
