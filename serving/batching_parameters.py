"""The batching files: TensorFlow Serving's `BatchingParameters` as text protos.

One file for the server (`--batching_parameters_file`) or, with
`--enable_per_model_batching_parameters`, one in each version directory. Names, numbers and rules
are facts of tensorflow/serving: servables/tensorflow/session_bundle_config.proto,
bundle_factory_util.cc and model_servers/server.cc.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from jaxrt.artifact import BATCHING
from jaxrt.errors import ModelError, UsageError
from jaxrt.serving import textproto
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.textproto import Field

PER_MODEL = BATCHING
"""In a version directory, beside saved_model.pb or an artifact's manifest."""

DEFAULT_POOL = "model_server_batch_threads"
"""The thread pool's name where no file gives one."""

_WRAPPERS = {"Int64Value": "int64", "StringValue": "string", "BoolValue": "bool"}
_FIELDS = (
    Field("max_batch_size", 1, "Int64Value"),
    Field("batch_timeout_micros", 2, "Int64Value"),
    Field("max_enqueued_batches", 3, "Int64Value"),
    Field("num_batch_threads", 4, "Int64Value"),
    Field("thread_pool_name", 5, "StringValue"),
    Field("allowed_batch_sizes", 6, "int64", repeated=True),
    Field("pad_variable_length_inputs", 7, "bool"),
    Field("enable_large_batch_splitting", 8, "BoolValue"),
    Field("max_execution_batch_size", 9, "Int64Value"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """What `--enable_batching` and the flags beside it say."""

    common: BatchingParameters
    """Of all models; with `per_model`, only the threads count."""
    per_model: bool = False

    def of(self, version: Path) -> BatchingParameters | None:
        """Of the version in this directory; None: its requests are not queued for batches.

        Raises ModelError when its own file is wrong.
        """
        if not self.per_model:
            return self.common
        path = version / PER_MODEL
        if not path.is_file():
            return None
        try:
            return read(path)
        except UsageError as error:
            raise ModelError(str(error)) from error


def from_flags(
    *, enable_batching: bool, batching_parameters_file: Path | None, per_model: bool
) -> Batching | None:
    """None without `--enable_batching`; raises UsageError."""
    if not enable_batching:
        if batching_parameters_file is not None:
            raise UsageError(
                "server_options.batching_parameters_file is set without setting "
                "server_options.enable_batching to true.: pass --enable_batching=true, or leave "
                f"out --batching_parameters_file={batching_parameters_file}"
            )
        return None
    if batching_parameters_file is None:
        common = BatchingParameters(thread_pool_name=DEFAULT_POOL)
    else:
        common = read(batching_parameters_file)
    return Batching(common=common, per_model=per_model)


def read(path: Path) -> BatchingParameters:
    """The parameters in the file at `path`; UsageError when it is wrong."""
    want = "a BatchingParameters text proto: correct --batching_parameters_file"
    return parse(textproto.read_text(path, want=want), where=str(path))


def parse(text: str, *, where: str) -> BatchingParameters:
    """The parameters of a text proto; UsageError begins with `where`."""
    message = _message()()
    try:
        textproto.parse(text, message, where=where)
    except UsageError as error:
        raise UsageError(f"{error}. Invalid protobuf file: '{where}'") from error.__cause__
    try:
        return BatchingParameters(**_values(message))
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _values(message: Any) -> dict[str, Any]:
    """The fields that are set, by name."""
    values: dict[str, Any] = {
        "allowed_batch_sizes": tuple(message.allowed_batch_sizes),
        "pad_variable_length_inputs": message.pad_variable_length_inputs,
    }
    for field in _FIELDS:
        if field.type in _WRAPPERS and message.HasField(field.name):
            values[field.name] = getattr(message, field.name).value
    return values


@functools.cache
def _message() -> type[Any]:
    wrappers = {name: (Field("value", 1, kind),) for name, kind in _WRAPPERS.items()}
    messages = {**wrappers, "BatchingParameters": _FIELDS}
    return textproto.message_type("tensorflow.serving", "BatchingParameters", messages, {})
