import pytest

from jaxrt.errors import UsageError
from jaxrt.serving.rpc.arguments import LARGEST_MESSAGE, Arguments, parse


def test_arguments_that_have_an_effect_and_those_that_have_none() -> None:
    text = "grpc.max_concurrent_streams=5,grpc.so_reuseport=0,grpc.max_connection_idle_ms=7"
    found, idle = parse(text)
    assert found == Arguments(max_concurrent_streams=5, max_connection_idle_ms=7)
    assert idle == ("grpc.so_reuseport",)


def test_no_limit_is_the_largest_message() -> None:
    found, _ = parse("grpc.max_receive_message_length=-1")
    assert found.max_receive_message_length == LARGEST_MESSAGE == (1 << 31) - 1
    assert parse("") == (Arguments(), ())


@pytest.mark.parametrize(
    "text", ["grpc.max_concurrent_streams", "=5", "grpc.max_concurrent_streams=many",
             "grpc.max_concurrent_streams=-2"]
)  # fmt: skip
def test_arguments_in_another_form(text: str) -> None:
    with pytest.raises(UsageError, match="--grpc_channel_arguments: "):
        parse(text)
