"""An artifact whose programs run on a mesh of emulated CPU devices, and the numbers it gives.

`python mesh_artifact.py PATH DATA MODEL` writes one: the number of devices has to be known before
JAX starts, so tests run it as a process.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax import export
from jax.sharding import NamedSharding

from jaxrt import compiler, target
from jaxrt.artifact import ArtifactWriter
from jaxrt.entries import ExecutableEntry, ProgramEntry, SignatureEntry
from jaxrt.manifest import Manifest, Source, TargetRecord
from jaxrt.mesh import DATA, MODEL, MeshRecord, MeshShape, Spec
from jaxrt.placed import Place
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

SPEC = SignatureSpec(
    inputs={
        "ids": TensorSpec(name="ids:0", dtype="int32", dims=(Dim(-1), Dim(3))),
        "x": TensorSpec(name="x:0", dtype="float32", dims=(Dim(-1), Dim(16))),
    },
    outputs={
        "y": TensorSpec(name="y:0", dtype="float32", dims=(Dim(-1), Dim(8))),
        "z": TensorSpec(name="z:0", dtype="float64", dims=(Dim(-1), Dim(4))),
    },
)
LAYOUTS: Mapping[str, Spec] = {
    "table/words": (MODEL, None),
    "up": (None, MODEL),
    "down": (MODEL, None),
    "wide": (None, MODEL),
}
BUCKETS = (1, 8)


def weights(scale: float = 1.0) -> dict[str, np.ndarray[Any, Any]]:
    """Of every dtype that compression brings, and 64 bits."""
    rng = np.random.default_rng(0)
    return {
        "table/words": rng.standard_normal((32, 16)).astype(np.float32),
        "up": (rng.standard_normal((16, 64)) / 4).astype(ml_dtypes.bfloat16),
        "down": (scale * rng.standard_normal((64, 8)) / 8).astype(np.float32),
        "bias": rng.integers(-128, 127, 8).astype(np.int8),
        "wide": rng.standard_normal((16, 4)),
    }


def model(w: Mapping[str, Any], ids: Any, x: Any) -> tuple[Any, Any]:
    """Look-ups, a column split before a row split, and an output that stays split."""
    h = w["table/words"][ids].sum(axis=1) + x
    up = jax.nn.relu(h @ w["up"].astype(np.float32))
    return up @ w["down"] + w["bias"].astype(np.float32)[None], x.astype(np.float64) @ w["wide"]


def wanted(ids: Any, x: Any, scale: float = 1.0) -> tuple[Any, Any]:
    """What NumPy makes of it."""
    w = weights(scale)
    h = w["table/words"][ids].sum(axis=1) + x
    up = np.maximum(h @ w["up"].astype(np.float32), 0)
    return up @ w["down"] + w["bias"].astype(np.float32), x.astype(np.float64) @ w["wide"]


def inputs(rows: int, seed: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 32, (rows, 3)).astype(np.int32),
        "x": rng.standard_normal((rows, 16)).astype(np.float32),
    }


def write(path: Path, shape: MeshShape, *, executables: bool = True, scale: float = 1.0) -> None:
    attached = target.select("cpu")
    place = Place(tuple(jax.devices()[: shape.devices]), shape)
    layouts = LAYOUTS if shape.devices > 1 else {}
    with ArtifactWriter(path) as writer:
        writer.weights(weights(scale))
        entries = [_entry(writer, attached, place, layouts, n, executables) for n in BUCKETS]
        record = TargetRecord(platform="cpu", device_kind="cpu", fingerprint={})
        writer.commit(
            Manifest(
                jaxrt="0.1.0",
                model="m",
                tools={"jax": jax.__version__},
                source=Source(path="m", sha256="0" * 64, tags=("serve",)),
                options={},
                target=record,
                signatures={"serving_default": SignatureEntry(spec=SPEC, programs=tuple(entries))},
                mesh=MeshRecord(shape=shape) if shape.devices > 1 else None,
                layouts=layouts,
            )
        )


def _entry(
    writer: ArtifactWriter,
    attached: target.Target,
    place: Place,
    layouts: Mapping[str, Spec],
    rows: int,
    executables: bool,
) -> ProgramEntry:
    found = weights()
    given = inputs(rows)
    batch: Spec = (DATA, None) if not rows % place.shape.data and not place.single else ()
    split = {"ids": batch, "x": batch} if batch else {}
    out: dict[str, Spec] = {"y": batch} if batch else {}
    out |= {} if place.single else {"z": (batch[0] if batch else None, MODEL)}

    def flat(*arguments: Any) -> tuple[Any, ...]:
        return model(dict(zip(found, arguments, strict=False)), *arguments[len(found) :])

    arguments: list[NamedSharding] = [place.sharding(layouts.get(name, ())) for name in found]
    arguments += [place.sharding(split.get(name, ())) for name in given]
    results = tuple(place.sharding(out.get(name, ())) for name in ("y", "z"))
    with jax.enable_x64(True):
        function = jax.jit(
            flat, in_shardings=tuple(arguments), out_shardings=results, keep_unused=True
        )
        avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (*found.values(), *given.values())]
        portable = bytes(export.export(function, platforms=("cpu",))(*avals).serialize())
    built = compiler.compile_portable(portable, attached, place, arguments)
    key = f"f.{rows}"
    executable = None
    if executables:
        file = writer.executable(key, built.executable)
        executable = ExecutableEntry(file=file, key=attached.fingerprint)
    return ProgramEntry(
        key=key,
        input_names=tuple(given),
        input_shapes={name: array.shape for name, array in given.items()},
        input_dtypes={"ids": "int32", "x": "float32"},
        output_names=("y", "z"),
        output_shapes={"y": (rows, 8), "z": (rows, 4)},
        output_dtypes={"y": "float32", "z": "float64"},
        weights=tuple(found),
        rows="independent",
        rows_reason="each row alone",
        random=False,
        input_layouts=split,
        output_layouts=out,
        portable=writer.portable(key, portable),
        executable=executable,
    )


def environment(devices: int) -> dict[str, str]:
    return {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def made(path: Path, data: int, model: int, *more: str) -> Path:
    """Writes an artifact in a process with eight devices."""
    command = [sys.executable, str(Path(__file__)), str(path), str(data), str(model), *more]
    done = subprocess.run(command, env=environment(8), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return path


def main(path: str, data: str, model: str, executables: str = "yes", scale: str = "1") -> None:
    shape = MeshShape(data=int(data), model=int(model))
    write(Path(path), shape, executables=executables == "yes", scale=float(scale))


if __name__ == "__main__":
    main(*sys.argv[1:])
