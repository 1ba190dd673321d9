"""The answer to an HTTP request, whole."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have the type of the content and its length."""

    status: int
    headers: Headers
    body: bytes


class Answers(Protocol):
    """What answers requests that were read whole."""

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        """`path` as it was sent. Cancelled when the client hangs up; raises nothing else."""
