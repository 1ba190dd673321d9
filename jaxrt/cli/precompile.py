"""One SavedModel, compiled into the cache for a server that goes on serving meanwhile.

    python -m jaxrt.cli.precompile

An order comes in, one line of JSON on standard input, and a result goes out, one line of JSON on
the descriptor that the order names. The end of standard input is the end of the server, and of
this process.
"""

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrt.cli import console
from jaxrt.cli.choices import Choices
from jaxrt.errors import ConversionError, JaxrtError, UnsupportedOps
from jaxrt.serving.engine.background import give_way_whole


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to compile."""

    name: str
    path: str
    choices: Choices
    calm: bool
    """Whether to leave the processor to others."""
    result: int
    """The descriptor for the result."""

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


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    order = Order.from_json(json.loads(sys.stdin.readline()))
    if order.calm:
        give_way_whole()
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    console.set_up_logging(order.choices.verbose)
    try:
        result = _compile(order)
    except KeyboardInterrupt as interrupt:
        return 128 + int(interrupt.args[0] if interrupt.args else signal.SIGINT)
    with os.fdopen(order.result, "w") as file:
        json.dump(result, file)
    return 0


def _compile(order: Order) -> dict[str, Any] | None:
    """None, or the error."""
    from jaxrt.cli.building import Bridges

    try:
        with Bridges() as bridges:
            cache = order.choices.cache(order.choices.target(), bridges)
            cache.artifact(order.name, Path(order.path))
    except (JaxrtError, OSError) as error:
        return spell(error)
    return None


def _interrupt(number: int, _: object) -> None:
    # What was written halfway is removed on the way out.
    raise KeyboardInterrupt(number)


def _end_with_the_server() -> None:
    while sys.stdin.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
