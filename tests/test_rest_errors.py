"""Codes, statuses and bodies of errors."""

import json

import pytest

from jaxrt.errors import Code
from jaxrt.serving.rest.errors import HTTP_STATUS, error_body, html_page


def test_every_code_has_a_status() -> None:
    assert HTTP_STATUS.keys() == set(Code)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.CANCELLED, 499),
        (Code.INVALID_ARGUMENT, 400),
        (Code.DEADLINE_EXCEEDED, 504),
        (Code.RESOURCE_EXHAUSTED, 429),
        (Code.FAILED_PRECONDITION, 400),
        (Code.UNIMPLEMENTED, 501),
        (Code.UNAVAILABLE, 503),
        (Code.DATA_LOSS, 500),
    ],
)
def test_a_code_is_a_status(code: Code, status: int) -> None:
    assert HTTP_STATUS[code] == status


def test_an_error_body_has_three_lines() -> None:
    assert error_body('a "b"\n') == b'{\n    "error": "a \\"b\\"\\n"\n}'
    assert json.loads(error_body("\u00e9")) == {"error": "\u00e9"}
    assert b'"\xff"' in error_body("\udcff")


def test_the_pages_of_the_http_layer_are_html() -> None:
    assert html_page(404) == (
        b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD>"
        b"<BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
    )
