"""Passes without a choice: applied on CPUs, each with a switch and a line in the report."""

import dataclasses

import jax
import numpy as np
from jax import lax

from jaxrt import target
from jaxrt.program import Program
from jaxrt.tuning.forms import FORMS
from jaxrt.tuning.optimizer import PASSES, Passes, optimizer

CPU = target.select("cpu")


def ten_best() -> Program:
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(lambda x: lax.top_k(x, 10))(np.zeros((2, 100_000), np.float32))
    return Program(
        signature="f",
        jaxpr=jaxpr,
        weight_names=(),
        input_names=("x",),
        output_names=("values", "positions"),
    )


def test_a_long_top_k_takes_two_steps_unless_switched_off() -> None:
    assert optimizer(CPU, Passes())(ten_best()).gains == ("top-k: 1 in two steps",)
    assert optimizer(CPU, Passes(disabled=("top-k",)))(ten_best()).gains == ()


def test_other_devices_keep_their_own_top_k() -> None:
    tpu = dataclasses.replace(CPU, platform="tpu")
    assert optimizer(tpu, Passes())(ten_best()).gains == ()


def test_every_form_has_a_switch_of_its_own() -> None:
    names = [form.name for form in FORMS]
    assert len(set(names)) == len(names) and set(names) <= set(PASSES)
