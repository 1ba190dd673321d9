"""What the flags of `jaxrt serve` say of gRPC."""

import logging
from pathlib import Path

from jaxrt.cli.settings import Settings
from jaxrt.serving.rpc import arguments, tls
from jaxrt.serving.rpc.service import Options

log = logging.getLogger("jaxrt.serving")


def options(settings: Settings) -> Options:
    """Raises UsageError for arguments and files that cannot be used."""
    limits, idle = arguments.parse(settings.grpc_channel_arguments or "")
    if idle:
        log.warning("--grpc_channel_arguments: %s: no effect here", ", ".join(idle))
    return Options(
        arguments=limits,
        tls=tls.read(Path(settings.ssl_config_file)) if settings.ssl_config_file else None,
        health=settings.enable_grpc_healthcheck_service,
        content=settings.enable_serialization_as_tensor_content,
        check_method_name=settings.enable_signature_method_name_check,
    )
