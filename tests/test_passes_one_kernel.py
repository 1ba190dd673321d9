"""Small programs of one row run as one kernel, and give the same numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from jaxrt import compiler, target
from jaxrt.passes import one_kernel
from jaxrt.program import Program

CPU = target.attached("cpu")
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "first": RANDOM.normal(size=(24, 64)).astype(np.float32),
    "second": RANDOM.normal(size=(64, 5)).astype(np.float32),
    "table": RANDOM.normal(size=(50, 24)).astype(np.float32),
}


def tower(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    hidden = jax.nn.gelu(x @ w["first"], approximate=False)
    return jax.nn.softmax(hidden @ w["second"])


def pairs(w: dict[str, jax.Array], ids: jax.Array) -> jax.Array:
    """Products of matrices, one for each example, as between a row's embeddings."""
    rows = jnp.take(w["table"], ids, axis=0, mode="clip")
    return jnp.tanh(jnp.einsum("bik,bjk->bij", rows, rows))


def make(function: Callable[..., Any], batch: int, **shape: Any) -> Program:
    ((name, (inner, dtype)),) = shape.items()
    return programs.program(function, batch, {name: (inner, dtype)}, WEIGHTS)


def run(built: compiler.Built, program: Program, given: np.ndarray[Any, Any]) -> Any:
    weights = compiler.Weights(CPU)
    weights.place({name: WEIGHTS[name] for name in program.weight_names})
    loaded = compiler.LoadedProgram(
        built.loaded,
        weights=weights.bind(program.weight_names),
        inputs=dict(zip(program.input_names, program.input_avals, strict=True)),
        outputs=dict(zip(program.output_names, program.output_avals, strict=True)),
        target=CPU,
    )
    (found,) = loaded.run({program.input_names[0]: given}).values()
    return found


CASES = [
    (make(tower, 1, x=((24,), np.float32)), RANDOM.normal(size=(1, 24)).astype(np.float32)),
    (make(pairs, 2, ids=((6,), np.int32)), RANDOM.integers(0, 50, (2, 6)).astype(np.int32)),
]


@pytest.mark.parametrize(("program", "given"), CASES)
def test_one_kernel_gives_the_numbers_of_many(program: Program, given: Any) -> None:
    assert one_kernel.fits(program)
    many = compiler.build(program, CPU)
    one = compiler.build(program, CPU, whole=True)
    (text,) = [module.to_string() for module in one.loaded.hlo_modules()]
    assert one_kernel.ATTRIBUTE in text and " call(" in text
    want = run(many, program, given)
    np.testing.assert_allclose(run(one, program, given), want, rtol=1e-5, atol=1e-6)


def test_what_is_kept_as_portable_is_compiled_as_one_kernel_again() -> None:
    program, given = CASES[1]
    again = compiler.compile_portable(compiler.portable(program, "cpu", whole=True), CPU)
    assert one_kernel.ATTRIBUTE in again.loaded.hlo_modules()[0].to_string()
    many = compiler.build(program, CPU)
    np.testing.assert_allclose(
        run(again, program, given), run(many, program, given), rtol=1e-5, atol=1e-6
    )


def ranked(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jax.lax.top_k(x @ w["first"], 3)[0]


def repeated(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jax.lax.while_loop(lambda v: v.sum() < 9, lambda v: v + 1, x @ w["first"])


@pytest.mark.parametrize(
    ("function", "batch"),
    [(tower, 64), (ranked, 1), (repeated, 1), (lambda w, x: x + 1, 1)],
    ids=["many rows", "a routine of the runtime", "a loop without bound", "no product"],
)
def test_other_programs_stay_many_kernels(function: Callable[..., Any], batch: int) -> None:
    assert not one_kernel.fits(make(function, batch, x=((24,), np.float32)))


def test_programs_that_gain_from_two_threads_stay_many_kernels() -> None:
    wide = {"w": np.zeros((4096, 4096), np.float32)}
    program = programs.program(lambda w, x: x @ w["w"], 1, {"x": ((4096,), np.float32)}, wide)
    assert not one_kernel.fits(program)


def test_results_that_nothing_computes_stay_many_kernels() -> None:
    def both(w: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x @ w["first"], x

    assert not one_kernel.fits(make(both, 1, x=((24,), np.float32)))
