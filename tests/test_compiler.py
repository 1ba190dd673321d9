"""Programs become portable bytes and executables, and run with their weights bound."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrt import compiler, target
from jaxrt.errors import ArtifactError, DeviceError, UsageError
from jaxrt.program import Program

CPU = target.attached("cpu")

LOADS = """
import sys
import jax, numpy as np
from jaxrt import compiler, target
CPU = target.attached("cpu")
shape = jax.ShapeDtypeStruct((2, 2), np.float32)
loaded = compiler.LoadedProgram(
    compiler.load_executable(open(sys.argv[1], "rb").read(), CPU),
    weights=[], inputs={"x": shape}, outputs={"y": shape}, target=CPU,
)
print(*np.diag(loaded.run({"x": np.diag(np.asarray([4, 9], np.float32))})["y"]))
"""
"""Of an executable, in a process that lowers nothing."""


def linear() -> Program:
    """[4, 3] @ [3, 2] in float32, and row numbers as int64."""

    def function(w: jax.Array, x: jax.Array, unused: jax.Array) -> list[jax.Array]:
        return [jnp.tanh(x @ w), jnp.arange(4, dtype=jnp.int64)]

    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(
            jax.ShapeDtypeStruct((3, 2), jnp.float32),
            jax.ShapeDtypeStruct((4, 3), jnp.float32),
            jax.ShapeDtypeStruct((4,), jnp.int64),
        )
    return Program(
        signature="serving_default",
        jaxpr=jaxpr,
        weight_names=("w",),
        input_names=("x", "unused"),
        output_names=("y", "row"),
    )


def run(executable: object, w: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    program = linear()
    weights = compiler.Weights(CPU)
    weights.place({"w": w})
    loaded = compiler.LoadedProgram(
        executable,
        weights=weights.bind(program.weight_names),
        inputs=dict(zip(program.input_names, program.input_avals, strict=True)),
        outputs={
            n: jax.ShapeDtypeStruct(a.shape, a.dtype)
            for n, a in zip(program.output_names, program.jaxpr.out_avals, strict=True)
        },
        target=CPU,
    )
    assert loaded.input_shapes == {"x": (4, 3), "unused": (4,)}
    assert loaded.output_shapes == {"y": (4, 2), "row": (4,)}
    return loaded.run({"unused": np.zeros(4, np.int64), "x": x})


def test_the_built_the_reloaded_and_the_recompiled_executable_agree() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 2)).astype(np.float32)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    built = compiler.build(linear(), CPU)
    want = np.tanh(x @ w)
    reloaded = compiler.load_executable(built.executable, CPU)
    recompiled = compiler.compile_portable(built.portable, CPU).loaded
    for executable in (built.loaded, reloaded, recompiled):
        got = run(executable, w, x)
        np.testing.assert_allclose(got["y"], want, rtol=1e-6)
        assert got["row"].dtype == np.int64 and got["row"].tolist() == [0, 1, 2, 3]


def test_stats_count_the_product() -> None:
    stats = compiler.build(linear(), CPU).stats
    assert stats.flops >= 2 * 4 * 3 * 2
    assert stats.argument_bytes >= (3 * 2 + 4 * 3) * 4
    assert stats.compile_seconds > 0


def test_aligned_weights_are_used_where_they_lie() -> None:
    raw = np.zeros(1 << 16, np.uint8)
    start = -raw.ctypes.data % 64
    aligned = raw[start : start + 4096].view(np.float32)
    weights = compiler.Weights(CPU)
    weights.place({"w": aligned})
    (placed,) = weights.bind(["w"])
    assert placed.unsafe_buffer_pointer() == aligned.ctypes.data
    assert weights.nbytes == 4096 and "w" in weights


def test_bytes_that_are_no_program_are_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match="portable program"):
        compiler.compile_portable(b"nonsense", CPU)


def test_a_device_that_is_not_attached_is_named_with_what_to_do() -> None:
    with pytest.raises(DeviceError, match=r"device tpu: none is attached.*--device cpu"):
        target.attached("tpu")


def test_unknown_device_names_are_a_usage_error() -> None:
    assert target.platform_of("gpu") == "cuda"
    with pytest.raises(UsageError, match="'npu'"):
        target.platform_of("npu")


def test_the_fingerprint_names_what_it_hashes() -> None:
    assert "jaxlib" in CPU.features and len(CPU.fingerprint) == 16


def test_a_process_that_only_loads_finds_lapack(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(jax.lax.linalg.cholesky)(jax.ShapeDtypeStruct((2, 2), jnp.float32))
    program = Program(
        signature="serving_default",
        jaxpr=jaxpr,
        weight_names=(),
        input_names=("x",),
        output_names=("y",),
    )
    (tmp_path / "executable").write_bytes(compiler.build(program, CPU).executable)
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(tmp_path / "executable")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["2.0", "3.0"]
