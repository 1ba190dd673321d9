"""Targets made of topologies: devices elsewhere, and several devices that are here."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxrt import target as core
from jaxrt.errors import UsageError
from jaxrt.layouts import LayOut
from jaxrt.target import Target
from jaxrt.tpu import aot
from jaxrt.tpu.together import Orders, Together
from jaxrt.tpu.topology import Topology, of_devices, parse


def elsewhere(topology: Topology) -> Target:
    """The target of a slice or of GPUs that are not here, as the platform's compiler describes it.

    Its fingerprint is that of such a device where it is attached, as far as both clients say the
    same of themselves. Raises DeviceError when the compiler is not installed.
    """
    device = aot.devices(topology)[0]
    features = core.accelerator_features(device)
    return Target(
        platform=topology.chip.platform,
        device_kind=device.device_kind,
        num_devices=topology.devices,
        fingerprint=core.fingerprint(features),
        features=core.spelled(features),
        topology=topology.name,
        absent=True,
    )


def named(device: str, topology: str | None) -> Topology | None:
    """The topology that `--device` and `--topology` name; None: an attached device.

    Raises UsageError where they contradict each other, and for unknown names.
    """
    generic = device in core.PLATFORMS or core.emulated(device) is not None
    if generic and topology is None:
        return None
    if topology is None:
        return parse(device)
    found = parse(topology)
    if not generic or core.platform_of(device) != found.chip.platform:
        raise UsageError(
            f"--device {device} --topology {topology}: want --device "
            f"{'gpu' if found.chip.platform == 'cuda' else found.chip.platform}, or "
            f"--device {topology} alone"
        )
    return found


def together(attached: Target, replicas: int | None = None) -> Target:
    """The devices of this machine that one program is to be planned for.

    TPUs and GPUs: all that are attached, where their kind is known; emulated ones: as many as were
    asked for. `replicas`: how many shares of them are to be served from; None: one.
    """
    count = attached.num_devices
    if attached.platform != "cpu":
        count = len(core.devices(attached.platform))
    count = max(count // (replicas or 1), 1)
    topology = of_devices(attached.device_kind, count)
    if count == 1 or topology is None or topology.devices != count:
        return dataclasses.replace(attached, num_devices=1, topology="")
    return dataclasses.replace(attached, num_devices=count, topology=topology.name)


def laying(target: Target, orders: Orders) -> LayOut | None:
    """How programs are laid out on a target; None: on the one attached device, whole."""
    if target.absent:
        return _on(parse(target.topology), orders, None)
    if target.num_devices == 1:
        return None
    topology = of_devices(target.device_kind, target.num_devices)
    if topology is None:
        return None
    attached = core.devices(target.platform)[: target.num_devices]
    return _on(topology, orders, attached)


def _on(topology: Topology, orders: Orders, attached: Sequence[Any] | None) -> LayOut:
    return lambda asked: Together(asked, topology, orders, attached)
