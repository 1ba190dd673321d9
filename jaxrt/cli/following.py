"""Models that come and go while the server runs: the follower of one server, wired."""

import asyncio
import contextlib
import logging

from jaxrt.cli import wanted
from jaxrt.cli.settings import Settings
from jaxrt.cli.wanted import Wanted
from jaxrt.errors import FailedPrecondition, JaxrtError, UsageError
from jaxrt.serving.configpoll import ConfigPoll
from jaxrt.serving.engine.follower import Follower, NotAvailable
from jaxrt.serving.engine.keeper import Keeper
from jaxrt.serving.engine.lifecycle import Retries
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.product import Loader

log = logging.getLogger("jaxrt.serving")


class Following:
    """Starts with the models that were asked for, and follows what becomes of them."""

    def __init__(self, settings: Settings, first: Wanted, manager: Manager, loader: Loader) -> None:
        self._settings = settings
        self._first = first
        self._retries = Retries(
            count=max(0, settings.max_num_load_retries),
            seconds=settings.load_retry_interval_micros * 1e-6,
        )
        self._keeper = Keeper(
            manager,
            loader,
            first.storage,
            retries=self._retries if first.patient else Retries(count=0),
            threads=max(1, settings.num_load_threads),
        )
        self.models = Follower(
            manager,
            self._keeper,
            first.storage,
            poll_seconds=settings.file_system_poll_wait_seconds,
            allow_unavailable_labels=settings.allow_version_labels_for_unavailable_models,
        )
        self._config: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when all models are AVAILABLE. Raises JaxrtError leaves, OSError."""
        try:
            await self.models.start(self._first.models)
        except NotAvailable as error:
            if not self._first.patient:
                raise error.errors[0] from None
            raise JaxrtError(
                f"Failed to start server. Error: {error.code.name}: {error}"
            ) from error
        except FailedPrecondition as error:
            raise UsageError(
                f"version_labels: {error}; correct them, or pass "
                "--allow_version_labels_for_unavailable_models=true"
            ) from error
        # From here on there are requests that loading has to give way to.
        self._keeper.calm = True
        self._keeper.retries = self._retries
        self._follow_config()

    def _follow_config(self) -> None:
        path, seconds = (
            self._settings.model_config_file,
            self._settings.model_config_file_poll_wait_seconds,
        )
        if path is None or seconds <= 0:
            return
        poll = ConfigPoll(
            lambda: wanted.read_config(path),
            self.models,
            lambda: self.models.names,
            where=path,
            seconds=seconds,
        )
        self._config = asyncio.get_running_loop().create_task(poll.run())

    async def stop(self) -> None:
        """Ends the loads under way; what is loaded stays."""
        if self._config is not None:
            self._config.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._config
        await self.models.stop()
