"""The flags of `jaxrt serve`: TensorFlow Serving's names, spellings, defaults and checks."""

import re
from collections.abc import Mapping
from types import MappingProxyType

import click
import pytest
from endtoend import run_here

from jaxrt.cli.flags.arguments import Spelling, take_apart
from jaxrt.cli.flags.command import given, unknown, unused
from jaxrt.cli.serve import command
from jaxrt.cli.settings import Settings, resolve
from jaxrt.errors import UsageError

# Every flag of tensorflow_serving/model_servers/main.cc with its default, and those of Google's
# optimized TensorFlow runtime; None is a default that depends on the machine or the invocation.
TENSORFLOW_SERVING = {
    "port": "8500",
    "grpc_socket_path": "",
    "rest_api_port": "0",
    "rest_api_num_threads": None,
    "rest_api_timeout_in_ms": "30000",
    "rest_api_enable_cors_support": "false",
    "enable_batching": "false",
    "allow_version_labels_for_unavailable_models": "false",
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": "false",
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": "0",
    "model_name": "default",
    "model_base_path": "/models/m",
    "num_load_threads": "0",
    "num_unload_threads": "0",
    "max_num_load_retries": "5",
    "load_retry_interval_micros": "60000000",
    "file_system_poll_wait_seconds": "1",
    "flush_filesystem_caches": "true",
    "tensorflow_session_parallelism": "0",
    "tensorflow_intra_op_parallelism": "0",
    "tensorflow_inter_op_parallelism": "0",
    "tensorflow_session_config_file": "",
    "use_alts_credentials": "false",
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": "0",
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "grpc_max_threads": None,
    "enable_model_warmup": "true",
    "num_request_iterations_for_warmup": "0",
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": "true",
    "prefer_tflite_model": "false",
    "num_tflite_pools": None,
    "num_tflite_interpreters_per_pool": "1",
    "enable_signature_method_name_check": "false",
    "xla_cpu_compilation_enabled": "false",
    "xla_gpu_compilation_enabled": "false",
    "enable_profiler": "true",
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": "false",
    "enable_grpc_healthcheck_service": "false",
    "enable_serialization_as_tensor_content": "false",
    "use_tfrt": "false",
    "allow_precompilation": "true",
    "allow_compression": "false",
    "disable_optimizer": "false",
}

NOWHERE: Mapping[str, str] = MappingProxyType({})


def parsed(*words: str) -> click.Context:
    return command.make_context("serve", list(words))


def settings(*words: str, environment: Mapping[str, str] = NOWHERE) -> Settings:
    context = parsed(*words)
    return resolve(Settings(**context.params, given=given(context)), environment)


@pytest.mark.parametrize("flag", TENSORFLOW_SERVING)
@pytest.mark.parametrize("joint", ["=", " "])
def test_every_flag_of_tensorflow_serving_is_taken(flag: str, joint: str) -> None:
    value = TENSORFLOW_SERVING[flag] or "4"
    context = parsed(*f"--{flag}{joint}{value}".split(" "))
    assert unknown(context) == []
    assert {"saved_model_tags": "tags"}.get(flag, flag) in given(context)
    assert context.params["path"] is None


def test_the_defaults_are_tensorflow_servings() -> None:
    words = [f"--{flag}={value}" for flag, value in TENSORFLOW_SERVING.items() if value is not None]
    said, left = settings(*words), settings("--model_base_path=/models/m")
    differing = [
        name
        for name in Settings.__dataclass_fields__
        if name != "given" and getattr(said, name) != getattr(left, name)
    ]
    assert differing == []


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching=1"], True),
        (["--enable_batching=TRUE"], True),
        (["--enable_batching", "true"], True),
        (["--enable_batching=false"], False),
        (["--enable_batching=0"], False),
        (["--enable_batching", "false"], False),
        (["--enable-batching"], True),
        (["--enable_batching=false", "--enable_batching"], True),
        ([], False),
    ],
)
def test_a_bool_is_written_in_all_of_tensorflows_ways(words: list[str], value: bool) -> None:
    assert settings("--model_base_path=/m", *words).enable_batching is value


def test_a_bool_alone_does_not_take_the_path_for_its_value() -> None:
    found = settings("--enable_batching", "model.jaxrt")
    assert found.enable_batching and str(found.path) == "model.jaxrt"


def test_unknown_flags_are_put_aside_with_their_values_and_a_hint() -> None:
    context = parsed(
        *("--rest_port", "1", "model.jaxrt", "--new_flag=a b", "--last"),
    )
    assert str(context.params["path"]) == "model.jaxrt"
    assert unknown(context) == [
        "unknown argument: --rest_port 1 (did you mean --rest_api_port?)",
        "unknown argument: --new_flag=a b",
        "unknown argument: --last",
    ]


def test_words_behind_two_dashes_are_paths() -> None:
    assert str(settings("--", "--model").path) == "--model"


def test_values_may_begin_with_a_dash() -> None:
    assert settings("--load_retry_interval_micros", "-1", "m").load_retry_interval_micros == -1


