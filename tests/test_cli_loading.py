"""What a version holds on to, and that unloading gives it back."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from endtoend import Artifact

from jaxrt import target
from jaxrt.cli.loading import Loading, VersionLoader
from jaxrt.compiler import LoadedProgram
from jaxrt.serving.engine.keeper import Keeper
from jaxrt.serving.engine.lifecycle import Retries
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import State
from jaxrt.serving.engine.storage import LocalStorage

pytest_plugins = ("endtoend_fixtures",)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Reference counts alone free what is freed, as in a server, which freezes what it loaded."""
    gc.disable()
    yield
    gc.enable()


def _no_saved_models() -> Any:
    raise AssertionError("an artifact is served")


def test_unloading_frees_programs_and_weights_without_a_search_for_cycles(
    artifact: Artifact, no_collection: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[weakref.ref[LoadedProgram]] = []
    initialize = LoadedProgram.__init__

    def remember(self: LoadedProgram, *arguments: Any, **named: Any) -> None:
        initialize(self, *arguments, **named)
        programs.append(weakref.ref(self))

    monkeypatch.setattr(LoadedProgram, "__init__", remember)

    async def scenario() -> None:
        schedulers = [Scheduler(name="device"), Scheduler(name="host")]
        manager = Manager(schedulers=schedulers)
        loading = Loading(
            target=target.attached("cpu"),
            scheduler=schedulers[0],
            host_scheduler=schedulers[1],
            saved_models=_no_saved_models,
        )
        loader = VersionLoader(loading, tell=lambda *_: None, stop=lambda: None)
        keeper = Keeper(manager, loader, LocalStorage(), retries=Retries(count=0), calm=True)
        keeper.aspire("rows", {1: str(artifact.path)})
        await keeper.settled(["rows"])
        assert all(program() is not None for program in programs) and programs
        inputs = {"x": np.ones((3, 4), np.float32)}
        await manager.get("rows").predict("serving_default", inputs, deadline=None)
        keeper.aspire("rows", {})
        async with asyncio.timeout(30):
            while manager.status("rows", 1)[0].state is not State.END:
                await asyncio.sleep(0.01)
        assert [program() for program in programs] == [None] * len(programs)
        await keeper.stop()
        await manager.drain(1.0)

    asyncio.run(scenario())


def test_who_holds_a_version_that_is_unloaded_is_answered(artifact: Artifact) -> None:
    async def scenario() -> None:
        schedulers = [Scheduler(name="device"), Scheduler(name="host")]
        manager = Manager(schedulers=schedulers)
        loading = Loading(
            target=target.attached("cpu"),
            scheduler=schedulers[0],
            host_scheduler=schedulers[1],
            saved_models=_no_saved_models,
        )
        loader = VersionLoader(loading, tell=lambda *_: None, stop=lambda: None)
        keeper = Keeper(manager, loader, LocalStorage(), retries=Retries(count=0))
        keeper.aspire("rows", {1: str(artifact.path)})
        await keeper.settled(["rows"])
        held = manager.get("rows")  # as a request whose body is still being read
        keeper.aspire("rows", {})
        async with asyncio.timeout(30):
            while manager.status("rows", 1)[0].state is not State.END:
                await asyncio.sleep(0.01)
        inputs = {"x": np.ones((3, 4), np.float32)}
        answer = await held.predict("serving_default", inputs, deadline=None)
        assert all(len(array) == 3 for array in answer.values())
        await keeper.stop()
        await manager.drain(1.0)

    asyncio.run(scenario())
