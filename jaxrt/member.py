"""One of the other hosts that serve together: it loads and runs what the first one says."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxrt.channel import Channel, Message
from jaxrt.errors import JaxrtError
from jaxrt.hosts import launch
from jaxrt.placed import Array
from jaxrt.running import Running

log = logging.getLogger("jaxrt.serving")

Programs = Mapping[str, tuple[Running | None, ...]]
"""Key of a program → it on each replica; None where none of the devices is this host's."""

THREADS = 64
"""Replicas that run at the same time, at most; the first host lets no two run on one device."""


class Member:
    """Answers every message. Loads, one after the other, hold up no batch of what is loaded."""

    def __init__(self, channel: Channel, load: Callable[[Mapping[str, Any]], Programs]) -> None:
        """`load`: the fields of a message → programs; raises JaxrtError leaves."""
        self._channel = channel
        self._load = load
        self._models: dict[int, Programs] = {}

    def follow(self) -> bool:
        """Until the first host says so: True; or until it is gone: False.

        Programs may run then that never end, as the others are not there to end them.
        """
        runs = ThreadPoolExecutor(THREADS, thread_name_prefix="jaxrt-run")
        loads = ThreadPoolExecutor(1, thread_name_prefix="jaxrt-load")
        work = {
            "run": (runs, self._run),
            "load": (loads, self._begin),
            "unload": (loads, self._end),
        }
        while True:
            try:
                message = self._channel.receive()
            except OSError as error:
                log.error("host 0 is gone (%s)", error)
                return False
            asked = message.fields.get("do")
            if asked == "stop":
                return True
            if asked not in work:
                log.error("host 0 asks for %r, which this version does not know", asked)
                return False
            pool, do = work[asked]
            pool.submit(self._answer, message, do)

    def _answer(self, message: Message, do: Callable[[Message], Sequence[Array]]) -> None:
        number = message.fields["number"]
        try:
            answer = Message({"number": number}, do(message))
        except Exception as error:
            text = str(error) if isinstance(error, JaxrtError) else repr(error)
            log.error("%s failed: %s", message.fields["do"], text)
            answer = Message({"number": number, "error": text})
        try:
            self._channel.send(answer)
        except OSError:  # `follow` says so
            log.info("nobody is there for an answer")

    def _begin(self, message: Message) -> Sequence[Array]:
        self._models[message.fields["model"]] = self._load(message.fields)
        return ()

    def _end(self, message: Message) -> Sequence[Array]:
        self._models.pop(message.fields["model"], None)
        return ()

    def _run(self, message: Message) -> Sequence[Array]:
        fields = message.fields
        part = self._models[fields["model"]][fields["key"]][fields["replica"]]
        assert part is not None  # the first host knows whose devices a replica has
        return launch(part, dict(zip(part.input_shapes, message.arrays, strict=True)))
