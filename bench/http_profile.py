"""Where the time of a request goes, inside the server: stage by stage, and by function.

    python -m bench.http_profile ARTIFACT BODY.json [--concurrency 8] [--functions]

Everything runs in this process, without sockets: what `jaxrt serve` adds is HTTP itself, which
`http_compare` shows as `echo`. CPU time, the best of many short runs: a busy machine spoils some.
"""

import argparse
import asyncio
import cProfile
import functools
import os
import pstats
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

from bench.machine import machine
from jaxrt import loader, target
from jaxrt.artifact import open_artifact
from jaxrt.cli import hosts, loading
from jaxrt.serving import memory
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.scheduler import QUICK_SECONDS, Scheduler
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import warm
from jaxrt.serving.rest import decode, encode
from jaxrt.serving.rest.json_reader import parse
from jaxrt.serving.rest.number_block import written
from jaxrt.serving.rest.routes import RestApi
from jaxrt.specs import stage_key

Run = Callable[[HostTensors], Mapping[str, Any]]

RUNS = 40
PATH = b"/v1/models/m:predict"
HEADERS = [(b"host", b"h"), (b"content-type", b"application/json")]


def best(work: Callable[[], object], repeat: int) -> float:
    """Microseconds of CPU time."""
    found = []
    for _ in range(RUNS):
        started = time.process_time()
        for _ in range(repeat):
            work()
        found.append((time.process_time() - started) / repeat)
    return min(found) * 1e6


async def best_of(work: Callable[[], Awaitable[object]], repeat: int, at_once: int) -> float:
    """Microseconds of CPU time of one of them, `at_once` under way."""

    async def client() -> None:
        for _ in range(repeat):
            await asyncio.ensure_future(work())

    found = []
    for _ in range(RUNS):
        started = time.process_time()
        await asyncio.gather(*(client() for _ in range(at_once)))
        found.append((time.process_time() - started) / (repeat * at_once))
    return min(found) * 1e6


async def load(path: Path) -> tuple[RestApi, Version, loader.LoadedModel]:
    attached = target.select("cpu")
    artifact = open_artifact(path)
    model = loader.load(artifact, attached, open_host=hosts.opener(artifact))
    scheduler = Scheduler(quick_seconds=QUICK_SECONDS)
    host = Scheduler(name="host", threads=os.cpu_count() or 1, quick_seconds=QUICK_SECONDS)
    version = Version(
        name="m",
        version=1,
        signatures=loading.signatures("m", model),
        scheduler=scheduler,
        host_scheduler=host,
    )
    await warm(version)
    memory.settle()
    manager = Manager(schedulers=[scheduler, host])
    manager.add(version)
    api = RestApi(manager, clock=time.monotonic, timeout_ms=30_000, cors=False)
    return api, version, model


Line = tuple[str, float]
"""What is done, and its microseconds."""


def programs(
    name: str, version: Version, model: loader.LoadedModel, inputs: HostTensors
) -> list[Line]:
    """The programs of one request, each by itself; none for shapes that have none."""
    found: list[Line] = []
    values = dict(inputs)
    parts = model.signatures[name].stages
    for number, stage in enumerate(parts):
        given = {alias: values[alias] for alias in stage.entry.spec.inputs}
        run = stage.host.run if stage.host else _program(version, stage_key(name, number), given)
        if run is None:
            return found
        where = "host" if stage.host else "device"
        work = functools.partial(run, given)
        found.append((f"run stage {number}, on the {where}", best(work, 50)))
        values |= run(given)
    if not parts and (run := _program(version, name, inputs)):
        found.append(("run the program, nothing else", best(functools.partial(run, inputs), 50)))
    return found


def _program(version: Version, key: str, inputs: HostTensors) -> Run | None:
    shapes = {alias: x.shape for alias, x in inputs.items()}
    for lane in version.lanes()[key]:
        for program in lane.programs.values():
            if dict(program.input_shapes) == shapes:
                return program.run
    return None


async def stages(
    api: RestApi, version: Version, model: loader.LoadedModel, body: bytes
) -> list[Line]:
    repeat = max(1, 20_000 // len(body))
    request = parse(body)
    name, spec = decode.signature(request, version.signatures)
    _, inputs = decode.inputs(request, spec)
    outputs = await version.predict(name, inputs, deadline=None)
    predict = functools.partial(version.predict, name, inputs, deadline=None)
    answer = functools.partial(api.answer, "POST", PATH, HEADERS, body)
    return [
        ("read the JSON", best(lambda: parse(body), repeat)),
        ("read it and make the tensors", best(lambda: _tensors(body, spec), repeat)),
        *programs(name, version, model, inputs),
        ("queue, batch, run, answer", await best_of(predict, repeat, 1)),
        ("write the JSON", best(lambda: encode.rows(outputs, spec.outputs), repeat)),
        ("all of it", await best_of(answer, repeat, 1)),
    ]


def writer() -> list[tuple[str, float, float]]:
    """What is written, our writer's and orjson's microseconds for it."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(1000, 100))
    shares = np.exp(3 * logits)
    found = []
    for what, values in (("logits", logits), ("softmax", shares / shares.sum(1, keepdims=True))):
        array = values.astype(np.float32)
        ours = best(functools.partial(written, array, (b", ", b"], [")), 1)
        option = orjson.OPT_SERIALIZE_NUMPY
        found.append((what, ours, best(functools.partial(orjson.dumps, array, option=option), 1)))
    return found


def _tensors(body: bytes, spec: Any) -> object:
    return decode.inputs(parse(body), spec)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("body", type=Path)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--functions", action="store_true")
    given = parser.parse_args()
    body = given.body.read_bytes()
    api, version, model = await load(given.artifact)
    print(f"{machine()}\n\n| stage, one request at a time | CPU µs |\n| --- | --- |")
    for name, taken in await stages(api, version, model, body):
        print(f"| {name} | {taken:.1f} |")
    answer = functools.partial(api.answer, "POST", PATH, HEADERS, body)
    repeat = max(1, 20_000 // len(body))
    shared = await best_of(answer, repeat, given.concurrency)
    print(f"| all of it, {given.concurrency} at once | {shared:.1f} |")
    print("\n| 1,000×100 floats | CPU µs | orjson's | ratio |\n| --- | --- | --- | --- |")
    for what, ours, theirs in writer():
        print(f"| {what} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |")
    if given.functions:
        profile = cProfile.Profile()
        profile.enable()
        await best_of(answer, repeat, given.concurrency)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    uvloop.run(main())