def test_an_empty_value_is_none() -> None:
    found = settings("--model_base_path=/m", "--ssl_config_file=", "--model_config_file", "")
    assert (found.ssl_config_file, found.model_config_file) == (None, None)


def test_short_flags_keep_their_values() -> None:
    short = Spelling("--output")
    assert take_apart(["-o", "a", "m"], {"o": short}).known == ["--output=a", "--", "m"]
    assert take_apart(["-oa", "m"], {"o": short}).known == ["-oa", "--", "m"]


def test_flags_that_decide_nothing_say_why_if_they_are_given() -> None:
    assert unused(parsed("model.jaxrt", "--enable_batching")) == {}
    found = unused(parsed("m", "--use_tfrt=true", "--rest_api_num_threads", "8"))
    assert found.keys() == {"--use_tfrt", "--rest_api_num_threads"}
    assert "--num-workers" in found["--rest_api_num_threads"]


def test_they_are_named_once_at_the_start_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    run_here("serve", "--use_tfrt", "--mixed_precision=bfloat16", "--hm")
    said = [record.message for record in caplog.records]
    assert said[0] == "unknown argument: --hm"
    assert said[1].startswith("flags that decide nothing here: --use_tfrt (programs are XLA's")
    assert "; --mixed_precision (" in said[1]
    assert len(said) == 2


@pytest.mark.parametrize(
    ("words", "grpc", "rest"),
    [
        (["model.jaxrt"], 8500, 8501),
        (["model.jaxrt", "--port=9000"], 9000, 8501),
        (["model.jaxrt", "--port=0"], None, 8501),
        (["model.jaxrt", "--rest_api_port=0"], 8500, None),
        (["--model_base_path=/models/m"], 8500, None),
        (["--model_config_file=/models/models.config", "--port=9000"], 9000, None),
        (["--model_base_path=/models/m", "--rest_api_port=8501"], 8500, 8501),
        (["--model_base_path=/models/m", "--rest_api_port=auto"], 8500, 0),
    ],
)
def test_the_ports_are_tensorflow_servings_with_its_flags_and_both_with_a_path(
    words: list[str], grpc: int | None, rest: int | None
) -> None:
    found = settings(*words)
    assert (found.port, found.rest_api_port) == (grpc, rest)


@pytest.mark.parametrize(
    ("environment", "words", "name", "base"),
    [
        ({"MODEL_NAME": "half"}, [], "half", "/models/half"),
        ({"MODEL_BASE_PATH": "/srv"}, [], "model", "/srv/model"),
        ({"MODEL_NAME": "half", "MODEL_BASE_PATH": "gs://b"}, [], "half", "gs://b/half"),
        ({"MODEL_NAME": "half"}, ["--model_name=other"], "other", "/models/half"),
        ({"MODEL_NAME": "half"}, ["--model_base_path=/srv/x"], "half", "/srv/x"),
        ({}, ["--model_base_path=/srv/x"], "default", "/srv/x"),
        ({"MODEL_NAME": "half"}, ["--model_config_file=/m.config"], None, None),
        ({"MODEL_NAME": "half", "MODEL_BASE_PATH": "/srv"}, ["model.jaxrt"], None, None),
    ],
)
def test_the_environment_names_the_model_as_in_tensorflow_servings_image(
    environment: dict[str, str], words: list[str], name: str | None, base: str | None
) -> None:
    found = settings(*words, environment=environment)
    assert (found.model_name, found.model_base_path) == (name, base)


def test_the_image_opens_both_ports() -> None:
    found = settings(environment={"MODEL_NAME": "half"})
    assert (found.port, found.rest_api_port) == (8500, 8501)


def test_a_config_file_beats_the_single_model() -> None:
    found = settings("--model_config_file=/c", "--model_name=m", "--model_base_path=/m")
    assert (found.model_config_file, found.model_name, found.model_base_path) == ("/c", None, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--batching_parameters_file=/b"],
            "--batching_parameters_file is set without setting --enable_batching to true",
        ),
        (
            [
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            "--tensorflow_session_parallelism is set beside",
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        settings("--model_base_path=/m", *words)


def test_parallelism_of_sessions_stands_for_both_others() -> None:
    found = settings("m", "--tensorflow_session_parallelism=3")
    assert (found.intra_op_threads, found.inter_op_threads) == (3, 3)
    found = settings("m", "--tensorflow_intra_op_parallelism=2")
    assert (found.intra_op_threads, found.inter_op_threads) == (2, None)


def test_help_has_sections_that_explain_their_flags() -> None:
    said = run_here("serve", "--help").stdout
    for title in ("Models:", "Ports:", "Versions:", "Batching:", "Accepted:"):
        assert f"\n{title}\n  " in said
    missing = [flag for flag in TENSORFLOW_SERVING if f"--{flag}" not in said]
    assert missing == []


@pytest.mark.parametrize("words", [("--version",), ("--version=true",)])
def test_the_version_names_jaxrt_and_jax(words: tuple[str, ...]) -> None:
    done = run_here("serve", *words)
    assert done.returncode == 0
    assert re.fullmatch(r"jaxrt \S+\njax \S+\njaxlib \S+\n", done.stdout)
