"""Canonical status codes → HTTP, and the bodies of errors."""

import http

from jaxrt.errors import Code
from jaxrt.serving.rest.json_string import quoted

HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def error_body(message: str) -> bytes:
    """`{"error": "<message>"}` over three lines; the message without the name of its code.

    Surrogates of the message stand for the bytes of a request that were no UTF-8.
    """
    text = message.encode("utf-8", "surrogateescape")
    return b'{\n    "error": ' + quoted(text) + b"\n}"


def html_page(status: int) -> bytes:
    """The page of the HTTP layer (libevent 2.1's evhttp_send_error)."""
    phrase = http.HTTPStatus(status).phrase
    return (
        f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD>"
        f"<BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n"
    ).encode()
