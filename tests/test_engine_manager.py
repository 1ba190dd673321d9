"""Which version a request gets, what the status says, and the end of the server."""

import asyncio
from collections.abc import Mapping

import pytest
from by_predict import ByPredict

from jaxrt.errors import Code, FailedPrecondition, InvalidArgument, JaxrtError, NotFound
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, State, VersionStatus
from jaxrt.specs import SignatureSpec


class Fake(ByPredict):
    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version
        self.signatures: Mapping[str, SignatureSpec] = {}
        self.grace: float | None = None

    async def predict(
        self, signature: str, inputs: HostTensors, *, deadline: float | None
    ) -> HostTensors:
        return inputs

    async def drain(self, grace: float) -> bool:
        self.grace = grace
        await asyncio.sleep(0)
        return self.version != 13


@pytest.fixture
def manager() -> Manager:
    manager = Manager()
    for version in (9, 10, 2):
        manager.add(Fake("m", version), labels=["stable"] if version == 2 else [])
    return manager


def test_a_request_gets_the_highest_available_version(manager: Manager) -> None:
    assert manager.get("m").version == 10
    manager.set_state("m", 10, State.UNLOADING)
    assert manager.get("m").version == 9
    manager.set_state("m", 11, State.LOADING)
    assert manager.get("m").version == 9


def test_a_request_gets_the_version_or_label_it_names(manager: Manager) -> None:
    assert manager.get("m", version=9).version == 9
    assert manager.get("m", label="stable").version == 2


@pytest.mark.parametrize(
    ("name", "version", "label", "error", "message"),
    [
        ("n", None, None, NotFound, "Servable not found for request: Latest(n)"),
        ("n", 1, None, NotFound, "Servable not found for request: Specific(n, 1)"),
        ("m", 99, None, NotFound, "Servable not found for request: Specific(m, 99)"),
        ("m", None, "x", InvalidArgument, "Unrecognized servable version label: x"),
        ("n", None, "x", InvalidArgument, "Unrecognized servable version label: x"),
    ],
)
def test_what_is_not_there_is_named(
    manager: Manager,
    name: str,
    version: int | None,
    label: str | None,
    error: type[JaxrtError],
    message: str,
) -> None:
    with pytest.raises(error) as caught:
        manager.get(name, version=version, label=label)
    assert str(caught.value) == message


def test_a_label_to_an_unloaded_version_finds_nothing(manager: Manager) -> None:
    manager.set_state("m", 2, State.END)
    with pytest.raises(NotFound) as caught:
        manager.get("m", label="stable")
    assert str(caught.value) == "Servable not found for request: Specific(m, 2)"


def test_status_lists_all_known_versions_descending(manager: Manager) -> None:
    manager.set_state("m", 11, State.END, code=Code.UNKNOWN, message="bad weights")
    manager.set_state("m", 9, State.END)
    assert [(s.version, s.state) for s in manager.status("m")] == [
        (11, State.END),
        (10, State.AVAILABLE),
        (9, State.END),
        (2, State.AVAILABLE),
    ]
    failed = VersionStatus(version=11, state=State.END, code=Code.UNKNOWN, message="bad weights")
    assert manager.status("m", 11) == [failed]


def test_status_of_what_is_not_known_is_not_found(manager: Manager) -> None:
    with pytest.raises(NotFound) as caught:
        manager.status("n")
    assert str(caught.value) == "Could not find any versions of model n"
    with pytest.raises(NotFound) as caught:
        manager.status("m", 99)
    assert str(caught.value) == "Could not find version 99 of model m"


def test_a_configured_model_without_versions_is_not_found_and_not_ready() -> None:
    manager = Manager(models=["m"])
    assert not manager.ready()
    with pytest.raises(NotFound, match="^Could not find any versions of model m$"):
        manager.status("m")
    manager.add(Fake("m", 1))
    assert manager.ready()


def test_ready_means_every_model_has_an_available_version(manager: Manager) -> None:
    assert manager.ready()
    manager.set_state("n", 1, State.LOADING)
    assert not manager.ready()
    manager.add(Fake("n", 1))
    assert manager.ready()
    manager.set_state("n", 1, State.UNLOADING)
    assert not manager.ready()


def test_labels_are_replaced_as_a_whole(manager: Manager) -> None:
    manager.set_labels("m", {"canary": 10})
    assert manager.get("m", label="canary").version == 10
    with pytest.raises(InvalidArgument):
        manager.get("m", label="stable")


@pytest.mark.parametrize(
    ("labels", "allow"),
    [({"stable": 9, "new": 5}, False), ({"stable": 5}, True)],
    ids=["a new label", "a moved label, although new ones are allowed"],
)
def test_a_label_to_a_version_that_is_not_available_is_refused(
    manager: Manager, labels: dict[str, int], allow: bool
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        manager.set_labels("m", labels, allow_unavailable=allow)
    assert str(caught.value) == (
        "Request to assign label to version 5 of model m, which is not currently available for "
        "inference"
    )
    assert manager.get("m", label="stable").version == 2


def test_a_new_label_may_wait_for_its_version_where_allowed(manager: Manager) -> None:
    manager.set_labels("m", {"stable": 2, "next": 11}, allow_unavailable=True)
    with pytest.raises(NotFound):
        manager.get("m", label="next")
    manager.add(Fake("m", 11))
    assert manager.get("m", label="next").version == 11
    manager.set_state("m", 2, State.END)
    manager.set_labels("m", {"stable": 2, "next": 11})  # unchanged labels are not checked again


def test_a_version_without_a_servable_cannot_become_available(manager: Manager) -> None:
    with pytest.raises(ValueError, match="AVAILABLE wants a servable"):
        manager.set_state("m", 77, State.AVAILABLE)


@pytest.mark.parametrize(("version", "finished"), [(1, True), (13, False)])
def test_draining_ends_every_version_and_stops_the_devices(version: int, finished: bool) -> None:
    async def scenario() -> None:
        scheduler = Scheduler()
        manager = Manager(schedulers=[scheduler], clock=lambda: 0.0)
        fakes = [Fake("m", version), Fake("n", 1)]
        for fake in fakes:
            manager.add(fake)
        drained = asyncio.ensure_future(manager.drain(20))
        await asyncio.sleep(0)
        assert not manager.ready()
        assert manager.get("m") is fakes[0]  # it answers Unavailable itself: 503, not 404
        assert await drained is finished
        assert [fake.grace for fake in fakes] == [20, 20]
        assert [s.state for s in manager.status("m")] == [State.END]
        assert await scheduler.drain(0)

    asyncio.run(scenario())
