"""The URL grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.errors import InvalidArgument
from jaxrt.serving.rest.urls import Target, Verb, is_api, is_legal, parse_target


@pytest.mark.parametrize(
    ("method", "path", "verb", "model", "version", "label"),
    [
        ("POST", b"/v1/models/m:predict", Verb.PREDICT, "m", None, None),
        ("POST", b"/V1/MODELS/M/VERSIONS/00000123:predict", Verb.PREDICT, "M", 123, None),
        ("POST", b"/v1/models/m/labels/a%2Fb:classify", Verb.CLASSIFY, "m", None, "a/b"),
        ("POST", b"/v1/models/m/versions/9223372036854775807:regress", Verb.REGRESS, "m",
         2**63 - 1, None),
        ("GET", b"/v1/models/m", Verb.STATUS, "m", None, None),
        ("GET", b"/v1/models/m/versions/0", Verb.STATUS, "m", 0, None),
        ("GET", b"/v1/models/m/labels/l/metadata", Verb.METADATA, "m", None, "l"),
        ("GET", b"/v1/models/m/METADATA", Verb.STATUS, "m", None, None),
        ("GET", b"/v1/models/metadata", Verb.STATUS, "metadata", None, None),
        ("GET", b"/v1/models/m?x=1", Verb.STATUS, "m?x=1", None, None),
        ("GET", b"/v1/models/a%2fb%3A+%25", Verb.STATUS, "a/b:+%", None, None),
        ("GET", b"/v1/models/%C3%A9%0A", Verb.STATUS, "\u00e9\n", None, None),
        ("GET", b"/v1/models/%ff", Verb.STATUS, "\udcff", None, None),
    ],
)  # fmt: skip
def test_a_path_names_what_it_is_about(
    method: str, path: bytes, verb: Verb, model: str, version: int | None, label: str | None
) -> None:
    wanted = Target(verb=verb, model=model, version=version, label=label)
    assert parse_target(method, path) == wanted


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/foo"),
        ("POST", "/v1/models"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:explain"),
        ("POST", "/v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/m/versions/-1:predict"),
        ("POST", "/v1/models/m/versions/1/labels/a:predict"),
        ("POST", "/v1/models/m/labels/:predict"),
        ("POST", "/v1/models/m/metadata"),
        ("GET", "/v1/"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/m/"),
        ("GET", "/v1//models/m"),
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/metadata?x=1"),
        ("GET", "/v1/models/m/versions/%31"),
        ("PUT", "/v1/models/m"),
        ("DELETE", "/v1/models/m:predict"),
        ("PATCH", "/v1/x"),
        ("HEAD", "/v1/models/m"),
    ],
)
def test_other_requests_are_malformed(method: str, path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_target(method, path.encode())
    assert str(caught.value) == f"Malformed request: {method} {path}"


@pytest.mark.parametrize("digits", ["9223372036854775808", "18446744073709551615", "1" * 5000])
def test_a_version_beyond_int64_is_refused(digits: str) -> None:
    for method, path in [
        ("POST", f"/v1/models/m/versions/{digits}:PREDICT"),
        ("GET", f"/v1/models/versions/{digits}"),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            parse_target(method, path.encode())
        assert str(caught.value) == f"Failed to convert version: {digits} to numeric."


@pytest.mark.parametrize(
    "path", [b"/v1/models", b"/v1/models/versions/1", b"/v1/models/labels/a/metadata"]
)
def test_a_model_must_be_named(path: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"^Missing model name in request\.$"):
        parse_target("GET", path)


def test_the_api_is_everything_below_v1() -> None:
    assert all(map(is_api, [b"/v1/", b"/V1/x", b"/v1/models/m?x#y", b"/v1/\n"]))
    assert not any(map(is_api, [b"/", b"/v1", b"/v2/", b"/index", b"//v1/", b"/v1?/"]))


def test_only_uri_characters_are_legal() -> None:
    assert all(map(is_legal, [b"/v1/models/a%2Fb:predict?x=1/?", b"/~-._!$&'()*+,;=:@"]))
    assert not any(
        map(is_legal, [b"/[", b'/"', b"/%zz", b"/%2", b"/\xc3\xa9", b"/ ", b"/?[", b"/#"])
    )


@given(st.binary(min_size=1))
def test_any_name_survives_percent_encoding(name: bytes) -> None:
    path = b"/v1/models/" + b"".join(b"%%%02x" % byte for byte in name)
    target = parse_target("GET", path)
    assert target.model.encode("utf-8", "surrogateescape") == name
