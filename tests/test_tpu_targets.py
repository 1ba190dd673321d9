"""How many of the attached devices programs are planned for."""

import dataclasses

import pytest

from jaxrt import target as core
from jaxrt.target import Target
from jaxrt.tpu import targets

CHIP = Target(
    platform="tpu", device_kind="TPU v5 lite", num_devices=1, fingerprint="f", features="v5e"
)


def _attach(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(core, "devices", lambda platform: [object()] * count)


@pytest.mark.parametrize(
    ("kind", "count", "topology"),
    [
        ("TPU v5 lite", 1, ""),
        ("TPU v5 lite", 4, "v5e:2x2"),
        ("TPU v5 lite", 8, "v5e:2x4"),
        ("TPU v4", 8, "v4:2x2x1"),
        ("TPU v2", 8, ""),
    ],
)
def test_all_attached_chips_of_a_known_kind_are_planned_for_together(
    monkeypatch: pytest.MonkeyPatch, kind: str, count: int, topology: str
) -> None:
    _attach(monkeypatch, count)
    found = targets.together(dataclasses.replace(CHIP, device_kind=kind))
    assert (found.num_devices, found.topology) == (count if topology else 1, topology)
    assert (found.fingerprint, found.device_kind) == (CHIP.fingerprint, kind)


def test_gpus_are_counted_as_they_are_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    _attach(monkeypatch, 2)
    gpu = dataclasses.replace(CHIP, platform="cuda", device_kind="NVIDIA H200")
    found = targets.together(gpu)
    assert (found.num_devices, found.topology) == (2, "h200:2")


@pytest.mark.parametrize(("replicas", "count"), [(None, 8), (1, 8), (2, 4), (3, 2), (8, 1)])
def test_replicas_that_are_asked_for_share_the_devices(replicas: int | None, count: int) -> None:
    emulated = dataclasses.replace(
        CHIP, platform="cpu", device_kind="cpu", num_devices=8, topology="cpu:8"
    )
    found = targets.together(emulated, replicas)
    assert found.num_devices == count
    assert found.topology == (f"cpu:{count}" if count > 1 else "")


def test_one_cpu_is_left_alone() -> None:
    one = dataclasses.replace(CHIP, platform="cpu", device_kind="cpu")
    assert targets.together(one) == one
