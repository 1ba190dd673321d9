"""Request bodies: gzip, within bounds."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.serving.rest.body import inflated


@given(st.binary(max_size=3000))
def test_gzip_is_inflated(content: bytes) -> None:
    assert inflated(gzip.compress(content, mtime=0)) == content


def test_a_body_may_inflate_up_to_the_limit() -> None:
    for size, wanted in [(999, 999), (1000, 1000), (1001, 0), (100_000, 0)]:
        assert len(inflated(gzip.compress(b"x" * size, mtime=0), limit=1000)) == wanted


WHOLE = gzip.compress(b"content", mtime=0)


@pytest.mark.parametrize(
    "body", [b"", b"content", WHOLE[:-1], WHOLE[:-8], WHOLE[:5], WHOLE + b"x", WHOLE + WHOLE,
             WHOLE[:-8] + b"\0" * 8, b"x" + WHOLE],
)  # fmt: skip
def test_anything_else_is_an_empty_body(body: bytes) -> None:
    assert inflated(body) == b""
