"""Flags of ports, protocols and what a server tells of itself."""

import click

from jaxrt.cli.flags.flag import Section, flag, group, port, text

PORTS = Section(
    "Ports",
    "`jaxrt serve PATH` opens REST on 8501 and gRPC on 8500. With TensorFlow Serving's model "
    "flags the defaults are its own: gRPC on 8500, REST only with --rest_api_port; with MODEL_NAME "
    "or MODEL_BASE_PATH those of its image: both. A port that is given has to be free; a default "
    "one that is taken stays closed, with a warning, where another is open. 0 is off, `auto` any "
    "free port.",
)
REST = Section("REST", "TensorFlow Serving's REST API and KServe's v2 protocol, on one port.")
GRPC = Section("gRPC", "PredictionService, ModelService and grpc.health.v1.")

ports = group(
    flag("port", PORTS, type=port, metavar="PORT|auto", help="gRPC; 8500 by default."),
    flag("grpc_socket_path", PORTS, type=text, metavar="FILE", help="gRPC on a UNIX socket too."),
    flag(
        "rest_api_port",
        PORTS,
        type=port,
        metavar="PORT|auto",
        help="REST; 8501 by default for PATH.",
    ),
    flag(
        "rest_api_host",
        PORTS,
        default="::",
        metavar="ADDRESS",
        help="Address that both ports are bound to; :: is all of them.",
    ),
)

rest = group(
    flag(
        "rest_api_timeout_in_ms",
        REST,
        type=int,
        default=30000,
        metavar="MILLISECONDS",
        help="A request that is not answered by then gets 504; 0: no limit.",
    ),
    flag(
        "rest_api_enable_cors_support",
        REST,
        default=False,
        help="Send Access-Control-Allow-Origin: * with every answer.",
    ),
    flag(
        "rest_api_max_body_bytes",
        REST,
        type=click.IntRange(min=0),
        default=(1 << 31) - 1,
        metavar="BYTES",
        help="A larger body, as it is sent, gets 413; 0: no limit, as in TensorFlow Serving.",
    ),
    flag(
        "rest_api_max_inflated_bytes",
        REST,
        type=click.IntRange(min=1),
        default=100 << 20,
        metavar="BYTES",
        help="A gzip body that inflates to more is taken for an empty one, as in TensorFlow "
        "Serving.",
    ),
    flag(
        "rest_api_strict_integers",
        REST,
        default=False,
        help="Refuse integers that do not fit int8, uint8 or int16; without it they are cut, as "
        "in TensorFlow Serving.",
    ),
    flag(
        "monitoring_config_file",
        REST,
        type=text,
        metavar="FILE",
        help="MonitoringConfig as a text proto: metrics for Prometheus on the REST port.",
    ),
)

grpc = group(
    flag(
        "grpc_channel_arguments",
        GRPC,
        type=text,
        metavar="KEY=VALUE,...",
        help="Arguments of the gRPC server, such as grpc.max_concurrent_streams=100.",
    ),
    flag(
        "grpc_max_threads",
        GRPC,
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads that read and write messages; 4 for each CPU when left out.",
    ),
    flag(
        "ssl_config_file",
        GRPC,
        type=text,
        metavar="FILE",
        help="SSLConfig as a text proto, with PEM texts: gRPC over TLS.",
    ),
    flag(
        "enable_grpc_healthcheck_service",
        GRPC,
        default=False,
        help="Answer grpc.health.v1.Health.",
    ),
    flag(
        "enable_serialization_as_tensor_content",
        GRPC,
        default=False,
        help="Answer with tensor_content, rather than typed fields.",
    ),
)
