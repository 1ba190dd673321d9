"""Where the time of a request goes, inside the server: stage by stage, and by function.

    python -m bench.http_profile ARTIFACT BODY.json [--concurrency 8] [--functions]

Everything runs in this process, without sockets: what `jaxrt serve` adds is HTTP itself, which
`http_compare` shows as `echo`. CPU time, the best of many short runs: a busy machine spoils some.
"""

import argparse
import asyncio
import cProfile
import functools
import pstats
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

from bench.machine import machine
from jaxrt import loader, target
from jaxrt.artifact import open_artifact
from jaxrt.cli import hosts
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.scheduler import QUICK_SECONDS, Scheduler
from jaxrt.serving.engine.servable import SignaturePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import warm
from jaxrt.serving.rest import decode, encode
from jaxrt.serving.rest.json_reader import parse
from jaxrt.serving.rest.number_block import written
from jaxrt.serving.rest.routes import RestApi

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


async def load(path: Path) -> tuple[RestApi, Version]:
    attached = target.select("cpu")
    artifact = open_artifact(path)
    model = loader.load(artifact, attached, open_host=hosts.opener(artifact))
    scheduler = Scheduler(quick_seconds=QUICK_SECONDS)
    version = Version(
        name="m",
        version=1,
        signatures={
            key: SignaturePrograms(
                spec=signature.spec, programs=[(e.program, e.rows) for e in signature.programs]
            )
            for key, signature in model.signatures.items()
            if not signature.stages and signature.programs
        },
        scheduler=scheduler,
    )
    await warm(version)
    manager = Manager(schedulers=[scheduler])
    manager.add(version)
    return RestApi(manager, clock=time.monotonic, timeout_ms=30_000, cors=False), version


async def stages(api: RestApi, version: Version, body: bytes) -> list[tuple[str, float]]:
    repeat = max(1, 20_000 // len(body))
    request = parse(body)
    name, spec = decode.signature(request, version.signatures)
    _, inputs = decode.inputs(request, spec)
    outputs = await version.predict(name, inputs, deadline=None)
    (lane,) = [lane for lane in version.lanes()[name] if 1 in lane.programs][:1]
    exact = {alias: x.shape for alias, x in inputs.items()}
    program = lane.programs[1]
    fits = dict(program.input_shapes) == exact
    predict = functools.partial(version.predict, name, inputs, deadline=None)
    answer = functools.partial(api.answer, "POST", PATH, HEADERS, body)
    found = [
        ("read the JSON", best(lambda: parse(body), repeat)),
        ("read it and make the tensors", best(lambda: _tensors(body, spec), repeat)),
        ("run the program, nothing else", best(lambda: program.run(inputs), repeat) if fits else 0),
        ("queue, batch, run, answer", await best_of(predict, repeat, 1)),
        ("write the JSON", best(lambda: encode.rows(outputs, spec.outputs), repeat)),
        ("all of it", await best_of(answer, repeat, 1)),
    ]
    return [line for line in found if line[1]]


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
    api, version = await load(given.artifact)
    print(f"{machine()}\n\n| stage, one request at a time | CPU µs |\n| --- | --- |")
    for name, taken in await stages(api, version, body):
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
