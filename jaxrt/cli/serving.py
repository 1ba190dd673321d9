"""Start, run and stop of the server: the one place where all its parts meet."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxrt import target
from jaxrt.cli import console, loading, options, threads
from jaxrt.cli.loading import Ready, SavedModels, Wanted
from jaxrt.cli.settings import Settings
from jaxrt.cli.startlog import started_tables, where_lines
from jaxrt.cli.tables import INIT_OP
from jaxrt.errors import FailedPrecondition, UsageError
from jaxrt.serving import server, workers
from jaxrt.serving.app import build_app
from jaxrt.serving.engine import source
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.scheduler import QUICK_SECONDS, Scheduler
from jaxrt.serving.engine.warmup import Warmed, warm
from jaxrt.serving.workers import Post
from jaxrt.target import Target

log = logging.getLogger("jaxrt.serving")


def serve(settings: Settings, *, started: float) -> None:
    """Loads the models, warms them up, opens the port; returns after a drained stop.

    `started` is the process's start by time.perf_counter. Raises JaxrtError leaves before the
    port opens.
    """
    options.buckets(settings.batch_sizes)  # refused though nobody may need it
    post = Post.parse(settings.worker) if settings.worker else None
    with _socket(settings, post) as sock:
        if post is not None and (cores := workers.cores(post.index, post.count)):
            os.sched_setaffinity(0, cores)  # before XLA counts them
        models = loading.wanted(
            settings.path,
            model_name=settings.model_name,
            model_base_path=_local(settings.model_base_path),
            model_config_file=_local(settings.model_config_file),
        )
        threads.share_gpu(settings.per_process_gpu_memory_fraction, os.environ)
        with threads.pool(settings.intra_op_threads):
            attached = target.select(settings.device)
        with contextlib.ExitStack() as stack:
            saved_models = _Lazily(stack, settings, attached)
            device, host = _schedulers(settings, attached)
            loaded = _load(models, saved_models, device, host)
            if post is not None:
                _refuse_state(loaded)
            manager = Manager(schedulers=[device, host], models=[m.name for m in models])
            if not _run(sock, post, manager, loaded, settings, started):
                log.error("requests were unfinished and failed")
                logging.shutdown()
                # What still runs, a program or a compile, can be neither stopped nor waited for.
                os._exit(1)


def _socket(settings: Settings, post: Post | None) -> socket.socket:
    if post is not None:
        return socket.socket(fileno=post.socket)
    if settings.rest_api_port is None:
        raise UsageError("REST is off, and nothing else answers: pass --rest_api_port 8501")
    return server.bind(settings.rest_api_host, settings.rest_api_port)


def _local(path: str | None) -> Path | None:
    return source.local_path(path) if path is not None else None


def _refuse_state(loaded: Sequence[tuple[Wanted, list[Ready]]]) -> None:
    for model, versions in loaded:
        for ready in versions:
            for key, signature in ready.model.signatures.items():
                if any(
                    stage.entry.host and stage.entry.host.stateful for stage in signature.stages
                ):
                    raise UsageError(
                        f"signature {key!r} of model {model.name} has state, which several "
                        "processes would each have of their own; serve it with --num-workers 1"
                    )


def _schedulers(settings: Settings, attached: Target) -> tuple[Scheduler, Scheduler]:
    """Of the device, and of the host's segments."""
    limit = settings.max_enqueued_batches
    stages = settings.inter_op_threads or os.cpu_count() or 1
    # An accelerator runs one program at a time: a quick one would keep the loop waiting for it.
    quick = QUICK_SECONDS if attached.platform == "cpu" else 0.0
    return (
        Scheduler(name=attached.platform, max_enqueued_batches=limit, quick_seconds=quick),
        Scheduler(name="host", threads=stages, max_enqueued_batches=limit),
    )


def _run(
    sock: socket.socket,
    post: Post | None,
    manager: Manager,
    loaded: Sequence[tuple[Wanted, list[Ready]]],
    settings: Settings,
    started: float,
) -> bool:
    """Warms up, serves, drains; whether every accepted request was answered."""
    names = [model.name for model, _ in loaded]

    async def start() -> None:
        allow = settings.allow_version_labels_for_unavailable_models
        await _open(manager, loaded, allow, quiet=post is not None and post.index > 0)
        if post is not None:
            await workers.report(post)
            return
        url = f"http://localhost:{sock.getsockname()[1]}/v1/models/{names[0]}:predict"
        log.info("ready in %.2f s: POST %s", time.perf_counter() - started, url)

    app = build_app(
        manager,
        unready=lambda: names,
        timeout_ms=settings.rest_api_timeout_in_ms,
        cors=settings.rest_api_enable_cors_support,
        check_method_name=settings.enable_signature_method_name_check,
    )
    return server.run(
        app,
        sock,
        api=app.state.api,
        start=start,
        drain=manager.drain,
        grace_seconds=settings.grace,
    )


def _load(
    models: Sequence[Wanted], saved_models: "_Lazily", scheduler: Scheduler, host: Scheduler
) -> list[tuple[Wanted, list[Ready]]]:
    plan = loading.Loading(
        target=saved_models.target,
        scheduler=scheduler,
        host_scheduler=host,
        saved_models=saved_models.get,
    )
    with console.progress("load models") as steps:
        loaded = loading.load(models, plan, steps=steps)
    if saved_models.settings.plans_shapes and not saved_models.used:
        log.warning(
            "--batch-sizes, --shape, --autotune, --disable-pass and --disable_optimizer have no "
            "effect: they are for SavedModels, and all models here are artifacts; pass them to "
            "`jaxrt compile`"
        )
    return loaded


class _Lazily:
    """The converter side is imported when a SavedModel is there to be served, not before."""

    def __init__(self, stack: contextlib.ExitStack, settings: Settings, attached: Target) -> None:
        self._stack = stack
        self.settings = settings
        self.target = attached
        self._found: SavedModels | None = None

    @property
    def used(self) -> bool:
        return self._found is not None

    def get(self) -> SavedModels:
        if self._found is None:
            from jaxrt.cli import building
            from jaxrt.cli.savedmodels import Cache
            from jaxrt.store import Store

            if self.settings.disable_optimizer:
                log.warning(options.UNOPTIMIZED)
            self._found = Cache(
                store=Store(self.settings.cache_dir or building.default_cache()),
                target=self.target,
                bridges=self._stack.enter_context(building.Bridges()),
                batch_sizes=options.buckets(self.settings.batch_sizes),
                shapes=self.settings.shapes,
                tags=options.tag_list(self.settings.tags),
                optimize=not self.settings.disable_optimizer,
                passes=building.passes(self.settings.autotune, self.settings.disabled_passes),
            )
        return self._found


async def _open(
    manager: Manager,
    loaded: Sequence[tuple[Wanted, list[Ready]]],
    allow_unavailable: bool,
    *,
    quiet: bool,
) -> None:
    """Runs every planned program once; then the versions are AVAILABLE and get their labels."""
    for model, versions in loaded:
        for ready in versions:
            warmed = await warm(ready.version)
            if not quiet:
                _tell(model.name, ready, warmed)
            manager.add(ready.version)
        try:
            manager.set_labels(model.name, model.labels, allow_unavailable=allow_unavailable)
        except FailedPrecondition as error:
            raise UsageError(
                f"version_labels: {error}; correct them, or pass "
                "--allow_version_labels_for_unavailable_models=true"
            ) from error


def _tell(name: str, ready: Ready, warmed: Sequence[Warmed]) -> None:
    number = ready.version.version
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
