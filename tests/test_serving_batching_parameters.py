"""The batching files: TensorFlow Serving's text protos as they are; what is wrong with others."""

from pathlib import Path

import pytest

from jaxrt.errors import ModelError, UsageError
from jaxrt.serving.batching_parameters import Batching, from_flags, parse, read
from jaxrt.serving.engine.parameters import BatchingParameters

GUIDE = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""
"""As the batching guide of TensorFlow Serving has it."""


def test_the_file_of_the_batching_guide_is_read_as_it_is() -> None:
    assert parse(GUIDE, where="f") == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
    )


def test_every_field_is_read() -> None:
    text = """
    # all of them
    max_batch_size: { value: 16 } batch_timeout_micros { value: 100000 }
    max_enqueued_batches { value: 3 } num_batch_threads { value: 2 }
    thread_pool_name { value: 'mine' }
    allowed_batch_sizes: [4, 8, 16] pad_variable_length_inputs: true
    enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 }
    """
    assert parse(text, where="f") == BatchingParameters(
        max_batch_size=16,
        batch_timeout_micros=100_000,
        max_enqueued_batches=3,
        num_batch_threads=2,
        thread_pool_name="mine",
        allowed_batch_sizes=(4, 8, 16),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=8,
    )


def test_an_empty_file_is_all_defaults() -> None:
    assert parse("", where="f") == BatchingParameters()


def test_a_wrapper_without_a_value_is_zero() -> None:
    assert parse("batch_timeout_micros { }", where="f").batch_timeout_micros == 0
    with pytest.raises(UsageError, match="num_batch_threads must be positive; was 0"):
        parse("num_batch_threads { }", where="f")


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size: 4",
        "max_batch { value: 4 }",
        "max_batch_size { value: 4",
        "allowed_batch_sizes { value: 4 }",
        "max_batch_size { value: 1.5 }",
        "pad_variable_length_inputs { value: true }",
        "mixed_priority_batching_policy: 1",
    ],
)
def test_what_is_no_such_text_proto_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, where="/etc/batching.config")
    message = str(caught.value)
    assert message.startswith(
        "/etc/batching.config: Error parsing text-format tensorflow.serving.BatchingParameters: 1:"
    )
    assert message.endswith("Invalid protobuf file: '/etc/batching.config'")
    assert "\n" not in message


def test_values_that_contradict_each_other_are_refused_with_the_file() -> None:
    text = "max_batch_size { value: 8 } allowed_batch_sizes: 4"
    with pytest.raises(UsageError) as caught:
        parse(text, where="f")
    assert str(caught.value) == (
        "f: Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
        "expected 8"
    )


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read it .No such file or directory."):
        read(tmp_path / "missing")
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot read it .not UTF-8."):
        read(tmp_path / "latin")


def test_without_the_flag_nothing_is_batched() -> None:
    found = from_flags(enable_batching=False, batching_parameters_file=None, per_model=True)
    assert found is None


def test_a_file_without_the_flag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match="server_options.batching_parameters_file is set without setting "
        "server_options.enable_batching to true.",
    ):
        from_flags(enable_batching=False, batching_parameters_file=tmp_path / "f", per_model=False)


def test_the_flag_without_a_file_means_defaults_and_another_pool_name() -> None:
    found = from_flags(enable_batching=True, batching_parameters_file=None, per_model=False)
    assert found is not None
    assert found.common == BatchingParameters(thread_pool_name="model_server_batch_threads")


def test_all_models_share_the_parameters_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(GUIDE)
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 7 }")
    found = from_flags(enable_batching=True, batching_parameters_file=file, per_model=False)
    assert found is not None
    assert found.of(tmp_path) == parse(GUIDE, where="f")


def test_each_version_has_its_own_file_or_is_not_batched(tmp_path: Path) -> None:
    batching = Batching(common=BatchingParameters(max_batch_size=4), per_model=True)
    assert batching.of(tmp_path) is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 10 }")
    assert batching.of(tmp_path) == BatchingParameters(max_batch_size=10)


def test_a_wrong_file_of_a_version_fails_its_load_and_not_the_server(tmp_path: Path) -> None:
    batching = Batching(common=BatchingParameters(), per_model=True)
    file = tmp_path / "batching_params.pbtxt"
    file.write_text("max_batch_size: 10")
    with pytest.raises(ModelError, match="Invalid protobuf file: '.*batching_params.pbtxt'"):
        batching.of(tmp_path)
    file.write_text("max_batch_size { value: 2 } allowed_batch_sizes: 1 allowed_batch_sizes: 3")
    with pytest.raises(ModelError, match="last entry was 3; expected 2"):
        batching.of(tmp_path)
