"""Programs to be sharded, and what runs every plan of them on eight emulated devices.

`python mesh_programs.py NAME TOPOLOGY [SCHEME]` prints a line of JSON for each plan; the number of
devices has to be known before JAX starts, so tests run it as a process.
"""

import collections
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.program import Program

LAYERS, WIDTH, HEADS, WORDS, TOKENS = 2, 512, 8, 4096, 16
Weights = dict[str, Array]


def _norm(x: Array, scale: Array, shift: Array) -> Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    scale, shift = (jnp.broadcast_to(v, x.shape) for v in (scale, shift))
    return (x - mean) * lax.rsqrt(variance + 1e-6) * scale + shift


def _encoder_weights() -> Mapping[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"words": (WORDS, WIDTH)}
    for n in range(LAYERS):
        for name in ("query", "key", "value"):
            shapes |= {f"{n}/{name}": (WIDTH, HEADS, WIDTH // HEADS)}
            shapes |= {f"{n}/{name}/bias": (HEADS, WIDTH // HEADS)}
        shapes |= {f"{n}/out": (HEADS, WIDTH // HEADS, WIDTH)}
        shapes |= {f"{n}/up": (WIDTH, 4 * WIDTH), f"{n}/up/bias": (4 * WIDTH,)}
        shapes |= {f"{n}/down": (4 * WIDTH, WIDTH), f"{n}/down/bias": (WIDTH,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"{n}/{norm}/scale": (WIDTH,), f"{n}/{norm}/shift": (WIDTH,)}
    return shapes | {"classes": (WIDTH, 3)}


def _encoder(w: Weights, ids: Array) -> Array:
    """BERT's layers: products with heads as dimensions, as Keras writes them."""
    x = w["words"][ids]
    for n in range(LAYERS):
        heads = {
            name: jnp.einsum("btd,dhk->bthk", x, w[f"{n}/{name}"])
            + jnp.broadcast_to(w[f"{n}/{name}/bias"], (*x.shape[:2], HEADS, WIDTH // HEADS))
            for name in ("query", "key", "value")
        }
        scores = jnp.einsum("bthk,bshk->bhts", heads["query"], heads["key"])
        weights = jax.nn.softmax(scores / np.float32(8), axis=-1)
        mixed = jnp.einsum("bhts,bshk->bthk", weights, heads["value"])
        x = _norm(
            x + jnp.einsum("bthk,hkd->btd", mixed, w[f"{n}/out"]),
            w[f"{n}/norm1/scale"],
            w[f"{n}/norm1/shift"],
        )
        up = jnp.einsum("btd,df->btf", x, w[f"{n}/up"])
        up = jax.nn.gelu(up + jnp.broadcast_to(w[f"{n}/up/bias"], up.shape))
        down = jnp.einsum("btf,fd->btd", up, w[f"{n}/down"])
        down = down + jnp.broadcast_to(w[f"{n}/down/bias"], down.shape)
        x = _norm(x + down, w[f"{n}/norm2/scale"], w[f"{n}/norm2/shift"])
    return jnp.einsum("bd,dc->bc", x[:, 0], w["classes"])


def _tables_weights() -> Mapping[str, tuple[int, ...]]:
    tables = {f"table{n}": (20_000, 16) for n in range(4)}
    return {**tables, "in": (8, 256), "mid": (256, 16), "top": (80, 512), "last": (512, 1)}


def _tables(w: Weights, ids: Array) -> Array:
    """DLRM's shape: look-ups beside a small dense part, all concatenated."""
    dense = jax.nn.relu(jnp.dot(ids[:, :8].astype(np.float32), w["in"]))
    found = [w[f"table{n}"][ids[:, n]] for n in range(4)]
    joined = jnp.concatenate([jnp.dot(dense, w["mid"]), *found], axis=1)
    return jnp.dot(jax.nn.relu(jnp.dot(joined, w["top"])), w["last"])


def _images_weights() -> Mapping[str, tuple[int, ...]]:
    return {
        "stem": (3, 3, 3, 32),
        "a": (1, 1, 32, 64),
        "depth": (3, 3, 1, 64),
        "b": (1, 1, 64, 32),
        "c": (3, 3, 32, 128),
        "dense": (128, 10),
    }


def _images(w: Weights, pixels: Array) -> Array:
    """Convolutions: whole, depthwise, 1×1, with a residual."""

    def convolve(x: Array, kernel: str, groups: int = 1) -> Array:
        return lax.conv_general_dilated(
            x,
            w[kernel],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    x = convolve(pixels, "stem")
    inner = jax.nn.relu(convolve(jax.nn.relu(convolve(x, "a")), "depth", groups=64))
    x = jax.nn.relu(convolve(x + convolve(inner, "b"), "c"))
    return jnp.dot(jnp.mean(x, axis=(1, 2)), w["dense"])


def _loop_weights() -> Mapping[str, tuple[int, ...]]:
    return {"words": (WORDS, 128), "cell": (128, 128), "out": (128, 1024), "back": (1024, 16)}


def _loop(w: Weights, ids: Array) -> Array:
    """A recurrence, which no rule looks into, before products that are split."""

    def step(state: Array, x: Array) -> tuple[Array, None]:
        return jnp.tanh(jnp.dot(state, w["cell"]) + x), None

    x = jnp.swapaxes(w["words"][ids], 0, 1)
    state, _ = lax.scan(step, jnp.zeros_like(x[0]), x)
    return jnp.dot(jax.nn.relu(jnp.dot(state, w["out"])), w["back"])


_BATCH = 16
_IDS = ((_BATCH, TOKENS), np.int32)
CASES: Mapping[str, tuple[Callable[..., Any], Mapping[str, tuple[int, ...]], Any]] = {
    "encoder": (_encoder, _encoder_weights(), _IDS),
    "tables": (_tables, _tables_weights(), _IDS),
    "images": (_images, _images_weights(), ((_BATCH, 24, 24, 3), np.float32)),
    "loop": (_loop, _loop_weights(), _IDS),
}


IN_FEW_BITS = {"tables": {**{f"table{n}": (20_480, 64) for n in range(4)}, "top": (272, 512)}}
"""Tables that are worth splitting in int8 too, two rows of them side by side."""


def program(name: str, batch: int = _BATCH) -> Program:
    return larger(name, {}, batch)


def larger(name: str, sizes: Mapping[str, tuple[int, ...]], batch: int = _BATCH) -> Program:
    """With other shapes of some weights, of which nothing is allocated."""
    function, shapes, (shape, dtype) = CASES[name]
    shapes = {**shapes, **sizes}
    given = jax.ShapeDtypeStruct((batch, *shape[1:]), dtype)
    weights = [jax.ShapeDtypeStruct(s, np.float32) for s in shapes.values()]

    def flat(*arguments: Array) -> list[Array]:
        return [function(dict(zip(shapes, arguments, strict=False)), arguments[-1])]

    return Program(
        signature="serving_default",
        jaxpr=jax.make_jaxpr(flat)(*weights, given),
        weight_names=tuple(shapes),
        input_names=("x",),
        output_names=("y",),
    )


def arguments(found: Program) -> list[np.ndarray[Any, Any]]:
    """Weights that keep activations of order one, and an input."""
    rng = np.random.default_rng(0)
    made = []
    for name, aval in zip((*found.weight_names, "x"), found.avals, strict=True):
        if np.issubdtype(aval.dtype, np.integer):
            made.append(rng.integers(0, WORDS, aval.shape).astype(aval.dtype))
            continue
        # All but the last dimension are summed over, but of heads and tables.
        fan = 1 if name.startswith(("words", "table")) else max(aval.size // aval.shape[-1], 1)
        made.append((rng.standard_normal(aval.shape) / np.sqrt(fan)).astype(aval.dtype))
    return made


def _held(found: Program, given: Sequence[Any], scheme: str) -> tuple[Program, list[Any]]:
    """The program with its weights by one scheme, as TPUs compute with them, and what it takes."""
    from jaxrt.compression import rewrite
    from jaxrt.compression.schemes import parse_rule
    from jaxrt.passes import lanes, prepare
    from jaxrt.target import Target

    kind = "TPU v5 lite"
    tpu = Target(platform="tpu", device_kind=kind, num_devices=8, fingerprint="", features="")
    held, _ = rewrite.apply(found, [parse_rule(f".*={scheme}")], tpu)
    split = prepare.split(lanes.pack(held)[0])
    *weights, x = given
    named = dict(zip(found.weight_names, weights, strict=True))
    return split.apply, [*prepare.run_prepare(split, named).values(), x]


def main(name: str, topology: str, scheme: str = "") -> None:
    from jaxrt.tpu import collectives
    from jaxrt.tpu.apply import mesh_of, sharded
    from jaxrt.tpu.plan import plans
    from jaxrt.tpu.topology import parse

    found = larger(name, IN_FEW_BITS.get(name, {})) if scheme else program(name)
    given = arguments(found)
    if scheme:
        found, given = _held(found, given, scheme)
    wanted = np.asarray(jax.jit(jaxpr_as_fun(found.jaxpr))(*given)[0])
    total = sum(a.size * a.dtype.itemsize for a in found.weight_avals)
    chosen = plans(found, parse(topology), bf16=False)
    if scheme:  # of each mesh that splits weights the plan that splits most
        most = sorted(chosen, key=lambda plan: -plan.weight_bytes)
        chosen = list({plan.mesh: plan for plan in most if plan.mesh.model > 1}.values())
    for plan in chosen:
        laid_out = sharded(found, plan, mesh_of(plan.mesh, jax.devices()))
        compiled = laid_out.jit().lower(*found.avals).compile()
        placed = [jax.device_put(a, s) for a, s in zip(given, laid_out.arguments, strict=True)]
        held = sum(a.addressable_shards[0].data.nbytes for a in placed[: len(found.weight_names)])
        answer = np.asarray(compiled(*placed)[0])
        line = {
            "label": plan.label,
            "mesh": str(plan.mesh),
            "error": float(np.max(np.abs(answer - wanted)) / np.max(np.abs(wanted))),
            "expected": dict(collections.Counter(c.kind for c in plan.collectives)),
            "compiled": collectives.counts(collectives.found(compiled.as_text())),
            "share": plan.weight_bytes / total,
            "held": held / total,
        }
        print(json.dumps(line), flush=True)


def run(name: str, topology: str, *scheme: str) -> list[dict[str, Any]]:
    """Every plan of one program, run in a process with eight devices.

    With a scheme: its weights by that, and a plan for each mesh that splits them.
    """
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), name, topology, *scheme],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main(*sys.argv[1:])
