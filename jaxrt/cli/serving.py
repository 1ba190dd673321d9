"""Start, run and stop of the server: the one place where all its parts meet."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from starlette.applications import Starlette

from jaxrt import target
from jaxrt.cli import (
    batching,
    cluster,
    compression,
    console,
    copies,
    footprint,
    grpcflags,
    monitoring,
    options,
    ports,
    threads,
)
from jaxrt.cli.choices import Choices
from jaxrt.cli.cluster import Cluster
from jaxrt.cli.following import Following
from jaxrt.cli.loading import Loading, Replay, VersionLoader
from jaxrt.cli.loss import Loss
from jaxrt.cli.placing import Placing, count
from jaxrt.cli.ports import Ports
from jaxrt.cli.ready import Ready
from jaxrt.cli.saving import Lazily
from jaxrt.cli.settings import Settings
from jaxrt.cli.startlog import started_tables, where_lines
from jaxrt.cli.tables import INIT_OP
from jaxrt.cli.wanted import Wanted, check_readable, wanted
from jaxrt.errors import Code, RequestError
from jaxrt.hosts import Hosts
from jaxrt.serving import server, workers
from jaxrt.serving.app import build_app
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.remotestorage import AnyStorage
from jaxrt.serving.engine.scheduler import QUICK_SECONDS, Scheduler
from jaxrt.serving.engine.states import States
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import Warmed
from jaxrt.serving.limits import Limits, unlimited_if_zero
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.page import Page
from jaxrt.serving.replay import replay
from jaxrt.serving.rpc.service import GrpcService
from jaxrt.serving.workers import Post
from jaxrt.target import Target

log = logging.getLogger("jaxrt.serving")


def serve(settings: Settings, *, started: float) -> None:
    """Loads the models, warms them up, opens the port; returns after a drained stop.

    `started` is the process's start by time.perf_counter. Raises JaxrtError leaves before the
    port opens.
    """
    hosts = Cluster.of(settings)
    if hosts is not None and hosts.index:
        cluster.follow(settings, hosts)
        return
    options.buckets(settings.batch_sizes)  # refused though nobody may need it
    if not settings.meshing.plain:
        settings.meshing.check()
    path = monitoring.path_of(settings)
    post = Post.parse(settings.worker) if settings.worker else None
    calls = monitoring.counting(post)
    queues = batching.queues(settings, calls)
    grpc = grpcflags.options(settings)
    with ports.bound(settings, post) as open_ports, cluster.leading(hosts) as others:
        if post is not None and (cores := workers.cores(post.index, post.count)):
            os.sched_setaffinity(0, cores)  # before XLA counts them
        first = wanted(settings, AnyStorage(copies.copies(settings.cache_dir)))
        check_readable(first.models)
        threads.share_gpu(settings.per_process_gpu_memory_fraction, os.environ)
        with threads.pool(settings.intra_op_threads):
            attached = target.select(settings.device)
        compression.check(settings.compression, attached)
        with contextlib.ExitStack() as stack:
            saved_models = Lazily(stack, _choices(batching.sized(settings, queues)), attached)
            several = others is not None or len(target.devices(attached.platform)) > 1
            placing = Placing(several=several, replicas=count(settings.replicas), hosts=others)
            engine = _engine(settings, first, saved_models, queues, calls, post, placing)
            # Another worker would go on with the old set.
            reload = engine.following.models if post is None else None
            beside = GrpcService(
                engine.manager,
                open_ports.grpc,
                grpc,
                calls=calls,
                reload=reload,
                needed="port" in settings.given,
            )
            app = _app(settings, engine.manager, calls, monitoring.page(path, calls, post))
            if not _run(app, open_ports, beside, post, engine, settings, started):
                log.error("requests were unfinished and failed")
                logging.shutdown()
                # What still runs, a program or a compile, can be neither stopped nor waited for.
                os._exit(1)
            if others is not None and others.gone.is_set():
                cluster.leave(others)


@dataclasses.dataclass(frozen=True, slots=True)
class _Engine:
    """What is served, and what keeps it up to date."""

    manager: Manager
    following: Following
    saved_models: Lazily
    hosts: Hosts | None


def _engine(
    settings: Settings,
    first: Wanted,
    saved_models: Lazily,
    queues: batching.Queues | None,
    calls: Calls,
    post: Post | None,
    placing: Placing,
) -> _Engine:
    attached = saved_models.target
    device, host = _schedulers(settings, attached, quick=not placing.several)
    footprint.build(calls, attached)
    manager = Manager(schedulers=[device, host], observer=States(calls))
    loading = Loading(
        target=attached,
        placing=placing,
        scheduler=device,
        host_scheduler=host,
        saved_models=saved_models.get,
        alone=post is None,
        queues=queues,
        calls=calls,
    )
    tell = _Tell(quiet=post is not None and post.index > 0)
    loader = VersionLoader(
        loading, tell=tell, stop=saved_models.stop, replay=_replay(settings, calls)
    )
    following = Following(settings, first, manager, loader)
    return _Engine(manager, following, saved_models, placing.hosts)


def _app(settings: Settings, manager: Manager, calls: Calls, page: Page | None) -> Starlette:
    return build_app(
        manager,
        unready=manager.missing,
        timeout_ms=settings.rest_api_timeout_in_ms,
        cors=settings.rest_api_enable_cors_support,
        check_method_name=settings.enable_signature_method_name_check,
        max_inflated=settings.rest_api_max_inflated_bytes,
        strict_integers=settings.rest_api_strict_integers,
        calls=calls,
        page=page,
    )


def _replay(settings: Settings, calls: Calls) -> Replay | None:
    """Warm-up requests, unless the flags say otherwise."""
    if not settings.enable_model_warmup:
        return None

    async def replayed(version: Version, directory: Path) -> None:
        started = time.perf_counter()
        try:
            count = await replay(
                version,
                directory,
                iterations=settings.num_request_iterations_for_warmup,
                check_method_name=settings.enable_signature_method_name_check,
            )
        except RequestError as error:
            calls.warmed(str(directory), error.code, time.perf_counter() - started, 0)
            raise
        if count:
            calls.warmed(str(directory), Code.OK, time.perf_counter() - started, count)
            name, number = version.name, version.version
            log.info("%s version %d: warm-up requests replayed: %d", name, number, count)

    return replayed


def _choices(settings: Settings) -> Choices:
    return Choices(
        cache_dir=str(settings.cache_dir) if settings.cache_dir is not None else None,
        device=settings.device,
        batch_sizes=settings.batch_sizes,
        shapes=settings.shapes,
        tags=settings.tags,
        autotune=settings.autotune,
        disabled_passes=settings.disabled_passes,
        precision=settings.precision,
        keep_f32=settings.keep_f32,
        compression=settings.compression,
        meshing=settings.meshing,
        replicas=count(settings.replicas),
        disable_optimizer=settings.disable_optimizer,
        intra_op_threads=settings.intra_op_threads,
        per_model_batching=(
            settings.enable_batching and settings.enable_per_model_batching_parameters
        ),
        verbose=settings.verbose,
    )


def _schedulers(
    settings: Settings, attached: Target, *, quick: bool
) -> tuple[Scheduler, Scheduler]:
    """Of the device, and of the host's segments. `quick`: a program waits for no other's end."""
    limit = settings.max_enqueued_batches
    stages = settings.inter_op_threads or os.cpu_count() or 1
    # An accelerator runs one program at a time: a quick one would keep the loop waiting for it.
    alone = attached.platform == "cpu" and quick
    return (
        Scheduler(
            name=attached.platform,
            most=len(os.sched_getaffinity(0)) if alone else 1,
            max_enqueued_batches=limit,
            quick_seconds=QUICK_SECONDS if alone else 0.0,
        ),
        Scheduler(
            name="host",
            threads=stages,
            max_enqueued_batches=limit,
            quick_seconds=QUICK_SECONDS if quick else 0.0,
        ),
    )


def _run(
    app: Starlette,
    open_ports: Ports,
    beside: GrpcService,
    post: Post | None,
    engine: _Engine,
    settings: Settings,
    started: float,
) -> bool:
    """Loads, serves, drains; whether every accepted request was answered."""

    async def start() -> None:
        try:
            await engine.following.start()
            await asyncio.to_thread(engine.saved_models.rest)
            _name_what_had_no_effect(settings, engine.saved_models)
            if post is not None:
                await workers.report(post)
        except BaseException:
            await engine.following.stop()
            raise

    def opened() -> None:
        if post is not None:
            return  # the supervisor says so
        if engine.hosts is not None:
            loss = Loss(asyncio.get_running_loop(), engine.manager)
            engine.hosts.watch(loss.told)
        model = next(iter(engine.following.models.names), "MODEL")
        log.info("ready in %.2f s: %s", time.perf_counter() - started, open_ports.where(model))

    async def drain(grace: float) -> bool:
        _, finished = await asyncio.gather(engine.following.stop(), engine.manager.drain(grace))
        return finished

    return server.run(
        app,
        open_ports.rest,
        api=app.state.api,
        beside=beside,
        limits=Limits(body=unlimited_if_zero(settings.rest_api_max_body_bytes)),
        start=start,
        opened=opened,
        drain=drain,
        grace_seconds=settings.grace,
    )


def _name_what_had_no_effect(settings: Settings, saved_models: Lazily) -> None:
    if settings.disable_optimizer and saved_models.used:
        log.warning(options.UNOPTIMIZED)
    if settings.plans_shapes and not saved_models.used:
        log.warning(
            "--batch-sizes, --shape, --autotune, --disable-pass, --precision, --keep-f32, "
            "--mesh, --shard, --shard-policy and --disable_optimizer have no effect: they are for "
            "SavedModels, and all models here are artifacts; pass them to `jaxrt compile`"
        )


class _Tell:
    """What the log says of a version that is loaded and warm."""

    def __init__(self, *, quiet: bool) -> None:
        """`quiet`: another worker says the same."""
        self._quiet = quiet

    def __call__(self, name: str, ready: Ready, warmed: Sequence[Warmed], calm: bool) -> None:
        if self._quiet:
            return
        number = ready.version.version
        if not calm:  # later on, a log of many reloads is no place for tables
            for table in started_tables(name, number, ready, warmed):
                console.stderr().print(table)
        for level, line in where_lines(name, number, ready):
            log.log(level, "%s", line)
        for line in _refusals(ready):
            log.warning("%s", line)


def _refusals(ready: Ready) -> Iterator[str]:
    for key, signature in ready.model.signatures.items():
        if signature.refused and key != INIT_OP:
            yield f"signature {key!r} is not served: {signature.refused}"
