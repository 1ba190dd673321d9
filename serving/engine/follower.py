"""The follower: what the version directories hold and the policies want, told to the keeper."""

import asyncio
import contextlib
import logging
from collections.abc import Hashable, Mapping, Sequence

from jaxrt.errors import InvalidArgument, ModelError, RequestError
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine.background import in_thread
from jaxrt.serving.engine.keeper import Keeper, code_of, told
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.reload import Reload
from jaxrt.serving.engine.source import chosen, is_relative
from jaxrt.serving.engine.storage import Storage

_log = logging.getLogger("jaxrt.serving")

_Found = Mapping[str, Mapping[int, str] | ModelError]
"""Model → its versions and where they lie, or why its base path cannot be listed."""


class NotAvailable(RequestError):
    """New models did not become available; `errors` says why, in no order."""

    def __init__(self, text: str, errors: Sequence[Exception]) -> None:
        super().__init__(text)
        self.errors = tuple(errors)


class Follower:
    """A Reload. Used from one event loop.

    A base path that cannot be listed leaves its model as it is, and the others are followed; in
    TensorFlow Serving it stops them all.
    """

    def __init__(
        self,
        manager: Manager,
        keeper: Keeper,
        storage: Storage,
        *,
        poll_seconds: float = 1.0,
        allow_unavailable_labels: bool = False,
    ) -> None:
        """`poll_seconds`: 0 looks once, after the start and after each reload; negative never."""
        self._manager = manager
        self._keeper = keeper
        self._storage = storage
        self._poll_seconds = poll_seconds
        self._allow = allow_unavailable_labels
        self._models: tuple[ModelConfig, ...] = ()
        self._said: dict[str, str] = {}
        self._started = False
        self._turn = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """The models served now."""
        return [model.name for model in self._models]

    async def start(self, models: Sequence[ModelConfig]) -> None:
        """Serves the first set; returns when every model has a version that is AVAILABLE.

        Waits for base paths and version directories that are not there yet. Labels are set last,
        when there is what they name.

        Raises NotAvailable when a model has none although all loads were tried, FailedPrecondition
        for a label of a version that is not available.
        """
        _check(models)
        self._models = tuple(models)
        self._manager.configure(self.names)
        await self._poll()
        self._polling = asyncio.get_running_loop().create_task(self._poll_forever())
        await self._available(self.names)
        self._manager.set_all_labels(
            {m.name: m.labels for m in models}, allow_unavailable=self._allow
        )
        self._started = True

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """As Reload says."""
        await self._available(await self.apply(models))

    async def apply(self, models: Sequence[ModelConfig]) -> list[str]:
        """`reload` without the wait: the names of the models that are new."""
        _check(models)
        async with self._turn:
            self._manager.set_all_labels(
                {m.name: m.labels for m in models}, allow_unavailable=self._allow
            )
            before = set(self.names)
            self._models = tuple(models)
            self._manager.configure(self.names)
            for name in before - set(self.names):
                self._keeper.aspire(name, {})
            new = [name for name in self.names if name not in before]
        if new or self._poll_seconds == 0:
            await self._poll()
        return new

    async def stop(self) -> None:
        """Follows nothing any more."""
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling
        await self._keeper.stop()

    async def _available(self, names: Sequence[str]) -> None:
        await self._keeper.settled(names)
        missing = set(self._manager.missing())
        errors = {
            (name, version): error
            for name in names
            if name in missing
            for version, error in self._keeper.errors(name).items()
        }
        if errors:
            text = "".join(
                f"{{name: {name} version: {version}}} due to error: "
                f"{code_of(error).name}: {told(error)}, }}, "
                for (name, version), error in errors.items()
            )
            raise NotAvailable(
                f"{len(errors)} servable(s) did not become available: {{{text}}}",
                list(errors.values()),
            )

    async def _poll_forever(self) -> None:
        if self._poll_seconds < 0:
            _log.warning(
                "--file_system_poll_wait_seconds is negative: no version directory is looked for, "
                "and no model is loaded"
            )
        while self._poll_seconds > 0:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._poll()
            except Exception as error:  # the next poll may fare better
                _log.error("looking for versions failed", exc_info=error)

    async def _poll(self) -> None:
        """Looks at every base path once, and at the files of what failed to load."""
        if self._poll_seconds < 0:
            return
        async with self._looking:  # an older look must not be told after a newer one
            await self._look()

    async def _look(self) -> None:
        models = self._models
        retried = {m.name: self._keeper.given_up(m.name) for m in models}

        def look() -> tuple[_Found, dict[tuple[str, int], Hashable]]:
            seen = {
                (name, entry.version): self._storage.look(entry.place)
                for name, entries in retried.items()
                for entry in entries
                if not self._storage.written(entry.place)
            }
            return {m.name: self._list(m) for m in models}, seen

        found, seen = await in_thread(look, calm=self._started)
        for model in models:
            if model in self._models:  # else a reload came in between
                self._follow(model, found[model.name])
        for (name, version), look_of in seen.items():
            self._keeper.look(name, version, look_of)

    def _list(self, model: ModelConfig) -> Mapping[int, str] | ModelError:
        try:
            return self._storage.versions(model.base_path)
        except ModelError as error:
            return error
        except OSError as error:
            return ModelError(f"{model.base_path}: cannot be listed: {error}")

    def _follow(self, model: ModelConfig, found: Mapping[int, str] | ModelError) -> None:
        if isinstance(found, ModelError):
            self._say(model.name, f"model {model.name}: {found}")
            return
        versions, missing = chosen(found, model.policy)
        if not versions:
            self._say(
                model.name,
                f"No versions of servable {model.name} found under base path {model.base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?",
            )
        elif missing:
            self._say(
                model.name,
                f"model {model.name}: versions {', '.join(map(str, missing))} are wanted by its "
                f"policy and not found in {model.base_path}",
            )
        else:
            self._said.pop(model.name, None)
        self._keeper.aspire(model.name, {version: found[version] for version in versions})

    def _say(self, name: str, text: str) -> None:
        """Each poll while the server waits for it; once it serves, only what is new."""
        if not self._started or self._said.get(name) != text:
            _log.warning("%s", text)
        self._said[name] = text


def _check(models: Sequence[ModelConfig]) -> None:
    """TensorFlow Serving's checks of a list (model_servers/server_core.cc), in its words."""
    names: set[str] = set()
    for model in models:
        if model.name in names:
            raise InvalidArgument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
    for model in models:
        if is_relative(model.base_path):
            raise InvalidArgument(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )


_: type[Reload] = Follower
