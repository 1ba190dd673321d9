"""The first of several hosts that serve together: it tells the others what to load and to run."""

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from jaxrt.channel import Channel, Message
from jaxrt.entries import ProgramEntry
from jaxrt.errors import DeviceError, Unavailable
from jaxrt.pieces import Avals, Pieces
from jaxrt.placed import Array, Place
from jaxrt.running import Running, ShardedProgram

log = logging.getLogger("jaxrt.serving")

Answer = Sequence[Array]

MOMENT = 2.0
"""Seconds in which the end of a connection follows the failure of an exchange with its host."""


class Hosts:
    """The others, by their number; each answers every message. Thread safe."""

    def __init__(self, channels: Mapping[int, Channel]) -> None:
        self._channels = dict(channels)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._pending: dict[int, Future[Answer]] = {}
        self._told: Callable[[str], None] | None = None
        self._stopping = False
        self.gone = threading.Event()
        """A host is lost: nothing can be answered any more."""
        self.why = ""
        for number, channel in self._channels.items():
            reader = threading.Thread(
                target=self._read, args=(number, channel), name=f"jaxrt-host-{number}", daemon=True
            )
            reader.start()

    @property
    def numbers(self) -> list[int]:
        return list(self._channels)

    def watch(self, told: Callable[[str], None]) -> None:
        """`told` is called once, from any thread, with why a host is lost; at once if one is."""
        with self._lock:
            self._told = told
            gone = self.gone.is_set()
        if gone:
            told(self.why)

    def ask(self, host: int, fields: Mapping[str, Any], arrays: Answer = ()) -> "Future[Answer]":
        """Its answer: arrays, DeviceError with what failed there, Unavailable when it is lost."""
        future: Future[Answer] = Future()
        number = next(self._numbers)
        with self._lock:
            if self.gone.is_set():
                future.set_exception(Unavailable(self.why))
                return future
            self._pending[number] = future
        try:
            self._channels[host].send(Message({**fields, "number": number}, arrays))
        except OSError as error:
            self.lose(f"host {host} is gone ({error})")
        return future

    def lose(self, why: str) -> None:
        """Fails what waits and what is asked from now on; one host less is none."""
        with self._lock:
            if self.gone.is_set() or self._stopping:
                return
            self.why = why
            self.gone.set()
            pending, self._pending = self._pending, {}
            told = self._told
        for future in pending.values():
            future.set_exception(Unavailable(why))
        if told is not None:
            told(why)

    def stop(self) -> None:
        """Tells all to end; nothing is asked afterwards."""
        with self._lock:
            self._stopping = True
        for host, channel in self._channels.items():
            try:
                channel.send(Message({"do": "stop"}))
            except OSError as error:
                log.warning("host %d was gone before it was told to stop: %s", host, error)

    def _read(self, host: int, channel: Channel) -> None:
        while True:
            try:
                message = channel.receive()
            except OSError as error:
                self.lose(f"host {host} is gone ({error})")
                return
            with self._lock:
                future = self._pending.pop(message.fields["number"], None)
            if future is None:
                continue
            error_text = message.fields.get("error")
            if error_text is None:
                future.set_result(message.arrays)
            else:
                future.set_exception(DeviceError(f"host {host}: {error_text}"))


class SpannedProgram:
    """A program on devices of several hosts, or of another one: all run it at the same time."""

    def __init__(
        self,
        hosts: Hosts,
        fields: Mapping[str, Any],
        part: Running | None,
        *,
        entry: ProgramEntry,
        inputs: Avals,
        outputs: Avals,
        place: Place,
    ) -> None:
        """`fields` name the program to the others; `part` is what runs here, if anything does."""
        self._hosts = hosts
        self._fields = {**fields, "do": "run"}
        self._part = part
        self._me = place.process
        self._others = [process for process in place.processes if process != self._me]
        self._pieces = Pieces(outputs, entry.output_layouts, place)
        self._names = list(inputs)
        self.input_shapes = {name: aval.shape for name, aval in inputs.items()}
        self.output_shapes = {name: aval.shape for name, aval in outputs.items()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As Running says. Raises Unavailable when a host is lost."""
        arrays = [inputs[name] for name in self._names]
        asked = {host: self._hosts.ask(host, self._fields, arrays) for host in self._others}
        found: dict[int, Sequence[Array]] = {}
        try:
            if self._part is not None:
                found[self._me] = launch(self._part, inputs)
        except Exception as error:
            # The exchange fails before the connection of the host that left it does.
            if self._hosts.gone.wait(MOMENT):
                raise Unavailable(self._hosts.why) from error
            raise
        for host, future in asked.items():
            try:
                found[host] = future.result()
            except DeviceError as error:
                # What it did not run, the others may wait for in their next exchange.
                self._hosts.lose(str(error))
                raise Unavailable(str(error)) from error
        return self._pieces.join(found)


def launch(part: Running, inputs: Mapping[str, Array]) -> list[Array]:
    """The pieces of the outputs that this process hands out."""
    if isinstance(part, ShardedProgram):
        return part.launch(inputs)
    return list(part.run(inputs).values())
