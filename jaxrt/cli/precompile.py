"""SavedModels, compiled into the cache for a server that goes on serving meanwhile.

    python -m jaxrt.cli.precompile DESCRIPTOR

Orders come in, lines of JSON on standard input, and for each a result goes out, a line of JSON on
the descriptor. A process without an order for a while ends by itself, and so does one that has done
an order for a server that answers requests: it gives its memory back. The end of standard input is
the end of the server, and of this process.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrt.cli import console
from jaxrt.cli.choices import Choices
from jaxrt.errors import ConversionError, JaxrtError, UnsupportedOps
from jaxrt.serving.engine.background import give_way_whole

if TYPE_CHECKING:
    from jaxrt.cli.savedmodels import Cache

IDLE = 5.0
"""Seconds without an order after which a process ends."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to compile."""

    name: str
    path: str
    choices: Choices
    calm: bool
    """Whether to leave the processor to others, and to end after it."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"choices": self.choices.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Order":
        return cls(**{**value, "choices": Choices.from_json(value["choices"])})


def spell(error: JaxrtError | OSError) -> dict[str, Any]:
    """An error as JSON; `read` makes it one again."""
    if isinstance(error, OSError):
        found = [error.errno, error.strerror or str(error), error.filename]
        return {"kind": "OSError", "arguments": found}
    kind = ConversionError if isinstance(error, UnsupportedOps) else type(error)
    return {"kind": kind.__name__, "arguments": [str(error)]}


def read(value: Mapping[str, Any]) -> JaxrtError | OSError:
    """The error that `spell` wrote."""
    if value["kind"] == "OSError":
        return OSError(*value["arguments"])
    return _named(JaxrtError, value["kind"])(*value["arguments"])


def _named(root: type[JaxrtError], name: str) -> type[JaxrtError]:
    waiting = [root]
    while waiting:
        kind = waiting.pop()
        if kind.__name__ == name:
            return kind
        waiting += kind.__subclasses__()
    return root


def main(descriptor: str) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    orders: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    try:
        with os.fdopen(int(descriptor), "w") as results, contextlib.ExitStack() as stack:
            caches: dict[Choices, Cache] = {}
            for order in _orders(orders):
                if order.calm:
                    give_way_whole()
                console.set_up_logging(order.choices.verbose)
                results.write(json.dumps(_compile(order, caches, stack)) + "\n")
                results.flush()
                if order.calm:
                    break
    except KeyboardInterrupt as interrupt:
        return 128 + int(interrupt.args[0] if interrupt.args else signal.SIGINT)
    return 0


def _orders(lines: "queue.Queue[str]") -> Iterator[Order]:
    while True:
        try:
            yield Order.from_json(json.loads(lines.get(timeout=IDLE)))
        except queue.Empty:
            return


def _compile(
    order: Order, caches: dict[Choices, "Cache"], stack: contextlib.ExitStack
) -> dict[str, Any] | None:
    """None, or the error."""
    from jaxrt.cli.building import Bridges

    try:
        if order.choices not in caches:
            bridges = stack.enter_context(Bridges())
            caches[order.choices] = order.choices.cache(order.choices.target(), bridges)
        cache = caches[order.choices]
        cache.artifact(order.name, Path(order.path))
        cache.bridges.forget(Path(order.path), cache.tags)
    except (JaxrtError, OSError) as error:
        return spell(error)
    return None


def _interrupt(number: int, _: object) -> None:
    # What was written halfway is removed on the way out.
    raise KeyboardInterrupt(number)


def _read(orders: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        orders.put(line)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
