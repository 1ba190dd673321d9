"""The model configuration file, held against the facts of TensorFlow Serving's protos."""

from pathlib import Path

import pytest

from jaxrt.errors import UsageError
from jaxrt.serving import config
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine.source import All, Latest, Policy, Specific


def one(body: str) -> str:
    return f"model_config_list {{ config {{ {body} }} }}"


def model(extra: str = "") -> str:
    return f'name: "m" base_path: "/models/m" model_platform: "tensorflow" {extra}'


def parsed(text: str) -> tuple[ModelConfig, ...]:
    return config.parse(text, where="models.config")


def error(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("models.config: ")
    return str(caught.value).removeprefix("models.config: ")


def test_models_keep_their_order_and_default_to_the_latest_version() -> None:
    text = """
        # comments, commas and both quotes are text proto's
        model_config_list: {
          config: { name: 'b', base_path: "/b", model_platform: "tensorflow" }
          config { name: "a" base_path: "gs://bucket/a" model_platform: "tensorflow" };
        }
    """
    assert parsed(text) == (
        ModelConfig(name="b", base_path="/b", policy=Latest(1), labels={}),
        ModelConfig(name="a", base_path="gs://bucket/a", policy=Latest(1), labels={}),
    )


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy {}", Latest(1)),
        ("model_version_policy { latest {} }", Latest(1)),
        ("model_version_policy { latest { num_versions: 0 } }", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy: { all: {} }", All()),
        ("model_version_policy { specific { versions: 42 versions: 43 } }", Specific((42, 43))),
        ("model_version_policy { specific { versions: [1, 2] } }", Specific((1, 2))),
        ("model_version_policy { specific {} }", Specific(())),
    ],
)
def test_every_version_policy_is_read(written: str, policy: Policy) -> None:
    assert parsed(one(model(written)))[0].policy == policy


def test_labels_are_read_and_the_last_of_equal_keys_wins() -> None:
    labels = " ".join(
        f'version_labels {{ key: "{key}" value: {value} }}'
        for key, value in [("stable", 1), ("canary", 2), ("stable", 3)]
    )
    assert parsed(one(model(labels)))[0].labels == {"canary": 2, "stable": 3}


def test_the_deprecated_model_type_stands_for_the_platform() -> None:
    assert parsed(one('name: "m" base_path: "/m" model_type: TENSORFLOW'))[0].name == "m"


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "model_config_list {}"])
def test_an_empty_configuration_lists_no_models(text: str) -> None:
    assert parsed(text) == ()


def test_a_name_listed_twice_is_refused_before_paths_are_looked_at() -> None:
    first = 'name: "m" base_path: "relative" model_platform: "tensorflow"'
    twice = f"model_config_list {{ config {{ {first} }} config {{ {model()} }} }}"
    assert error(twice) == "Illegal to list model m multiple times in config list"


@pytest.mark.parametrize("path", ["models/m", "./m", ""])
def test_a_relative_base_path_is_refused(path: str) -> None:
    message = error(one(f'name: "m" base_path: "{path}" model_platform: "tensorflow"'))
    wanted = f"Expected model m to have an absolute path or URI; got base_path()={path}"
    assert message == wanted


def test_an_unknown_platform_is_refused() -> None:
    message = error(one('name: "m" base_path: "/m" model_platform: "caffe"'))
    assert message.startswith("Model m requests unsupported platform caffe")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (model("model_type: TENSORFLOW"), "Illegal setting both ModelServerConfig::model_type"),
        ('name: "m" base_path: "/m"', "Illegal setting neither ModelServerConfig::model_type"),
        ('name: "m" base_path: "/m" model_type: OTHER', "model_type choice 2 not supported."),
        (model("logging_config {}"), "No request-logger-creator provided."),
        (
            model(
                'logging_config { log_collector_config { type: "t" filename_prefix: "/p" } '
                "sampling_config { sampling_rate: 0.5 } }"
            ),
            "No request-logger-creator provided.",
        ),
        ('base_path: "/m" model_platform: "tensorflow"', "found a model without a name"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(body: str, wanted: str) -> None:
    assert wanted in error(one(body))


def test_a_custom_model_config_is_refused() -> None:
    assert "custom_model_config is not supported" in error("custom_model_config {}")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model_config_list {", "1:19"),
        ("models {}", 'no field named "models"'),
        (one(model('name: "again"')), "name"),
        (one(model("model_version_policy { latest { num_versions: -1 } }")), "-1"),
        (one(model("model_version_policy { latest {} all {} }")), "policy_choice"),
        (one(model("model_version_policy { specific { versions: 9223372036854775808 } }")), "922"),
        (one('name: "m" base_path: "/m" model_type: CAFFE'), "CAFFE"),
    ],
)
def test_a_text_that_does_not_parse_is_refused_with_its_place(text: str, part: str) -> None:
    message = error(text)
    start = "Error parsing text-format tensorflow.serving.ModelServerConfig: "
    assert message.startswith(start)
    assert part in message.removeprefix(start)


def test_a_file_is_read_and_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(one(model()))
    assert config.read(path)[0].base_path == "/models/m"
    path.write_text("{")
    with pytest.raises(UsageError, match=r"models\.config: Error parsing text-format"):
        config.read(path)


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "UTF-8")])
def test_an_unreadable_file_is_a_usage_error(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "models.config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        config.read(path)
