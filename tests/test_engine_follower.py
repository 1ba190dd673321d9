"""Version directories that come and go, and sets of models that replace each other."""

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path

import pytest
from by_predict import ByPredict

from jaxrt.errors import (
    Code,
    DeviceError,
    FailedPrecondition,
    InvalidArgument,
    ModelError,
    NotFound,
)
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine import storage
from jaxrt.serving.engine.follower import Follower, NotAvailable
from jaxrt.serving.engine.keeper import Keeper
from jaxrt.serving.engine.lifecycle import Retries
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.servable import HostTensors, State
from jaxrt.serving.engine.source import All, Latest, Policy, Specific
from jaxrt.serving.engine.storage import LocalStorage
from jaxrt.specs import SignatureSpec

POLL = 0.02
LATEST = Latest()
NO_RETRIES = Retries(count=0, seconds=0.0)


def looped(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """A test that runs in an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(test(**fixtures))

    return run


class Product(ByPredict):
    """A version made of the file `model` in its directory."""

    def __init__(self, name: str, version: int, text: str) -> None:
        self.name, self.version, self.text = name, version, text
        self.signatures: Mapping[str, SignatureSpec] = {}
        self.servable = self
        self.answering = asyncio.Event()
        self.answering.set()
        self.closed = threading.Event()
        self.warmed = False

    async def predict(
        self, signature: str, inputs: HostTensors, *, deadline: float | None
    ) -> HostTensors:
        return inputs

    async def drain(self, grace: float) -> bool:
        return True

    async def warm(self, *, calm: bool) -> None:
        self.warmed = True

    async def finish(self) -> None:
        await self.answering.wait()

    def close(self) -> None:
        self.closed.set()


class Loader:
    """Reads `model`: `broken` fails, `hopeless` cannot ever be loaded."""

    def __init__(self) -> None:
        self.tries: list[tuple[str, int]] = []
        self.made: dict[tuple[str, int], Product] = {}
        self.may_load = threading.Event()
        self.may_load.set()
        self.while_loading: Callable[[], None] = lambda: None

    def load(self, name: str, version: int, directory: Path, *, calm: bool) -> Product:
        self.tries.append((name, version))
        assert self.may_load.wait(10)
        self.while_loading()
        try:
            text = (directory / "model").read_text()
        except OSError as error:
            raise ModelError(f"{directory}: no model in it") from error
        if text == "broken":
            raise ModelError(f"{directory}: broken")
        if text == "hopeless":
            raise DeviceError(f"{directory}: for another device")
        self.made[name, version] = Product(name, version, text)
        return self.made[name, version]

    def stop(self) -> None:
        self.may_load.set()


class World:
    """A server without HTTP, on a folder."""

    def __init__(self, home: Path, *, retries: Retries, allow: bool, poll: float) -> None:
        self.home = home
        self.loader = Loader()
        self.manager = Manager()
        self.keeper = Keeper(self.manager, self.loader, LocalStorage(), retries=retries, calm=True)
        self.follower = Follower(
            self.manager,
            self.keeper,
            LocalStorage(),
            poll_seconds=poll,
            allow_unavailable_labels=allow,
        )

    def put(self, name: str, version: str, text: str = "good") -> Path:
        """A version, moved into place whole."""
        made = self.home / f".{name}-{version}"
        made.mkdir()
        (made / "model").write_text(text)
        (self.home / name).mkdir(exist_ok=True)
        return made.rename(self.home / name / version)

    def config(self, name: str, policy: Policy = LATEST, **labels: int) -> ModelConfig:
        return ModelConfig(name=name, base_path=str(self.home / name), policy=policy, labels=labels)

    def state(self, name: str, version: int) -> State:
        try:
            return self.manager.status(name, version)[0].state
        except NotFound:
            return State.UNKNOWN

    async def until(self, name: str, version: int, state: State) -> None:
        async with asyncio.timeout(10):
            while self.state(name, version) is not state:
                await asyncio.sleep(0.005)

    async def polls(self, count: int = 3) -> None:
        await asyncio.sleep(count * POLL + 0.05)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were just written are whole, unless a test says otherwise."""
    monkeypatch.setattr(storage, "SETTLED_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def world(
    home: Path,
    *,
    retries: Retries = NO_RETRIES,
    allow: bool = False,
    poll: float = POLL,
) -> AsyncIterator[World]:
    made = World(home, retries=retries, allow=allow, poll=poll)
    try:
        yield made
    finally:
        await made.follower.stop()


@looped
async def test_a_new_version_takes_over_and_the_old_one_is_unloaded(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        assert w.manager.get("m").version == 1
        w.put("m", "00002")
        await w.until("m", 1, State.END)
        assert w.manager.get("m").version == 2
        assert w.loader.made["m", 1].closed.is_set() and w.loader.made["m", 2].warmed
        with pytest.raises(NotFound):
            w.manager.get("m", version=1)


@looped
async def test_the_old_version_serves_while_the_new_one_loads_and_when_it_fails(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        w.loader.may_load.clear()
        w.put("m", "2", "broken")
        await w.until("m", 2, State.LOADING)
        assert w.manager.get("m").version == 1
        w.loader.may_load.set()
        await w.until("m", 2, State.END)
        await w.polls()
        assert w.manager.get("m").version == 1
        (status,) = w.manager.status("m", 2)
        assert status.code is Code.INVALID_ARGUMENT
        assert status.message == f"{tmp_path}/m/2: broken"
        assert w.loader.tries.count(("m", 2)) == 1


@looped
async def test_unloading_waits_for_the_requests_that_are_being_answered(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        old = w.loader.made["m", 1]
        old.answering.clear()
        w.put("m", "2")
        await w.until("m", 1, State.UNLOADING)
        await w.polls()
        assert w.state("m", 1) is State.UNLOADING and not old.closed.is_set()
        assert w.manager.get("m").version == 2
        old.answering.set()
        await w.until("m", 1, State.END)
        assert old.closed.is_set()


@looped
async def test_a_version_that_vanishes_is_unloaded_also_when_it_was_the_last(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        path = w.put("m", "1")
        await w.follower.start([w.config("m")])
        path.rename(tmp_path / "away")
        await w.until("m", 1, State.END)
        with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(m\)$"):
            w.manager.get("m")
        assert not w.manager.ready()
        (tmp_path / "away").rename(path)
        await w.until("m", 1, State.AVAILABLE)


@looped
async def test_a_base_path_that_vanishes_changes_nothing_and_holds_up_nobody(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1"), w.put("n", "1")
        await w.follower.start([w.config("m"), w.config("n")])
        (tmp_path / "m").rename(tmp_path / "gone")
        w.put("n", "2")
        await w.until("n", 1, State.END)
        assert w.manager.get("m").version == 1


@looped
async def test_the_start_waits_for_a_base_path_and_for_versions_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        start = asyncio.create_task(w.follower.start([w.config("m")]))
        await w.polls()
        assert caplog.text.count("m: found no base path to list") > 1
        (tmp_path / "m").mkdir()
        await w.polls()
        assert "No versions of servable m found under base path" in caplog.text
        assert not start.done()
        w.put("m", "1")
        await start
        assert w.manager.ready()


@looped
async def test_policies_follow_what_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for name in ("two", "all", "some"):
            for version in ("1", "2", "3"):
                w.put(name, version)
        await w.follower.start(
            [w.config("two", Latest(2)), w.config("all", All()), w.config("some", Specific((2, 9)))]
        )
        assert [s.version for s in w.manager.status("two")] == [3, 2]
        assert [s.version for s in w.manager.status("all")] == [3, 2, 1]
        assert [s.version for s in w.manager.status("some")] == [2]
        for name in ("two", "all", "some"):
            w.put(name, "9")
        await w.until("two", 2, State.END)
        await w.until("all", 9, State.AVAILABLE)
        await w.until("some", 9, State.AVAILABLE)
        assert w.state("two", 9) is w.state("two", 3) is State.AVAILABLE
        assert w.state("some", 2) is State.AVAILABLE


@looped
async def test_failed_loads_are_tried_again_then_given_up_until_the_version_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, retries=Retries(count=2, seconds=0.01)) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        path = w.put("m", "2", "broken")
        await w.until("m", 2, State.END)
        await w.polls()
        assert w.loader.tries.count(("m", 2)) == 3
        assert "m version 2: loading failed, try 1 of 3, the next one in 0.01 s" in caplog.text
        path.rename(tmp_path / "away")
        await w.polls()
        (tmp_path / "away").rename(path)
        async with asyncio.timeout(10):
            while w.loader.tries.count(("m", 2)) < 6:
                await asyncio.sleep(0.01)


@looped
async def test_what_cannot_succeed_is_tried_once(tmp_path: Path) -> None:
    async with world(tmp_path, retries=Retries(count=5, seconds=0.0)) as w:
        w.put("m", "1", "hopeless")
        with pytest.raises(NotAvailable):
            await w.follower.start([w.config("m")])
        assert w.loader.tries == [("m", 1)]


@looped
async def test_a_start_without_any_version_that_loads_says_why(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1", "broken"), w.put("n", "1")
        with pytest.raises(NotAvailable) as caught:
            await w.follower.start([w.config("m"), w.config("n")])
        assert str(caught.value) == (
            "1 servable(s) did not become available: {{name: m version: 1} due to error: "
            f"INVALID_ARGUMENT: {tmp_path}/m/1: broken, }}, }}"
        )
        assert [type(error) for error in caught.value.errors] == [ModelError]


@looped
async def test_a_half_copied_directory_is_tried_again_when_the_rest_has_come(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        (tmp_path / "m" / "2").mkdir()
        await w.until("m", 2, State.END)
        assert w.manager.get("m").version == 1
        (tmp_path / "m" / "2" / "model").write_text("good")
        await w.until("m", 1, State.END)
        assert w.manager.get("m").version == 2


@looped
async def test_files_that_change_during_a_load_are_loaded_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        texts = iter(["second", "third"])

        def change() -> None:
            if text := next(texts, None):
                (tmp_path / "m" / "2" / "more").write_text(text)

        w.loader.while_loading = change
        w.put("m", "2")
        await w.until("m", 2, State.AVAILABLE)
        assert w.loader.tries.count(("m", 2)) == 3
        assert w.manager.status("m", 2)[0].message == ""


@looped
async def test_files_that_are_being_written_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SETTLED_SECONDS", 0.3)
    path = tmp_path / "1"
    (path / "variables").mkdir(parents=True)
    (path / "model").write_text("good")
    os.utime(path / "model", (0, 0))  # as a copy that keeps times
    now = path.joinpath("model").stat().st_ctime
    assert LocalStorage(clock=lambda: now + 0.1).written(str(path))
    assert not LocalStorage(clock=lambda: now + 9).written(str(path))
    seen = LocalStorage().look(str(path))
    (path / "variables" / "data").write_text("x")
    assert LocalStorage().look(str(path)) != seen


@looped
async def test_a_directory_that_is_moved_into_place_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model").write_text("good")
    written = (tmp_path / "made" / "model").stat().st_ctime
    (tmp_path / "made").rename(tmp_path / "1")
    os.utime(tmp_path / "1")
    assert not LocalStorage(clock=lambda: written + 2).written(str(tmp_path / "1"))


@looped
async def test_a_reload_replaces_the_models_and_waits_for_new_ones(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1"), w.put("n", "1")
        await w.follower.start([w.config("m")])
        await w.follower.reload([w.config("n")])
        assert w.manager.get("n").version == 1
        await w.until("m", 1, State.END)
        assert w.follower.names == ["n"] and w.manager.ready()
        await w.follower.reload([])
        await w.until("n", 1, State.END)
        assert w.manager.ready()


@looped
async def test_a_reload_changes_the_policy_at_the_next_poll(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1"), w.put("m", "2")
        await w.follower.start([w.config("m")])
        await w.follower.reload([w.config("m", Specific((1,)))])
        await w.until("m", 2, State.END)
        assert w.manager.get("m").version == 1


@looped
async def test_labels_are_set_before_anything_loads_or_the_reload_is_rejected(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1"), w.put("m", "2"), w.put("n", "1")
        await w.follower.start([w.config("m", All(), stable=1)])
        assert w.manager.get("m", label="stable").version == 1
        with pytest.raises(FailedPrecondition) as caught:
            await w.follower.reload([w.config("m", All(), stable=2), w.config("n", x=1)])
        assert str(caught.value) == (
            "Request to assign label to version 1 of model n, which is not currently available "
            "for inference"
        )
        assert w.follower.names == ["m"] and w.state("n", 1) is State.UNKNOWN
        assert w.manager.get("m", label="stable").version == 1
        await w.follower.reload([w.config("m", All(), stable=2, canary=2)])
        assert w.manager.get("m", label="stable").version == 2
        await w.follower.reload([w.config("m", All())])
        with pytest.raises(InvalidArgument, match="^Unrecognized servable version label: stable$"):
            w.manager.get("m", label="stable")


@looped
async def test_a_new_label_may_go_before_its_version_where_that_is_allowed(tmp_path: Path) -> None:
    async with world(tmp_path, allow=True) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m", stable=1)])
        await w.follower.reload([w.config("m", stable=1, canary=2)])
        with pytest.raises(NotFound, match=r"^Servable not found for request: Specific\(m, 2\)$"):
            w.manager.get("m", label="canary")
        with pytest.raises(FailedPrecondition):
            await w.follower.reload([w.config("m", stable=2)])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("m", "m"), "Illegal to list model m multiple times in config list"),
        (
            ("m", "relative"),
            "Expected model relative to have an absolute path or URI; got base_path()=here",
        ),
    ],
)
@looped
async def test_a_list_that_cannot_be_served_changes_nothing(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        wanted = [ModelConfig(name=n, base_path="here" if n == "relative" else "/x") for n in names]
        with pytest.raises(InvalidArgument) as caught:
            await w.follower.reload(wanted)
        assert str(caught.value) == message
        assert w.follower.names == ["m"] and w.manager.get("m").version == 1


@looped
async def test_a_reload_with_a_new_model_that_does_not_load_says_so_and_keeps_the_rest(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1"), w.put("n", "7", "broken")
        await w.follower.start([w.config("m")])
        with pytest.raises(NotAvailable, match=r"^1 servable\(s\) did not become available: "):
            await w.follower.reload([w.config("m"), w.config("n")])
        assert w.manager.get("m").version == 1 and w.state("n", 7) is State.END


@looped
async def test_looking_once_means_once_and_after_each_reload(tmp_path: Path) -> None:
    async with world(tmp_path, poll=0.0) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        w.put("m", "2")
        await w.polls()
        assert w.state("m", 2) is State.UNKNOWN
        await w.follower.reload([w.config("m")])
        await w.until("m", 2, State.AVAILABLE)


@looped
async def test_no_looking_at_all_loads_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, poll=-1.0) as w:
        w.put("m", "1")
        start = asyncio.create_task(w.follower.start([w.config("m")]))
        await w.polls()
        assert not start.done() and "no version directory is looked for" in caplog.text
        start.cancel()


@looped
async def test_a_stop_ends_the_loads_under_way(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.put("m", "1")
        await w.follower.start([w.config("m")])
        w.loader.may_load.clear()
        w.put("m", "2")
        await w.until("m", 2, State.LOADING)
        async with asyncio.timeout(5):
            await w.follower.stop()
        assert w.loader.may_load.is_set() and w.manager.get("m").version == 1
