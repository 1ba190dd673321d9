"""The rewriting evaluator: rules by primitive, calls inlined, loops rewritten inside."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.extend.core import primitives as prims
from programs import run

from jaxrt.passes.prepare import primitives
from jaxrt.passes.rewrite import Site, inline, prune, rewrite

X = np.linspace(-1, 1, 6).astype(np.float32)


def jaxpr(function: Any, *arguments: Any) -> Any:
    with jax.enable_x64(True):
        return jax.make_jaxpr(function)(*arguments)


def sine_to_cosine(site: Site, x: Array) -> Array:
    return lax.cos(x)


def everywhere(x: Array) -> Any:
    y = jax.jit(jnp.sin)(x)
    y = lax.while_loop(lambda v: jnp.sum(jnp.sin(v)) < 0.5, lambda v: jnp.sin(v) + 1.0, y)
    y = lax.scan(lambda c, v: (c + jnp.sin(v), c), jnp.float32(0.0), y)[1]
    return lax.cond(y[0] > 0, lambda v: jnp.sin(v), lambda v: v, y)


def test_a_rule_reaches_calls_loops_and_branches() -> None:
    found = rewrite(jaxpr(everywhere, X), {"sin": sine_to_cosine})
    names = list(primitives(found))
    assert "sin" not in names
    assert names.count("cos") == 5
    assert "jit" not in names


def test_without_rules_nothing_but_calls_changes() -> None:
    before = jaxpr(everywhere, X)
    after = inline(before)
    assert [str(a) for a in after.out_avals] == [str(a) for a in before.out_avals]
    np.testing.assert_array_equal(run(before, [X])[0], run(after, [X])[0])


def test_custom_derivatives_are_inlined() -> None:
    @jax.custom_jvp
    def first(x: Array) -> Array:
        return x * 2.0

    @jax.custom_vjp
    def second(x: Array) -> Array:
        return x * 3.0

    first.defjvp(lambda p, t: (first(*p), t[0]))
    second.defvjp(lambda x: (second(x), None), lambda _, g: (g,))
    after = inline(jaxpr(lambda x: jax.nn.relu(jax.checkpoint(first)(x)) + second(x), X))
    assert set(primitives(after)) <= {"mul", "max", "add"}


def test_a_rule_that_returns_none_leaves_the_equation() -> None:
    after = rewrite(jaxpr(jnp.sin, X), {"sin": lambda site, x: None})
    assert list(primitives(after)) == ["sin"]


def test_a_rule_sees_what_made_its_operand() -> None:
    def doubled(site: Site, x: Array) -> Any:
        made = site.maker(x)
        if made is None or made.name != "neg":
            return None
        return site.emit(prims.abs_p, made.operands[0])

    after = rewrite(jaxpr(lambda x: jnp.abs(-jnp.abs(-x)), X), {"abs": doubled})
    assert list(primitives(after)) == ["abs", "abs"]


def test_a_rule_of_several_results_replaces_them_all() -> None:
    def largest(site: Site, x: Array) -> list[Array]:
        order = jnp.argsort(-x)[: site.params["k"]].astype(np.int32)
        return [x[order], order]

    before = jaxpr(lambda x: lax.top_k(x, 2), X)
    after = rewrite(before, {"top_k": largest})
    for a, b in zip(run(before, [X]), run(after, [X]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_rule_that_changes_the_type_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"rule of sin: gave float32\[3\], want float32\[6\]"):
        rewrite(jaxpr(jnp.sin, X), {"sin": lambda site, x: x[:3]})


def test_names_of_scopes_survive() -> None:
    def named(x: Array) -> Array:
        with jax.named_scope("encoder"):
            return jnp.sin(x)

    after = rewrite(jaxpr(named, X), {})
    assert "encoder" in str(after.jaxpr.eqns[0].source_info.name_stack)


def test_what_nothing_needs_is_dropped_with_its_constants() -> None:
    big = np.arange(6, dtype=np.float32)

    def dead(x: Array) -> Array:
        _ = jnp.sin(x) * big
        return x + 1.0

    after = prune(jaxpr(dead, X))
    assert list(primitives(after)) == ["add"]
    assert not after.consts
