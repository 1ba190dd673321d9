"""Flags of TensorFlow Serving that decide nothing here, each with the reason."""

from typing import Any

import click

from jaxrt.cli.flags.flag import Decorator, Section, flag, group, text

ACCEPTED = Section(
    "Accepted",
    "Flags of TensorFlow Serving and of its optimized runtime that decide nothing here. Those that "
    "are given are named once at start.",
)


def _accepted(name: str, why: str, **attributes: Any) -> Decorator:
    attributes.setdefault("type", text)
    if not isinstance(attributes.get("default"), bool):
        attributes.setdefault("metavar", "VALUE")
    return flag(
        name,
        ACCEPTED,
        help=why[0].upper() + why[1:] + ".",
        unused=why,
        show_default=False,
        expose_value=False,
        **attributes,
    )


accepted = group(
    _accepted("use_tfrt", "programs are XLA's, there is no TensorFlow runtime", default=False),
    _accepted(
        "allow_precompilation",
        "programs are always compiled before a version is AVAILABLE",
        default=True,
    ),
    _accepted(
        "rest_api_num_threads",
        "an event loop answers REST; --num-workers adds processes",
        type=click.IntRange(min=1),
    ),
    _accepted("enable_profiler", "there is no profiler service", default=True),
    _accepted(
        "flush_filesystem_caches",
        "files of weights are mapped, their pages are the kernel's to drop",
        default=True,
    ),
    _accepted(
        "remove_unused_fields_from_bundle_metagraph",
        "no MetaGraph is kept in memory",
        default=True,
    ),
    _accepted("platform_config_file", "there is one platform, and flags set it up"),
    _accepted(
        "tensorflow_session_config_file",
        "there are no sessions; see --tensorflow_intra_op_parallelism",
    ),
    _accepted("thread_pool_factory_config_file", "thread pools are not exchangeable"),
    _accepted("use_alts_credentials", "Google's ALTS is not offered", default=False),
    _accepted("xla_cpu_compilation_enabled", "XLA compiles everything", default=False),
    _accepted("xla_gpu_compilation_enabled", "XLA compiles everything", default=False),
    _accepted("mixed_precision", "programs compute in the dtypes of the model"),
    _accepted("skip_initialize_tpu", "a TPU is attached with --device tpu", default=False),
    _accepted("prefer_tflite_model", "TFLite models are not read", default=False),
    _accepted("num_tflite_pools", "TFLite models are not read", type=int),
    _accepted("num_tflite_interpreters_per_pool", "TFLite models are not read", type=int),
)
