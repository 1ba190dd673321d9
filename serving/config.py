"""The model configuration file: TensorFlow Serving's `ModelServerConfig` as a text proto.

Field names, numbers and messages are facts of tensorflow/serving: config/model_server_config.proto,
config/file_system_storage_path_source.proto and the checks of model_servers/server_core.cc.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxrt.errors import UsageError
from jaxrt.serving import textproto
from jaxrt.serving.engine.source import All, Latest, Policy, Specific, is_relative
from jaxrt.serving.textproto import Field

PLATFORM = "tensorflow"

_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
_MESSAGES: textproto.Messages = {
    "FileSystemStoragePathSourceConfig": (),
    _POLICY: (
        Field("latest", 100, f"{_POLICY}.Latest", oneof="policy_choice"),
        Field("all", 101, f"{_POLICY}.All", oneof="policy_choice"),
        Field("specific", 102, f"{_POLICY}.Specific", oneof="policy_choice"),
    ),
    f"{_POLICY}.Latest": (Field("num_versions", 1, "uint32"),),
    f"{_POLICY}.All": (),
    f"{_POLICY}.Specific": (Field("versions", 1, "int64", repeated=True),),
    "LogCollectorConfig": (
        Field("type", 1, "string"),
        Field("filename_prefix", 2, "string"),
    ),
    "SamplingConfig": (Field("sampling_rate", 1, "double"), Field("attributes", 2, "int32")),
    "LoggingConfig": (
        Field("log_collector_config", 1, "LogCollectorConfig"),
        Field("sampling_config", 2, "SamplingConfig"),
    ),
    "ModelConfig": (
        Field("name", 1, "string"),
        Field("base_path", 2, "string"),
        Field("model_type", 3, "ModelType"),
        Field("model_platform", 4, "string"),
        Field("logging_config", 6, "LoggingConfig"),
        Field("model_version_policy", 7, _POLICY),
        Field("version_labels", 8, "int64", key="string"),
    ),
    "ModelConfigList": (Field("config", 1, "ModelConfig", repeated=True),),
    "ModelServerConfig": (
        Field("model_config_list", 1, "ModelConfigList", oneof="config"),
        Field("custom_model_config", 2, textproto.ANY, oneof="config"),
    ),
}
_ENUMS: textproto.Enums = {"ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One model to serve: name and base path are set, the base path is absolute or a URI."""

    name: str
    base_path: str
    policy: Policy = Latest()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Label → version; whether that version is available is the manager's to check."""


def read(path: Path) -> tuple[ModelConfig, ...]:
    """The models of the configuration file at `path`; UsageError when it is wrong."""
    return parse(read_text(path), where=str(path))


def read_text(path: Path) -> str:
    """The configuration file at `path`; UsageError when it cannot be read."""
    want = "a ModelServerConfig text proto: correct --model_config_file"
    return textproto.read_text(path, want=want)


def parse(text: str, *, where: str) -> tuple[ModelConfig, ...]:
    """The models of a ModelServerConfig text proto, in its order; an empty text has none.

    Raises UsageError that begins with `where` and goes on in TensorFlow Serving's words.
    """
    return parse_set(text, where=where) or ()


def parse_set(
    text: str, *, where: str, live: Collection[str] = ()
) -> tuple[ModelConfig, ...] | None:
    """As `parse`; None where the text has no list at all, which changes nothing in a reload.

    `live` are the names of the models served now: their platform cannot be changed.
    """
    message = message_type()()
    textproto.parse(text, message, where=where)
    if message.WhichOneof("config") == "custom_model_config":
        if live:
            raise UsageError(f"{where}: {TRANSITION}")
        raise UsageError(
            f"{where}: Missing custom_model_config_loader: custom_model_config is not supported, "
            "list the models in model_config_list"
        )
    if message.WhichOneof("config") is None:
        return None
    try:
        return listed(message.model_config_list, live=live)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def from_bytes(serialized: bytes, *, live: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """As `parse_set`, of a serialized ModelServerConfig that must have a list.

    Raises UsageError in TensorFlow Serving's words, google.protobuf.message.DecodeError where the
    bytes are no such message.
    """
    message = message_type().FromString(serialized)
    if message.WhichOneof("config") != "model_config_list":
        raise UsageError(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    return listed(message.model_config_list, live=live)


TRANSITION = (
    "Cannot transition to requested config. It is only legal to transition from one "
    "ModelConfigList to another."
)
"""TensorFlow Serving's words for a reload that is no list."""


def listed(message: Any, *, live: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """The models of a ModelConfigList message, whichever package made its class.

    Raises UsageError in TensorFlow Serving's words.
    """
    configs = list(message.config)
    _check_list(configs)
    for config in configs:
        if config.name in live and (platform := _platform(config)) != PLATFORM:
            raise UsageError(
                f"Illegal to change a model's platform. For model {config.name} platform was "
                f"{PLATFORM} and new platform requested is {platform}"
            )
    return tuple(_model(config) for config in configs)


@functools.cache
def message_type() -> type[Any]:
    """The class of the message ModelServerConfig."""
    return textproto.message_type("tensorflow.serving", "ModelServerConfig", _MESSAGES, _ENUMS)


def _check_list(configs: list[Any]) -> None:
    """Names first, then paths, over the whole list: the order of TensorFlow Serving's checks."""
    names: set[str] = set()
    for config in configs:
        if not config.name:
            raise UsageError(
                f"found a model without a name (base_path {config.base_path!r}): add name"
            )
        if config.name in names:
            raise UsageError(f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)
    for config in configs:
        if is_relative(config.base_path):
            raise UsageError(
                f"Expected model {config.name} to have an absolute path or URI; "
                f"got base_path()={config.base_path}"
            )


def _model(config: Any) -> ModelConfig:
    platform = _platform(config)
    if platform != PLATFORM:
        raise UsageError(
            f"Model {config.name} requests unsupported platform {platform}; want {PLATFORM!r}"
        )
    if config.HasField("logging_config"):
        raise UsageError(
            f"Model {config.name}: No request-logger-creator provided. Remove logging_config: "
            "requests are not logged by this server"
        )
    return ModelConfig(
        name=config.name,
        base_path=config.base_path,
        policy=_policy(config.model_version_policy),
        labels=dict(sorted(config.version_labels.items())),
    )


def _platform(config: Any) -> str:
    if config.model_type:
        if config.model_platform:
            raise UsageError(
                f"Model {config.name}: Illegal setting both ModelServerConfig::model_type "
                "(deprecated) and ModelServerConfig::model_platform. Remove model_type"
            )
        if config.model_type != _ENUMS["ModelType"]["TENSORFLOW"]:
            raise UsageError(
                f"Model {config.name}: ModelServerConfig::model_type choice {config.model_type} "
                f"not supported. Write model_platform: {PLATFORM!r}"
            )
        return PLATFORM
    if not config.model_platform:
        raise UsageError(
            f"Model {config.name}: Illegal setting neither ModelServerConfig::model_type "
            "(deprecated) nor ModelServerConfig::model_platform. "
            f"Write model_platform: {PLATFORM!r}"
        )
    return str(config.model_platform)


def _policy(message: Any) -> Policy:
    match message.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(tuple(message.specific.versions))
        case _:  # none is the same as `latest {}`
            return Latest(max(message.latest.num_versions, 1))
