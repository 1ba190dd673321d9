"""The configuration file, read again and again: a new set of models without a restart."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from jaxrt.errors import JaxrtError
from jaxrt.serving import config
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine.background import in_thread
from jaxrt.serving.engine.reload import Reload

_log = logging.getLogger("jaxrt.serving")


class ConfigPoll:
    """Reloads what the file says at every poll, whether it changed or not, as TensorFlow Serving
    does: a label that waits for its version is set as soon as that is loaded.

    What goes wrong is logged when it is new, and leaves the models as they are. A reload that waits
    for a model to load does not hold up the next poll: the file may be corrected meanwhile.
    """

    def __init__(
        self,
        read: Callable[[], str],
        models: Reload,
        live: Callable[[], Collection[str]],
        *,
        where: str,
        seconds: float,
    ) -> None:
        """`read` gives the text and may block; `live` the names of the models served now."""
        self._read = read
        self._models = models
        self._live = live
        self._where = where
        self._seconds = seconds
        self._said: str | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._wanted: Sequence[ModelConfig] | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(self._seconds)
                await self.poll()
        finally:
            if self._waiting is not None:
                self._waiting.cancel()

    async def poll(self) -> None:
        """One look at the file."""
        try:
            text = await in_thread(self._read, calm=True)
            wanted = config.parse_set(text, where=self._where, live=self._live())
        except (JaxrtError, OSError, UnicodeDecodeError) as error:
            self._say(f"Failed to read ModelServerConfig file: {error}")
            return
        if wanted is None:  # also a file that an editor has just emptied to write it anew
            return
        if self._waiting is not None and not self._waiting.done():
            if wanted == self._wanted:
                return
            self._waiting.cancel()
        self._wanted = wanted
        self._waiting = asyncio.get_running_loop().create_task(self._reload(wanted))

    async def _reload(self, wanted: Sequence[ModelConfig]) -> None:
        try:
            await self._models.reload(wanted)
        except JaxrtError as error:
            self._say(f"PollFilesystemAndReloadConfig failed to ReloadConfig: {error}")
        except Exception as error:
            _log.error("reloading the models failed", exc_info=error)
        else:
            self._said = None

    def _say(self, text: str) -> None:
        if text != self._said:
            _log.error("%s", text)
        self._said = text
