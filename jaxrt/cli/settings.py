"""What `jaxrt serve` was told: its flags as one value, with the defaults that depend on others."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from jaxrt.cli import options
from jaxrt.cli.devices import Meshing
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.errors import UsageError

GRPC_PORT, REST_PORT = 8500, 8501
"""Those of TensorFlow Serving's image."""

IMAGE_NAME, IMAGE_BASE = "model", "/models"
"""What tf_serving_entrypoint.sh of that image takes where the environment says nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The flags of `jaxrt serve`, by their names; `--help` says what they mean.

    None, for a text or a file: not given. Ports: None is closed, 0 any free one.
    """

    path: str | None
    """A path or a URI."""

    model_name: str | None
    """None: the path's last part."""
    model_base_path: str | None
    """A directory or a URI."""
    model_config_file: str | None
    """A file or a URI; with it, `model_name` and `model_base_path` are None."""
    allow_version_labels_for_unavailable_models: bool
    enable_signature_method_name_check: bool

    file_system_poll_wait_seconds: float
    """0: once; negative: never."""
    model_config_file_poll_wait_seconds: float
    """0: once."""
    max_num_load_retries: int
    load_retry_interval_micros: int
    """Negative: none."""
    num_load_threads: int
    num_unload_threads: int
    enable_model_warmup: bool
    num_request_iterations_for_warmup: int
    """1 unless above 0."""

    port: int | None
    grpc_socket_path: str | None
    rest_api_port: int | None
    rest_api_host: str
    given: frozenset[str]
    """Names of the flags on the command line: a port that is not among them may stay closed."""

    rest_api_timeout_in_ms: int
    """0 or less: no limit."""
    rest_api_enable_cors_support: bool
    rest_api_max_body_bytes: int
    """0: no limit."""
    rest_api_max_inflated_bytes: int
    rest_api_strict_integers: bool
    monitoring_config_file: str | None

    grpc_channel_arguments: str | None
    grpc_max_threads: int | None
    """None: 4 for each CPU."""
    ssl_config_file: str | None
    enable_grpc_healthcheck_service: bool
    enable_serialization_as_tensor_content: bool

    enable_batching: bool
    batching_parameters_file: str | None
    enable_per_model_batching_parameters: bool
    max_enqueued_batches: int

    device: str
    replicas: str
    coordinator: str | None
    """HOST:PORT of the first of several hosts."""
    num_hosts: int
    host_index: int
    tensorflow_session_parallelism: int
    tensorflow_intra_op_parallelism: int
    tensorflow_inter_op_parallelism: int
    per_process_gpu_memory_fraction: float
    """0: as jax does."""

    batch_sizes: str
    shapes: tuple[str, ...]
    tags: str
    autotune: str
    disabled_passes: tuple[str, ...]
    precision: str
    keep_f32: tuple[str, ...]
    allow_compression: bool
    compress: str | None
    compress_rules: tuple[str, ...]
    prune: str | None
    max_error: str | None
    min_agreement: str | None
    calibration: str | None
    goal: str
    mesh: str | None
    shards: tuple[str, ...]
    shard_policy: str | None
    shard_min_rank: int
    shard_min_elements: int
    disable_optimizer: bool
    cache_dir: Path | None

    grace: int
    """Seconds."""
    num_workers: int
    worker: str | None
    """The supervisor's `Post`, in a worker."""
    verbose: bool

    @property
    def plans_shapes(self) -> bool:
        """Whether the user chose what to compile."""
        chosen = bool(self.shapes) or self.batch_sizes != options.BATCH_SIZES
        tuned = self.autotune != options.AUTOTUNE_DEFAULT or bool(self.disabled_passes)
        rounded = self.precision != options.PRECISION_DEFAULT or bool(self.keep_f32)
        compressed = self.compression != CompressionFlags()
        meshed = not self.meshing.plain
        return chosen or tuned or rounded or compressed or meshed or self.disable_optimizer

    @property
    def compression(self) -> CompressionFlags:
        return CompressionFlags.of(
            {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        )

    @property
    def meshing(self) -> Meshing:
        names = [field.name for field in dataclasses.fields(Meshing)]
        return Meshing(**{name: getattr(self, name) for name in names})

    @property
    def intra_op_threads(self) -> int | None:
        """Of one program; None: one for each core."""
        threads = self.tensorflow_session_parallelism or self.tensorflow_intra_op_parallelism
        return threads if threads > 0 else None

    @property
    def inter_op_threads(self) -> int | None:
        """Of host stages; None: one for each core."""
        threads = self.tensorflow_session_parallelism or self.tensorflow_inter_op_parallelism
        return threads if threads > 0 else None


def resolve(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """With the defaults of models and ports, which depend on each other and on the environment.

    MODEL_NAME and MODEL_BASE_PATH stand for the model where no flag does, as in the entry point of
    TensorFlow Serving's image. Raises UsageError where flags contradict each other.
    """
    _check(settings)
    name, base, config = settings.model_name, settings.model_base_path, settings.model_config_file
    by_flags = config is not None or base is not None
    in_image = (
        settings.path is None
        and not by_flags
        and ("MODEL_NAME" in environment or "MODEL_BASE_PATH" in environment)
    )
    if config is not None:
        name = base = None
    elif in_image:
        variable = environment.get("MODEL_NAME") or IMAGE_NAME
        base = f"{environment.get('MODEL_BASE_PATH') or IMAGE_BASE}/{variable}"
        name = name or variable
    elif base is not None:
        name = name or environment.get("MODEL_NAME") or "default"
    rest = REST_PORT if settings.path is not None or in_image else None
    return dataclasses.replace(
        settings,
        model_name=name,
        model_base_path=base,
        model_config_file=config,
        port=settings.port if "port" in settings.given else GRPC_PORT,
        rest_api_port=settings.rest_api_port if "rest_api_port" in settings.given else rest,
    )


def _check(settings: Settings) -> None:
    """TensorFlow Serving's own checks (model_servers/server.cc), in its words."""
    if settings.batching_parameters_file and not settings.enable_batching:
        raise UsageError(
            "--batching_parameters_file is set without setting --enable_batching to true: pass "
            "both, or neither"
        )
    parallel = (
        settings.tensorflow_session_parallelism,
        settings.tensorflow_intra_op_parallelism,
        settings.tensorflow_inter_op_parallelism,
    )
    if all(threads > 0 for threads in parallel):
        raise UsageError(
            "--tensorflow_session_parallelism is set beside --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism: pass it alone, or the other two"
        )
