"""Flags that say which models are served, and how their versions come and go."""

import click

from jaxrt.cli.flags.flag import Section, flag, group, text

MODELS = Section(
    "Models",
    "What is served: PATH; or one model's directory of numbered versions; or several models in a "
    "configuration file. Without any of them MODEL_BASE_PATH and MODEL_NAME in the environment "
    "stand for --model_base_path=$MODEL_BASE_PATH/$MODEL_NAME, as in TensorFlow Serving's image. "
    "Paths may be URIs: gs://bucket/model, s3://bucket/model, file:///models/model.",
)
LIFECYCLE = Section(
    "Versions",
    "Directories and the configuration file are looked at again and again: a new version is "
    "loaded, warmed up and takes over; a version that vanished is unloaded when its last request "
    "is answered.",
)

models = group(
    flag(
        "model_name",
        MODELS,
        type=text,
        metavar="NAME",
        help="Name in URLs. Left out, PATH's last part; `default` with --model_base_path.",
    ),
    flag(
        "model_base_path",
        MODELS,
        type=text,
        metavar="DIR|URI",
        help="Directory of numbered version directories.",
    ),
    flag(
        "model_config_file",
        MODELS,
        type=text,
        metavar="FILE|URI",
        help="ModelServerConfig as a text proto: models, version policies, labels. "
        "--model_name and --model_base_path are not looked at beside it.",
    ),
    flag(
        "allow_version_labels_for_unavailable_models",
        MODELS,
        default=False,
        help="New labels may name versions that are not loaded.",
    ),
    flag(
        "enable_signature_method_name_check",
        MODELS,
        default=False,
        help="Classify and regress only with signatures whose method_name says so.",
    ),
)

lifecycle = group(
    flag(
        "file_system_poll_wait_seconds",
        LIFECYCLE,
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="Between two looks at the base paths; 0 looks once, negative values never.",
    ),
    flag(
        "model_config_file_poll_wait_seconds",
        LIFECYCLE,
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="Between two readings of --model_config_file; 0 reads it once.",
    ),
    flag(
        "max_num_load_retries",
        LIFECYCLE,
        type=int,
        default=5,
        metavar="N",
        help="Further attempts at a version that does not load.",
    ),
    flag(
        "load_retry_interval_micros",
        LIFECYCLE,
        type=int,
        default=60_000_000,
        metavar="MICROSECONDS",
        help="Wait between attempts; negative values: none.",
    ),
    flag(
        "num_load_threads",
        LIFECYCLE,
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Versions that load at the same time after the start; 0: one after another.",
    ),
    flag(
        "num_unload_threads",
        LIFECYCLE,
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Versions that unload at the same time; 0: one after another.",
    ),
    flag(
        "enable_model_warmup",
        LIFECYCLE,
        default=True,
        help="Replay assets.extra/tf_serving_warmup_requests before a version is AVAILABLE.",
    ),
    flag(
        "num_request_iterations_for_warmup",
        LIFECYCLE,
        type=int,
        default=0,
        metavar="N",
        help="Runs of each request in that file, if above 0.",
    ),
)
