"""Programs with weights in few bits for devices that are not here: what lies in their memory.

Parameters of the compiled program are those that the exported one names.
"""

import mesh_programs
import pytest
from jax import export

from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.passes import prepare
from jaxrt.target import Target
from jaxrt.tpu import aot
from jaxrt.tpu.plan import plans
from jaxrt.tpu.topology import parse

V5E = Target(platform="tpu", device_kind="TPU v5 lite", num_devices=1, fingerprint="", features="")
H100 = Target(
    platform="cuda",
    device_kind="NVIDIA H100 80GB HBM3",
    num_devices=1,
    fingerprint="",
    features="",
)


@pytest.mark.parametrize(
    ("scheme", "dtype", "share"),
    [("int8", "int8", 0.27), ("bf16", "bfloat16", 0.51), ("int4", "uint8", 0.16)],
)
def test_weights_stay_in_few_bits_in_the_memory_of_a_tpu(
    scheme: str, dtype: str, share: float
) -> None:
    before, compiled = _compiled(scheme, V5E, "v5e:1x1")
    assert compiled.stats.argument_bytes + compiled.stats.temp_bytes <= share * before
    assert _matrices(compiled) <= {dtype, "bfloat16"}


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("scheme", "dtypes", "share"),
    [("int8", {"int8"}, 0.27), ("bf16", {"bfloat16"}, 0.51), ("int4", {"uint8", "bfloat16"}, 0.16)],
)
def test_weights_stay_in_few_bits_in_the_memory_of_a_gpu(
    scheme: str, dtypes: set[str], share: float
) -> None:
    before, compiled = _compiled(scheme, H100, "h100")
    assert compiled.stats.argument_bytes <= share * before
    assert _matrices(compiled) <= dtypes


def _compiled(scheme: str, target: Target, name: str) -> tuple[int, aot.Compiled]:
    """Bytes of the encoder's weights as they were, and it with its products by `scheme`."""
    found = mesh_programs.program("encoder")
    before = sum(a.size * a.dtype.itemsize for a in found.weight_avals)
    held, _ = rewrite.apply(found, [parse_rule(f".*={scheme}")], target)
    apply = prepare.split(held).apply
    topology = parse(name)
    best = plans(apply, topology, bf16=target.platform == "tpu")[0]
    return before, aot.compile_for(apply, best, topology)


def _matrices(compiled: aot.Compiled) -> set[str]:
    given = export.deserialize(bytearray(compiled.portable)).in_avals
    return {a.dtype.name for a in given if a.size > 4096}
