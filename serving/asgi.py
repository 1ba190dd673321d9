"""ASGI around what answers whole requests."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from jaxrt.serving.answer import Answers
from jaxrt.serving.rest.body import Disconnected, read_body

T = TypeVar("T")


def path_of(scope: Scope) -> bytes:
    """As it was sent, `?query` included."""
    path: bytes = scope["raw_path"]
    return path + b"?" + scope["query_string"] if scope["query_string"] else path


async def respond(
    answers: Answers, scope: Scope, receive: Receive, send: Send, *, read: bool = True
) -> None:
    """Sends the answer, unless the client hangs up, which cancels it. Without `read`, no body."""
    try:
        body = await read_body(receive) if read else b""
        work = answers.answer(scope["method"], path_of(scope), scope["headers"], body)
        answer = await _unless_gone(work, receive)
    except Disconnected:
        return
    headers = [*answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """The result of the work, which is cancelled when the client hangs up. Raises Disconnected."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
