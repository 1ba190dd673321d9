"""The monitoring configuration file: TensorFlow Serving's `MonitoringConfig` as a text proto.

Fields are facts of tensorflow/serving: config/monitoring_config.proto.
"""

import functools
from pathlib import Path
from typing import Any

from jaxrt.errors import UsageError
from jaxrt.serving import textproto
from jaxrt.serving.textproto import Field

PATH = "/monitoring/prometheus/metrics"
"""TensorFlow Serving's, where the file names none."""

_MESSAGES: textproto.Messages = {
    "PrometheusConfig": (Field("enable", 1, "bool"), Field("path", 2, "string")),
    "MonitoringConfig": (Field("prometheus_config", 1, "PrometheusConfig"),),
}


def read(path: Path) -> str | None:
    """The path of the metrics, None where they are not enabled; UsageError on a wrong file."""
    want = "a MonitoringConfig text proto: correct --monitoring_config_file"
    return parse(textproto.read_text(path, want=want), where=str(path))


def parse(text: str, *, where: str) -> str | None:
    """As `read`, of the file's text; messages begin with `where`."""
    message = _monitoring_config()()
    textproto.parse(text, message, where=where)
    config = message.prometheus_config
    found = str(config.path) or PATH
    if not config.enable:
        return None
    if not found.startswith("/") or "?" in found:
        raise UsageError(f"{where}: path {found!r} is none that can be asked for; begin it with /")
    return found


@functools.cache
def _monitoring_config() -> type[Any]:
    return textproto.message_type("tensorflow.serving", "MonitoringConfig", _MESSAGES, {})
