"""Programs with weights in few bits for devices that are not here: what lies in their memory.

Parameters of the compiled program are those that the exported one names.
"""

import dataclasses
import functools
from collections import Counter

import hlo_text
import mesh_programs
import numpy as np
import pytest
from programs import run

from jaxrt.compiler import Stats, stats
from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.passes import prepare
from jaxrt.program import Program
from jaxrt.tpu import aot, collectives
from jaxrt.tpu.collectives import Found as Exchange
from jaxrt.tpu.plan import plans
from jaxrt.tpu.targets import elsewhere
from jaxrt.tpu.topology import parse


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The encoder by one scheme, compiled for the devices of one topology."""

    float_bytes: int
    """Of its weights as they were."""
    apply: Program
    stats: Stats
    hlo: str
    foretold: dict[str, int]
    """Exchanges of the plan, by kind."""

    @property
    def exchanges(self) -> list[Exchange]:
        return list(collectives.found(self.hlo))

    @property
    def stored_bytes(self) -> int:
        return sum(a.size * a.dtype.itemsize for a in self.apply.weight_avals)

    @property
    def matrices(self) -> set[str]:
        """Dtypes of the large arguments."""
        return {a.dtype.name for a in self.apply.weight_avals if a.size > 4096}

    @property
    def written_wide(self) -> list[str]:
        """Copies of weights, whole or one device's, that the program makes in more bits."""
        whole = [a.shape for a in mesh_programs.program("encoder").weight_avals if a.size > 4096]
        split = [(*shape[:-1], shape[-1] // 4) for shape in whole]
        return hlo_text.widened(self.hlo, [*whole, *split])


@functools.cache
def _made(scheme: str, name: str, label: str = "", batch: int = 3) -> Made:
    """With `label`: by the best plan that is so, over all devices. `batch`: rows of no weight."""
    topology = parse(name)
    found = mesh_programs.program("encoder", batch)
    held, _ = rewrite.apply(found, [parse_rule(f".*={scheme}")], elsewhere(topology))
    apply = prepare.split(held).apply
    tpu = topology.chip.platform == "tpu"
    fitting = [p for p in plans(apply, topology, bf16=tpu) if label in p.label]
    plan = next(p for p in fitting if not label or p.mesh.model == topology.devices)
    _, lowered, _ = aot.lower(apply, plan, topology)
    compiled = lowered.compile()
    return Made(
        float_bytes=sum(a.size * a.dtype.itemsize for a in found.weight_avals),
        apply=apply,
        stats=stats(compiled, 0.0),
        hlo=compiled.as_text() or "",
        foretold=dict(Counter(c.kind for c in plan.collectives)),
    )


SHARES = [
    ("int8", {"int8"}, 0.27),
    ("w8a8", {"int8"}, 0.27),
    ("bf16", {"bfloat16"}, 0.51),
    ("int4", {"uint8", "bfloat16"}, 0.16),
]


@pytest.mark.parametrize(("scheme", "dtypes", "share"), SHARES)
def test_weights_stay_in_few_bits_in_the_memory_of_a_tpu(
    scheme: str, dtypes: set[str], share: float
) -> None:
    made = _made(scheme, "v5e:1x1")
    assert made.stats.argument_bytes + made.stats.temp_bytes <= share * made.float_bytes
    assert made.matrices <= dtypes
    assert not made.written_wide or scheme == "bf16"


@pytest.mark.parametrize(
    ("scheme", "of_rows"), [("bf16", 0), ("int8", 0), ("int4", 0), ("w8a8", 2)]
)
def test_a_layer_split_over_chips_exchanges_what_it_does_in_float(
    scheme: str, of_rows: int
) -> None:
    """Two sums, and of W8A8 the largest activation of each row before each of them."""
    made = _made(scheme, "v5e:2x2", "tensor parallel", batch=1)
    layers = mesh_programs.LAYERS
    found = made.exchanges
    rows = [e for e in found if e.nbytes == 4 * mesh_programs.TOKENS]
    sums = [e for e in found if e.kind == "all-reduce" and e not in rows]
    assert len(rows) == of_rows * layers and len(sums) == 2 * layers
    assert collectives.counts(found) == {"all-reduce": len(sums + rows), "all-gather": 1}
    assert collectives.counts(found) == made.foretold
    (gathered,) = [e for e in found if e.kind == "all-gather"]
    assert gathered.scope.startswith("words~")
    # A chip pads the scales of int4, of which a group has one row.
    padded = 0.26 if scheme == "int4" else 0.03
    assert made.stats.argument_bytes <= (1 + padded) * made.stored_bytes / 4
    assert not made.written_wide or scheme == "bf16"


@pytest.mark.parametrize(
    ("scheme", "name", "kinds"),
    [("w8a8", "v5e:1x1", ("s8", "s32")), ("fp8", "tpu7x:2x2x1", ("f8e4m3fn", "f32"))],
)
def test_a_tpu_multiplies_few_bits_as_they_are(
    scheme: str, name: str, kinds: tuple[str, str]
) -> None:
    assert kinds in hlo_text.products(_made(scheme, name).hlo)


@pytest.mark.parametrize(
    ("scheme", "name", "most"), [("fp8", "tpu7x:2x2x1", 0.02), ("w8a8", "v5e:1x1", 0.015)]
)
def test_activations_in_few_bits_give_numbers_near_those_of_floats(
    scheme: str, name: str, most: float
) -> None:
    """Emulated on the CPU, which rounds as the device does and sums in float32 or int32."""
    found = mesh_programs.program("encoder", 3)
    *weights, x = mesh_programs.arguments(found)
    held, _ = rewrite.apply(found, [parse_rule(f".*={scheme}")], elsewhere(parse(name)))
    split = prepare.split(held)
    named = dict(zip(found.weight_names, weights, strict=True))
    got, want = (
        np.asarray(run(jaxpr, [*arrays, x])[0])
        for jaxpr, arrays in (
            (split.apply.jaxpr, prepare.run_prepare(split, named).values()),
            (found.jaxpr, weights),
        )
    )
    assert np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)) < most


@pytest.mark.cuda
@pytest.mark.parametrize(("scheme", "dtypes", "share"), [*SHARES, ("fp8", {"float8_e4m3fn"}, 0.27)])
def test_weights_stay_in_few_bits_in_the_memory_of_a_gpu(
    scheme: str, dtypes: set[str], share: float
) -> None:
    made = _made(scheme, "h100")
    assert made.stats.argument_bytes <= share * made.float_bytes
    assert made.matrices <= dtypes
    # XLA:GPU widens int8 and fp8 inside its products, but fuses no shifts into them.
    assert not made.written_wide or scheme in ("bf16", "int4")


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("scheme", "kinds"), [("w8a8", ("s8", "s32")), ("fp8", ("f8e4m3fn", "f32"))]
)
def test_a_gpu_multiplies_few_bits_as_they_are(scheme: str, kinds: tuple[str, str]) -> None:
    assert kinds in hlo_text.products(_made(scheme, "h100").hlo)
