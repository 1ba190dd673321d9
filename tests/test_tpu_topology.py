"""Names of chips and slices, and what JAX is told of them."""

import pytest

from jaxrt.errors import UsageError
from jaxrt.tpu.chips import TPUS
from jaxrt.tpu.gpus import GPUS
from jaxrt.tpu.topology import chip_of, known_chips, listed, of_devices, parse


@pytest.mark.parametrize(
    ("typed", "name", "devices", "hosts"),
    [
        ("v5e:2x4", "v5e:2x4", 8, 1),
        ("v5litepod-8", "v5e:2x4", 8, 1),
        ("v5litepod-16", "v5e:4x4", 16, 2),
        ("v5e", "v5e:1x1", 1, 1),
        ("V6E-4", "v6e:2x2", 4, 1),
        ("v5p-8", "v5p:2x2x1", 4, 1),
        ("v5p:2x2x2", "v5p:2x2x2", 8, 2),
        ("v4-8", "v4:2x2x1", 8, 1),
        ("tpu7x:2x2x1", "tpu7x:2x2x1", 8, 1),
        ("ironwood-8", "tpu7x:2x2x1", 8, 1),
        ("h100", "h100", 1, 1),
        ("h100:4", "h100:4", 4, 1),
        ("L4", "l4", 1, 1),
    ],
)
def test_users_name_slices_as_their_clouds_do(
    typed: str, name: str, devices: int, hosts: int
) -> None:
    topology = parse(typed)
    assert (topology.name, topology.devices, topology.hosts) == (name, devices, hosts)
    assert parse(topology.name) == topology


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("v5x", "want a kind of chip"),
        ("", "jaxrt targets"),
        ("v5e:2x2x2", "have 2 dimensions, such as v5e:2x4"),
        ("v5p:2x2", "have 3 dimensions"),
        ("v5e-3", "no slice has 3 chips"),
        ("v5p-7", "no slice has 7 cores"),
        ("v5e:3x8", "no whole hosts"),
        ("v5e:0x1", "have 2 dimensions"),
        ("h100:9", "1 to 8 GPUs"),
        ("v5e:2x4x", "want a kind of chip"),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_would_be(typed: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(typed)


def test_every_chip_has_rates_memory_and_a_source() -> None:
    for name, chip in known_chips().items():
        assert chip.name == name and chip.source
        assert 0 < chip.f32_flops <= chip.bf16_flops
        assert chip.memory_bytes > 8 << 30 and chip.memory_bandwidth > 1e11
    assert set(TPUS) == {"v4", "v5e", "v5p", "v6e", "tpu7x"}
    assert set(GPUS) == {"t4", "a100", "l4", "h100", "h200", "b200"}


def test_memory_is_shared_by_the_devices_of_a_chip() -> None:
    assert parse("tpu7x:2x2x1").device_bytes == 96 << 30
    assert parse("v5e:2x2").device_bytes == 16 << 30


def test_a_slice_of_one_host_is_described_as_one_host() -> None:
    assert parse("v5e:2x4").description() == {
        "platform": "tpu",
        "topology_name": "v5e:2x4",
        "chips_per_host_bounds": [2, 4, 1],
    }
    assert parse("v5p:2x2x2").description()["chips_per_host_bounds"] == [2, 2, 1]


def test_a_gpu_is_described_by_its_sizes() -> None:
    described = parse("h100:2").description()
    assert (described["topology_name"], described["topology"]) == ("h100", "1x1x2")
    text = described["target_config"]
    assert "core_count: 132" in text and "major: 9 minor: 0" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("kind", "count", "name"),
    [
        ("TPU v5 lite", 4, "v5e:2x2"),
        ("TPU v5 lite", 8, "v5e:2x4"),
        ("TPU v5e", 3, "v5e:3x1"),
        ("TPU v5", 4, "v5p:2x2x1"),
        ("TPU v4", 8, "v4:2x2x1"),
        ("TPU v6 lite", 1, "v6e:1x1"),
        ("TPU7x", 8, "tpu7x:2x2x1"),
        ("NVIDIA H100 80GB HBM3", 2, "h100:2"),
        ("NVIDIA H200", 1, "h200"),
        ("cpu", 8, "cpu:8"),
    ],
)
def test_attached_devices_are_known_by_the_name_they_give_themselves(
    kind: str, count: int, name: str
) -> None:
    found = of_devices(kind, count)
    assert found is not None and found.name == name


@pytest.mark.parametrize("kind", ["TPU v2", "NVIDIA L40S", "NVIDIA GeForce RTX 4090", ""])
def test_other_devices_are_none_of_them(kind: str) -> None:
    assert chip_of(kind) is None and of_devices(kind, 4) is None


def test_every_listed_slice_has_a_name_that_is_taken() -> None:
    for chip in known_chips().values():
        slices = listed(chip)
        assert [parse(one.name) for one in slices] == slices
        assert [one.chips for one in slices] == sorted(one.chips for one in slices)
