"""Flags of a server with several devices, or several hosts."""

import click

from jaxrt.cli.flags.flag import Section, flag, group, text

DEVICES = Section(
    "Several devices",
    "A model compiled for a mesh runs on all devices of it together; one that fits on fewer runs "
    "on each of them, or each group of them, at the same time.",
)

replicas = group(
    flag(
        "replicas",
        DEVICES,
        type=str,
        default="auto",
        metavar="auto|N",
        help="How often each model is loaded, on devices of its own; auto: as often as there are "
        "devices for.",
    ),
)

hosts = group(
    flag(
        "coordinator",
        DEVICES,
        type=text,
        metavar="HOST:PORT",
        help="Of several hosts that serve together, the first one's address: PORT is jax's "
        "coordinator, the port above it carries batches.",
    ),
    flag(
        "num-hosts",
        DEVICES,
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Processes that serve together, one on each host; wants --coordinator.",
    ),
    flag(
        "host-index",
        DEVICES,
        type=click.IntRange(min=0),
        default=0,
        metavar="I",
        help="Which of them this is; 0 answers requests, the others compute their part.",
    ),
)
