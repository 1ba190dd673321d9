"""The configuration file, read again and again."""

import asyncio
from collections.abc import Sequence

import pytest

from jaxrt.errors import FailedPrecondition, UsageError
from jaxrt.serving import config
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.configpoll import ConfigPoll


class Models:
    """Remembers what it was asked for; `waits` keeps a reload from returning."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.error: Exception | None = None
        self.waits = asyncio.Event()
        self.waits.set()

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        self.asked.append(tuple(model.name for model in models))
        if self.error is not None:
            raise self.error
        await self.waits.wait()


class File:
    def __init__(self, text: str = "") -> None:
        self.text = text
        self.error: Exception | None = None

    def __call__(self) -> str:
        if self.error is not None:
            raise self.error
        return self.text


def listing(*names: str, platform: str = "tensorflow") -> str:
    each = [
        f'config {{ name: "{n}" base_path: "/m/{n}" model_platform: "{platform}" }}' for n in names
    ]
    return f"model_config_list {{ {' '.join(each)} }}"


def poll_of(file: File, models: Models, live: Sequence[str] = ()) -> ConfigPoll:
    return ConfigPoll(file, models, lambda: live, where="models.config", seconds=0.01)


async def look(poll: ConfigPoll) -> None:
    await poll.poll()
    await asyncio.sleep(0.01)  # the reload goes on beside it


def test_every_poll_reloads_what_the_file_says() -> None:
    async def scenario() -> None:
        file, models = File(listing("a")), Models()
        poll = poll_of(file, models)
        await look(poll)
        await look(poll)
        file.text = listing("a", "b")
        await look(poll)
        file.text = listing()
        await look(poll)
        assert models.asked == [("a",), ("a",), ("a", "b"), ()]

    asyncio.run(scenario())


def test_a_file_without_a_list_changes_nothing() -> None:
    async def scenario() -> None:
        models = Models()
        await look(poll_of(File("  \n"), models))
        assert models.asked == []

    asyncio.run(scenario())


def test_what_goes_wrong_is_logged_once_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        file, models = File("model_config_list {"), Models()
        poll = poll_of(file, models)
        await look(poll)
        await look(poll)
        assert caplog.text.count("Failed to read ModelServerConfig file: models.config: ") == 1
        file.error = UsageError("models.config: cannot read it (Permission denied)")
        await look(poll)
        assert "Permission denied" in caplog.text
        file.error = None
        assert models.asked == []
        file.text = listing("a")
        models.error = FailedPrecondition("Request to assign label")
        await look(poll)
        await look(poll)
        assert caplog.text.count("failed to ReloadConfig: Request to assign label") == 1
        assert models.asked == [("a",), ("a",)]

    asyncio.run(scenario())


def test_a_reload_that_waits_is_not_begun_again_and_gives_way_to_another_set() -> None:
    async def scenario() -> None:
        file, models = File(listing("typo")), Models()
        models.waits.clear()
        poll = poll_of(file, models)
        await look(poll)
        await look(poll)
        assert models.asked == [("typo",)]
        file.text = listing("right")
        await look(poll)
        assert models.asked == [("typo",), ("right",)]
        models.waits.set()

    asyncio.run(scenario())


def test_it_polls_until_it_is_cancelled() -> None:
    async def scenario() -> None:
        models = Models()
        running = asyncio.create_task(poll_of(File(listing("a")), models).run())
        async with asyncio.timeout(10):
            while len(models.asked) < 3:
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())


def test_the_platform_of_a_live_model_cannot_be_changed() -> None:
    text = listing("m", platform="other")
    with pytest.raises(UsageError) as caught:
        config.parse_set(text, where="f", live=["m"])
    assert str(caught.value) == (
        "f: Illegal to change a model's platform. For model m platform was tensorflow and new "
        "platform requested is other"
    )
    with pytest.raises(UsageError, match="Model m requests unsupported platform other"):
        config.parse_set(text, where="f")


def test_a_list_cannot_become_a_custom_config() -> None:
    with pytest.raises(UsageError, match="Cannot transition to requested config"):
        config.parse_set("custom_model_config {}", where="f", live=["m"])
