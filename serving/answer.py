"""The answer to an HTTP request, whole."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class Answer(NamedTuple):
    """`headers` have the type of the content and its length."""

    status: int
    headers: Headers
    body: bytes


class Answers(Protocol):
    """What answers requests that were read whole."""

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        """`path` as it was sent. Cancelled when the client hangs up; raises nothing else."""


Reply = Callable[[Answer], None]
"""Takes the answer to one request."""


class Begun(Protocol):
    """A request that was begun."""

    def cancel(self) -> object:
        """The client hung up: nobody replies any more."""


@runtime_checkable
class Direct(Answers, Protocol):
    """Answers that can do without a task of their own for requests that are soon done.

    Such a task, and the futures it waits for, cost as much as a small prediction.
    """

    def about(self, method: str, path: bytes, headers: Headers) -> Any | None:
        """What `begin` wants to know of requests with this head: always the same for the same one.

        None where all of them have to go through `answer`.
        """

    def begin(self, about: Any, body: bytes, reply: Reply) -> Begun | None:
        """Begins a request of which the rest is `about`; `reply` gets what `answer` would give.

        In a later turn of the event loop than this one. None, and nothing has happened, where
        `answer` has to be asked: also for whatever is wrong with the request.
        """
