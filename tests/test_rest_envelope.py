"""The quick way into a request: what the reader takes, as the reader takes it, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.serving.rest.envelope import opened
from jaxrt.serving.rest.json_reader import read
from jaxrt.serving.rest.json_value import Numbers, Object, Value, plain

TAKEN = [
    b'{"instances": [1, 2.5]}',
    b'{"inputs": [[1], [2]]}',
    b' \n{ "instances" :\t[ [1 , 2] ] }\r\n',
    b'{"signature_name": "s", "instances": [1]}',
    b'{"instances": [1], "signature_name": "s"}',
    b'{"signature_name": "first", "instances": [1], "signature_name": "second"}',
    b'{"instances": [[1, 2], [3]]}',
    b'{"instances": [true, null]}',
    b'{"signature_name": "\xff", "instances": [1]}',
]

LEFT = [
    b"",
    b"[1]",
    b'{"instances": []}',
    b'{"instances": 1}',
    b'{"instances": {"x": [1]}}',
    b'{"instances": ["a"]}',
    b'{"instances": [{"x": 1}]}',
    b'{"instances": [1], "inputs": [2]}',
    b'{"instances": [1], "instances": [2]}',
    b'{"signature_name": 5, "instances": [1]}',
    b'{"signature_name": "a\\u0041", "instances": [1]}',
    b'{"other": 1, "instances": [1]}',
    b'{"Instances": [1]}',
    b'{"instances": [1]} trailing',
    b'{"instances": [1]}\0',
    b'\xef\xbb\xbf{"instances": [1]}',
    b'{"instances": [NaN]}',
    b'{"instances": [1e400]}',
    b'{"instances": [01]}',
    b'{"instances": [1,]}',
    b'{"instances": [1]',
    b'{"instances": [1]]}',
    b'{"instances": [1], "signature_name": "]"}',
]


def tree(value: Value) -> Any:
    """Comparable: Numbers are what they hold."""
    value = plain(value)
    if isinstance(value, Object):
        return [(key, tree(member)) for key, member in value.members]
    return [tree(item) for item in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("body", TAKEN)
def test_what_it_takes_is_what_the_reader_reads(body: bytes) -> None:
    found, wanted = opened(body), read(body)
    assert found is not None and isinstance(wanted, Object)
    for name in (b"signature_name", b"instances", b"inputs"):
        mine, other = found.find(name), wanted.find(name)
        assert type(mine) is type(other) or isinstance(mine, Numbers)
        assert isinstance(mine, Numbers | bytes) is isinstance(other, Numbers | bytes | list)
        if isinstance(mine, Numbers):
            assert tree(mine) == tree(other)  # type: ignore[arg-type]
        else:
            assert mine == other


@pytest.mark.parametrize("body", LEFT)
def test_everything_else_is_left_to_the_reader(body: bytes) -> None:
    assert opened(body) is None


NUMBERS = st.recursive(
    st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, min_size=1, max_size=4),
    max_leaves=20,
).filter(lambda value: isinstance(value, list))


@given(NUMBERS, st.sampled_from(["instances", "inputs"]), st.booleans(), st.sampled_from([None, 2]))
def test_any_list_of_numbers_is_read_alike(
    value: list[Any], key: str, first: bool, indent: int | None
) -> None:
    members = {"signature_name": "s", key: value}
    if not first:
        members = dict(reversed(members.items()))
    body = json.dumps(members, indent=indent).encode()
    found = opened(body)
    assert found is not None
    assert found.find(b"signature_name") == b"s"
    numbers = found.find(key.encode())
    assert isinstance(numbers, Numbers) and numbers.nested == value
