"""The keeper: loads and unloads versions until what is served is what is aspired.

`lifecycle` decides; here is what it takes: threads, the clock, and the manager that requests ask.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping

from jaxrt.errors import (
    ArtifactError,
    Code,
    ConversionError,
    DeviceError,
    ModelError,
    RequestError,
    UsageError,
)
from jaxrt.serving.engine import lifecycle
from jaxrt.serving.engine.background import in_thread, trim
from jaxrt.serving.engine.lifecycle import Entry, Phase, Retries, Unload
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.product import Loader, Product
from jaxrt.serving.engine.servable import State
from jaxrt.serving.engine.storage import SETTLED_SECONDS, Storage

_log = logging.getLogger("jaxrt.serving")

_HOPELESS = (ConversionError, DeviceError, UsageError)
"""The same files on the same machine fail the same way again."""

_CODES = (
    (ConversionError, Code.UNIMPLEMENTED),
    (ModelError, Code.INVALID_ARGUMENT),
    (ArtifactError, Code.DATA_LOSS),
    (DeviceError, Code.FAILED_PRECONDITION),
    (UsageError, Code.INVALID_ARGUMENT),
)


class _Written(Exception):
    """The files of a version are being written: it is loaded later."""


class Keeper:
    """Used from one event loop. Its invariant: a version is AVAILABLE from the end of its warm-up
    until another one that is wanted instead is AVAILABLE, or nothing is wanted."""

    def __init__(
        self,
        manager: Manager,
        loader: Loader,
        storage: Storage,
        *,
        retries: Retries,
        threads: int = 1,
        calm: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`threads`: loads at once. `calm` and `retries` may be set anew once requests come."""
        self.retries = retries
        self.calm = calm
        self._manager = manager
        self._loader = loader
        self._storage = storage
        self._threads = threads
        self._clock = clock
        self._entries: dict[str, dict[int, Entry]] = {}
        self._products: dict[tuple[str, int], Product] = {}
        self._errors: dict[tuple[str, int], Exception] = {}
        self._loading = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def aspire(self, name: str, places: Mapping[int, str]) -> None:
        """Exactly these versions of a model are wanted: version → where it lies."""
        before = self._entries.get(name, {})
        after = lifecycle.aspire(before, places)
        for version, entry in after.items():
            old = before.get(version)
            if entry.phase is Phase.NEW and (old is None or old.phase is not Phase.NEW):
                self._errors.pop((name, version), None)
                self._manager.set_state(name, version, State.START)
            elif entry.phase is Phase.GONE and old is not None and old.phase is not Phase.GONE:
                self._manager.set_state(name, version, State.END)
        self._entries[name] = after
        self._step()

    def given_up(self, name: str) -> list[Entry]:
        """The versions that wait for another try, or for their files to change."""
        entries = self._entries.get(name, {}).values()
        return [e for e in entries if e.aspired and e.phase in (Phase.PAUSED, Phase.FAILED)]

    def look(self, name: str, version: int, seen: Hashable) -> None:
        """What the files of a version that failed look like now."""
        before = self._entries[name][version]
        entry = lifecycle.looked_at(before, seen)
        if entry is not before:
            _log.info("%s version %d: its files have changed", name, version)
            self._set(name, entry)
            self._step()

    async def settled(self, names: Iterable[str]) -> None:
        """Returns when each model has versions that are wanted, all of them loaded or given up."""
        wanted = list(names)

        def done() -> bool:
            found = (self._entries.get(name, {}).values() for name in wanted)
            return all(lifecycle.settled(entries) for entries in found)

        async with self._changed:
            await self._changed.wait_for(done)

    def errors(self, name: str) -> dict[int, Exception]:
        """Version → why it was given up, of those that are wanted."""
        entries = self._entries.get(name, {}).values()
        failed = (e.version for e in entries if e.aspired and e.phase is Phase.FAILED)
        return {version: self._errors[name, version] for version in sorted(failed)}

    async def stop(self) -> None:
        """Ends what is under way; versions that are loaded stay."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        await in_thread(self._loader.stop, calm=False)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _step(self) -> None:
        """Begins all that can be begun now, and comes back when more can be."""
        if self._stopped:
            return
        now = self._clock()
        for name, entries in self._entries.items():
            while action := lifecycle.next_action(entries.values(), now):
                entry = entries[action.version]
                if isinstance(action, Unload):
                    self._set(name, dataclasses.replace(entry, phase=Phase.UNLOADING))
                    self._start(self._unload(name, action))
                elif self._loading < self._threads:
                    self._loading += 1
                    self._set(name, dataclasses.replace(entry, phase=Phase.LOADING))
                    self._start(self._load(name, entry))
                else:
                    break
        every = [entry for entries in self._entries.values() for entry in entries.values()]
        if self._timer is not None:
            self._timer.cancel()
        due = lifecycle.next_due(every, now)
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(due - now, self._step)
        self._start(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _set(self, name: str, entry: Entry) -> None:
        self._entries[name][entry.version] = entry

    async def _load(self, name: str, begun: Entry) -> None:
        version = begun.version
        started = self._clock()
        try:
            product = await self._product(name, begun)
        except _Written:
            until = self._clock() + SETTLED_SECONDS
            current = dataclasses.replace(self._entries[name][version], failures=begun.failures)
            self._set(name, lifecycle.postponed(current, until))
            self._forget_unwanted(name, version)
        except Exception as error:
            self._failed(name, version, error)
        else:
            self._products[name, version] = product
            self._manager.add(product.servable)
            entry = self._entries[name][version]
            self._set(name, dataclasses.replace(entry, phase=Phase.AVAILABLE, failures=0))
            if self.calm:
                seconds = self._clock() - started
                _log.info("%s version %d: available after %.2f s", name, version, seconds)
        finally:
            self._loading -= 1
            self._step()

    async def _product(self, name: str, begun: Entry) -> Product:
        """The version, loaded and warm. Raises _Written when its files changed meanwhile."""
        version, place = begun.version, begun.place

        def look() -> tuple[bool, Hashable]:
            return self._storage.written(place), self._storage.look(place)

        def load() -> Product:
            directory = self._storage.fetch(place)
            return self._loader.load(name, version, directory, calm=self.calm)

        written, seen = await in_thread(look, calm=self.calm)
        if written:
            raise _Written
        entry = dataclasses.replace(self._entries[name][version], failures=begun.failures)
        self._set(name, lifecycle.begun(dataclasses.replace(entry, seen=begun.seen), seen))
        self._manager.set_state(name, version, State.LOADING)
        try:
            product = await in_thread(load, calm=self.calm)
        except Exception:
            if await in_thread(look, calm=self.calm) != (False, seen):
                raise _Written from None
            raise
        if await in_thread(look, calm=self.calm) != (False, seen):
            await in_thread(product.close, calm=self.calm)
            raise _Written
        await product.warm(calm=self.calm)
        return product

    def _failed(self, name: str, version: int, error: Exception) -> None:
        hopeless = isinstance(error, _HOPELESS)
        entry = lifecycle.failed(
            self._entries[name][version], self._clock(), self.retries, hopeless=hopeless
        )
        self._set(name, entry)
        self._errors[name, version] = error
        if entry.phase is Phase.PAUSED:
            _log.warning(
                "%s version %d: loading failed, try %d of %d, the next one in %g s: %s",
                name, version, entry.failures, self.retries.count + 1,
                max(0.0, self.retries.seconds), told(error),
            )  # fmt: skip
            return
        if self.calm:  # at the start the error ends the process, and says so
            _log.error(
                "%s version %d: not loaded, and not tried again before its files change: %s",
                name, version, told(error),
            )  # fmt: skip
        self._manager.set_state(name, version, State.END, code=code_of(error), message=told(error))
        self._forget_unwanted(name, version)

    def _forget_unwanted(self, name: str, version: int) -> None:
        """What nobody wants any more is not waited for."""
        entry = self._entries[name][version]
        if not entry.aspired and entry.phase in (Phase.NEW, Phase.PAUSED):
            self._set(name, dataclasses.replace(entry, phase=Phase.GONE))
            self._manager.set_state(name, version, State.END)

    async def _unload(self, name: str, action: Unload) -> None:
        version = action.version
        product = self._products.pop((name, version))
        self._manager.set_state(name, version, State.UNLOADING)
        await product.finish()
        self._manager.release(name, version)
        last = [product]
        del product

        def free() -> None:
            # The last reference goes here, beside the event loop: weights and executables with it.
            last.pop().close()
            trim()

        try:
            await in_thread(free, calm=self.calm)
        except Exception as error:
            _log.error("%s version %d: unloading", name, version, exc_info=error)
        self._set(name, lifecycle.unloaded(self._entries[name][version]))
        self._manager.set_state(name, version, State.END)
        if self._entries[name][version].phase is Phase.NEW:
            self._manager.set_state(name, version, State.START)
        _log.info("%s version %d: unloaded", name, version)
        self._step()


def code_of(error: Exception) -> Code:
    """The canonical code of a load that failed."""
    if isinstance(error, RequestError):
        return error.code
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def told(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    expected = isinstance(error, (*_HOPELESS, ModelError, ArtifactError, RequestError))
    return text if expected else f"{type(error).__name__}: {text}"
