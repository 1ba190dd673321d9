"""TF Serving's URL grammar: regular expressions on the raw path, `?query` included."""

import dataclasses
import enum
import re

from jaxrt.errors import InvalidArgument

_API = re.compile(rb"/v1/.*", re.IGNORECASE | re.DOTALL)
_PREDICTION = re.compile(
    rb"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)",
    re.IGNORECASE,
)
_STATUS = re.compile(
    rb"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?",
    re.IGNORECASE,
)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
# The characters of libevent's evhttp_uri_parse: path, then query.
_LEGAL = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
    rb"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
)
_INT64_MAX = (1 << 63) - 1


class Verb(enum.Enum):
    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a request is about. At most one of version and label is set."""

    verb: Verb
    model: str
    version: int | None
    label: str | None


def is_legal(path: bytes) -> bool:
    """Whether libevent takes it as a URI at all."""
    return _LEGAL.fullmatch(path) is not None


def is_api(path: bytes) -> bool:
    """Whether the REST API answers, and not the HTTP layer."""
    return _API.fullmatch(path) is not None


def parse_target(method: str, path: bytes) -> Target:
    """GET and POST have a grammar each; every other method has none.

    Raises InvalidArgument: `Malformed request: <METHOD> <path>`, `Failed to convert version: ...`
    or `Missing model name in request.`
    """
    malformed = InvalidArgument(f"Malformed request: {method} {_text(path)}")
    grammar = {"POST": _PREDICTION, "GET": _STATUS}.get(method)
    match = grammar.fullmatch(path) if grammar else None
    if match is None:
        raise malformed
    model, version, label, last = match.groups()
    number = None if version is None else _version(version)
    if method == "POST":
        if last not in (b"classify", b"regress", b"predict"):  # the grammar ignores case
            raise malformed
        verb = Verb(last.decode())
    else:
        verb = Verb.METADATA if last == b"metadata" else Verb.STATUS
        if model is None:
            raise InvalidArgument("Missing model name in request.")
    return Target(
        verb=verb,
        model=_unescaped(model),
        version=number,
        label=None if label is None else _unescaped(label),
    )


def _version(digits: bytes) -> int:
    significant = digits.lstrip(b"0")
    if len(significant) > 19 or int(significant or b"0") > _INT64_MAX:
        raise InvalidArgument(f"Failed to convert version: {digits.decode()} to numeric.")
    return int(significant or b"0")


def _unescaped(text: bytes) -> str:
    """As curl_easy_unescape does: `%XX` alone, `+` stays."""
    return _text(_ESCAPE.sub(lambda m: bytes((int(m[1], 16),)), text))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
