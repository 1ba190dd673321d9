"""`--coordinator`, `--num-hosts`, `--host-index`: several hosts that serve one mesh together.

jax.distributed joins their devices; every process then has to run the same programs in the same
order. The first one answers requests and sends each batch to those whose devices it runs on.
"""

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxrt import __version__, loader, target
from jaxrt.artifact import Artifact, open_artifact
from jaxrt.channel import Channel, Message, connect
from jaxrt.cli.settings import Settings
from jaxrt.digest import json_sha256
from jaxrt.errors import DeviceError, JaxrtError, UsageError
from jaxrt.hosts import Hosts
from jaxrt.member import Member, Programs
from jaxrt.parts import Parts

log = logging.getLogger("jaxrt.serving")

PATIENCE = 300
"""Seconds for all hosts to start."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The hosts, as each of them was told."""

    host: str
    """Of the first one."""
    port: int
    """Of jax's coordinator; the next one is ours."""
    count: int
    index: int

    @classmethod
    def of(cls, settings: Settings) -> "Cluster | None":
        """None for a host that serves alone. Raises UsageError for flags that contradict."""
        if settings.coordinator is None:
            if settings.num_hosts > 1 or settings.host_index:
                raise UsageError("--num-hosts and --host-index: want --coordinator HOST:PORT too")
            return None
        host, _, port = settings.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65535:
            raise UsageError(f"--coordinator {settings.coordinator!r}: want HOST:PORT")
        if settings.host_index >= settings.num_hosts:
            raise UsageError(
                f"--host-index {settings.host_index} of --num-hosts {settings.num_hosts}: want "
                f"0 to {settings.num_hosts - 1}"
            )
        if settings.num_workers > 1:
            raise UsageError("--num-workers and --coordinator: each host serves with one process")
        if settings.num_hosts == 1:
            return None
        return cls(
            host=host.strip("[]"),
            port=int(port),
            count=settings.num_hosts,
            index=settings.host_index,
        )


@contextlib.contextmanager
def leading(cluster: Cluster | None) -> Iterator[Hosts | None]:
    """Waits for the others; tells them to stop at the end. To be entered before jax has devices.

    Raises DeviceError when one does not come, UsageError when the port is taken.
    """
    if cluster is None:
        yield None
        return
    port = cluster.port + 1
    try:
        listening = socket.create_server(("", port), backlog=cluster.count)
    except OSError as error:
        raise UsageError(
            f"port {port}, the one above that of --coordinator: {error.strerror}"
        ) from None
    with listening:
        _join(cluster)
        hosts = Hosts(_accept(listening, cluster))
    log.info("%d hosts have joined", cluster.count)
    try:
        yield hosts
    except JaxrtError as error:
        if hosts.gone.is_set():
            log.error("%s", error)
            leave(hosts)
        raise
    finally:
        hosts.stop()
        if not hosts.gone.is_set():
            jax.distributed.shutdown()


def leave(hosts: Hosts) -> NoReturn:
    """Ends this process at once: what still runs can be neither stopped nor waited for."""
    hosts.stop()
    logging.shutdown()
    os._exit(1)


def follow(settings: Settings, cluster: Cluster) -> None:
    """What the other hosts do; returns when the first one has told them to stop.

    Raises DeviceError when the first one cannot be reached, SystemExit when it is gone.
    """
    try:
        _join(cluster)
        channel = connect(cluster.host, cluster.port + 1, seconds=PATIENCE)
        channel.send(Message({"host": cluster.index, "jaxrt": __version__}))
    except OSError as error:
        raise DeviceError(
            f"host 0, {cluster.host}:{cluster.port + 1}: cannot be reached: {error}"
        ) from error
    # All hosts make their devices at the same time: the first one does when all are connected.
    attached = target.select(settings.device)
    log.info("host %d of %d: follows %s", cluster.index, cluster.count, cluster.host)
    if Member(channel, lambda fields: _load(fields, attached)).follow():
        log.info("host 0 stops")
        jax.distributed.shutdown()
        return
    logging.shutdown()
    os._exit(1)  # what still runs can be neither stopped nor waited for


def described(artifact: Artifact) -> dict[str, Any]:
    """What the others are told of a model: where it lies, and what has to lie there."""
    content = json_sha256(artifact.manifest.to_json())
    return {"path": os.path.abspath(artifact.path), "content": content}


def _load(fields: Mapping[str, Any], attached: target.Target) -> Programs:
    """Raises JaxrtError leaves."""
    with open_artifact(Path(fields["path"])) as artifact:
        if described(artifact)["content"] != fields["content"]:
            raise DeviceError(
                f"{artifact.path}: another artifact than the first host's; copy that one here"
            )
        where = loader.places(artifact, attached, fields["replicas"])
        parts = Parts(artifact, attached, where)
        return {p.key: parts.load(p).programs for p in artifact.manifest.programs}


def _join(cluster: Cluster) -> None:
    """Raises DeviceError when not all hosts do so within PATIENCE."""
    # Only CPUs, whose devices have no links of their own, look at it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator_address=f"{cluster.host}:{cluster.port}",
            num_processes=cluster.count,
            process_id=cluster.index,
            initialization_timeout=PATIENCE,
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"{cluster.host}:{cluster.port}: not all of {cluster.count} hosts joined ({reason}); "
            "start them with the same --coordinator and --num-hosts"
        ) from error


def _accept(listening: socket.socket, cluster: Cluster) -> dict[int, Channel]:
    """A channel to each of the others. Raises DeviceError."""
    found: dict[int, Channel] = {}
    listening.settimeout(PATIENCE)
    while len(found) < cluster.count - 1:
        try:
            sock, (address, *_) = listening.accept()
            sock.settimeout(PATIENCE)
            channel = Channel(sock)
            fields = channel.receive().fields
            sock.settimeout(None)
        except TimeoutError as error:
            missing = sorted({*range(1, cluster.count)} - found.keys())
            raise DeviceError(f"hosts {missing} did not connect in {PATIENCE} s") from error
        except OSError as error:
            log.warning("%s: %s", address, error)
            continue
        if fields.get("jaxrt") != __version__ or fields.get("host") not in range(1, cluster.count):
            raise DeviceError(
                f"{address}: host {fields.get('host')} with jaxrt {fields.get('jaxrt')}, this one "
                f"has {__version__} and waits for hosts 1 to {cluster.count - 1}"
            )
        found[fields["host"]] = channel
    return found
