"""Base64 as absl::Base64Unescape takes it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.serving.rest.base64_text import decoded


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (b"", b""),
        (b"aGVsbG8=", b"hello"),
        (b"aGVsbG8", b"hello"),
        (b"aGVsbG8.", b"hello"),
        (b"aGVsbA==", b"hell"),
        (b"aGVsbA=.", b"hell"),
        (b" aG Vs\tbG\n8=\r\f\v", b"hello"),
        (b"aGVsbG9=", b"hello"),  # the bits beyond the last byte are dropped
        (b"/+8=", b"\xff\xef"),
        (b"_-8=", None),
        (b"aGVsbA=", None),
        (b"aGVsbG8==", None),
        (b"aGVs=", None),
        (b"a", None),
        (b"aGVsb", None),
        (b"aGVsbG8=x", None),
        (b"aG*s", None),
        (b"aGVs\0", None),
    ],
)
def test_base64_is_taken_or_refused(text: bytes, data: bytes | None) -> None:
    assert decoded(text) == data


@given(st.binary())
def test_any_bytes_come_back_with_and_without_padding(data: bytes) -> None:
    text = base64.b64encode(data)
    assert decoded(text) == data == decoded(text.rstrip(b"="))
