"""Programs with weights in few bits compiled for a TPU that is not here: what lies in its memory.

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


@pytest.mark.parametrize(
    ("scheme", "dtype", "share"),
    [("int8", "int8", 0.27), ("bf16", "bfloat16", 0.51), ("int4", "uint8", 0.16)],
)
def test_weights_stay_in_few_bits_in_the_memory_of_a_tpu(
    scheme: str, dtype: str, share: float
) -> None:
    found = mesh_programs.program("encoder")
    before = sum(a.size * a.dtype.itemsize for a in found.weight_avals)
    held, _ = rewrite.apply(found, [parse_rule(f".*={scheme}")], V5E)
    apply = prepare.split(held).apply
    topology = parse("v5e:1x1")
    compiled = aot.compile_for(apply, plans(apply, topology, bf16=True)[0], topology)
    assert compiled.stats.argument_bytes + compiled.stats.temp_bytes <= share * before
    given = export.deserialize(bytearray(compiled.portable)).in_avals
    matrices = {a.dtype.name for a in given if a.size > 4096}
    assert matrices <= {dtype, "bfloat16"}
