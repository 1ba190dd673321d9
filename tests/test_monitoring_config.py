"""The monitoring configuration file."""

from pathlib import Path

import pytest

from jaxrt.errors import UsageError
from jaxrt.serving.monitoring.config import PATH, parse, read


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", None),
        ("prometheus_config {}", None),
        ('prometheus_config { path: "/m" }', None),
        ("prometheus_config { enable: true }", PATH),
        ("prometheus_config: { enable: true, path: '/m/etrics' }", "/m/etrics"),
    ],
)
def test_the_page_is_where_the_file_says_if_it_is_enabled(text: str, path: str | None) -> None:
    assert parse(text, where="f") == path


@pytest.mark.parametrize("path", ["metrics", "/metrics?x"])
def test_a_path_that_nobody_can_ask_for_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="f: path .* begin it with /"):
        parse(f'prometheus_config {{ enable: true path: "{path}" }}', where="f")


def test_a_text_that_is_no_monitoring_config_is_refused_in_tensorflow_servings_words() -> None:
    with pytest.raises(
        UsageError, match=r"f: Error parsing text-format tensorflow\.serving\.MonitoringConfig"
    ):
        parse("model_config_list {}", where="f")


def test_a_file_that_is_not_there_is_refused_by_the_flag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="correct --monitoring_config_file"):
        read(tmp_path / "none")
