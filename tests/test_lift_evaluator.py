"""Lifting as a whole: what is refused, what becomes a weight, what a program looks like."""

import jax
import lifting
import ml_dtypes
import numpy as np
import pytest

from jaxrt.converters.lift import evaluator, module
from jaxrt.converters.lift.evaluator import lift, rule
from jaxrt.errors import ConversionError, UnsupportedOps

T = "tensor<2xf32>"


def test_all_unknown_ops_and_attributes_come_in_one_error() -> None:
    text = lifting.main(
        f"%0 = stablehlo.tanh %a {{speed = 3 : i32}} : {T}\n"
        f'%1:2 = "stablehlo.infeed"(%t) : (!stablehlo.token) -> ({T}, !stablehlo.token)\n'
        f"%2 = stablehlo.tanh %0 {{speed = 4 : i32, taste}} : {T}\n"
        f"%3 = stablehlo.add %1#0, %2 : {T}\n"
        f'%4 = "mhlo.stochastic_convert"(%3, %r) : ({T}, tensor<2xui32>) -> tensor<2xi8>\n'
        f"return %3 : {T}",
        f"(%a: {T}, %t: !stablehlo.token, %r: tensor<2xui32>) -> {T}",
    )
    with pytest.raises(UnsupportedOps) as caught:
        lifting.lifted(text, *[np.ones(2, np.float32)] * 3)
    assert caught.value.problems == (
        "attribute speed of stablehlo.tanh",
        "op stablehlo.infeed",
        "attribute taste of stablehlo.tanh",
        "op mhlo.stochastic_convert",
    )
    assert "signature 'test': 4 unsupported: attribute speed" in str(caught.value)


def test_hints_are_passed_over() -> None:
    text = lifting.main(
        f'%0 = stablehlo.tanh %a {{mhlo.frontend_attributes = {{a = "b"}}, '
        f'mhlo.sharding = "{{replicated}}", result_layout = dense<0> : tensor<1xindex>, '
        f'xla_shape = "f32[2]"}} : {T}\n return %0 : {T}',
        f"(%a: {T}) -> {T}",
    )
    x = np.ones(2, np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [np.tanh(x)], rtol=1e-6)


def test_an_op_has_one_rule() -> None:
    with pytest.raises(ValueError, match=r"stablehlo.add already has a rule, add"):
        rule("stablehlo.add")(lambda op, x: x)


def test_a_rule_that_gives_another_type_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = evaluator.Entry(lambda op, x: x[:1], frozenset(), False, None)
    monkeypatch.setitem(evaluator.RULES, "stablehlo.tanh", entry)
    text = lifting.main(f"%0 = stablehlo.tanh %a : {T}\n return %0 : {T}", f"(%a: {T}) -> {T}")
    with pytest.raises(ConversionError, match=r"tanh: rule gave float32\[1\].*float32\[2\]"):
        lifting.lifted(text, np.ones(2, np.float32))


def test_what_lax_refuses_names_the_op_and_its_types() -> None:
    z = "tensor<2xcomplex<f32>>"
    text = lifting.main(
        f"%0 = stablehlo.remainder %a, %a : {z}\n return %0 : {z}", f"(%a: {z}) -> {z}"
    )
    with pytest.raises(ConversionError, match=r"stablehlo.remainder.*complex64\[2\].*rem"):
        lifting.lifted(text, np.ones(2, np.complex64))


def test_arguments_are_counted() -> None:
    text = lifting.main(f"return %a : {T}", f"(%a: {T}, %b: {T}) -> {T}")
    with pytest.raises(ConversionError, match="main takes 2 arguments, 1 inputs and 2 weights"):
        lift(text, signature="s", inputs=["x"], weights=["v", "w"], outputs=["y"])


def test_weights_come_first_and_only_those_that_are_used() -> None:
    text = lifting.main(
        f"%0 = stablehlo.tanh %v : {T}\n%1 = stablehlo.subtract %x, %w : {T}\n return %1 : {T}",
        f"(%x: {T}, %unused: {T}, %v: {T}, %w: {T}) -> {T}",
    )
    program = lift(
        text, signature="s", inputs=["x", "unused"], weights=["v", "w"], outputs=["y"]
    ).program
    assert program.weight_names == ("w",)
    assert program.input_names == ("x", "unused")
    w, x = np.full(2, 3, np.float32), np.full(2, 5, np.float32)
    (out,) = jax.core.eval_jaxpr(program.jaxpr.jaxpr, program.jaxpr.consts, w, x, x)
    np.testing.assert_array_equal(out, x - w)


def test_results_may_be_inputs_constants_or_repeated() -> None:
    text = lifting.main(
        f"%c = stablehlo.constant dense<[1.0, 2.0]> : {T}\n return %a, %c, %a : {T}, {T}, {T}",
        f"(%a: {T}) -> ({T}, {T}, {T})",
    )
    x = np.ones(2, np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [x, np.array([1, 2], np.float32), x])


def test_a_tuple_of_results_is_opened_and_tokens_go() -> None:
    t = f"tuple<{T}, tuple<{T}, !stablehlo.token>>"
    text = lifting.main(
        "%k = stablehlo.create_token : !stablehlo.token\n"
        f"%0 = stablehlo.tuple %a, %k : tuple<{T}, !stablehlo.token>\n"
        f"%1 = stablehlo.tuple %a, %0 : {t}\n return %1 : {t}",
        f"(%a: {T}) -> {t}",
    )
    found = lift(text, signature="s", inputs=["x"], weights=(), outputs=["y", "z"])
    assert [a.shape for a in found.program.jaxpr.out_avals] == [(2,), (2,)]


def test_constants_nothing_uses_are_dropped() -> None:
    numbers = ", ".join(f"{n}.0" for n in range(300))
    text = lifting.main(
        f"%c = stablehlo.constant dense<[{numbers}]> : tensor<300xf32>\n"
        "%d = stablehlo.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32>\n"
        "%e = stablehlo.negate %d : tensor<3xf32>\n"
        f"%0 = stablehlo.tanh %a : {T}\n return %0 : {T}",
        f"(%a: {T}) -> {T}",
    )
    found = lift(text, signature="s", inputs=["x"], weights=(), outputs=["y"])
    assert not found.constants
    assert not found.program.weight_names
    assert not found.program.jaxpr.consts


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.int4, np.complex64, np.bool_])
def test_large_constants_of_any_dtype_become_weights(dtype: np.dtype[np.generic]) -> None:
    table = np.arange(2000).astype(np.int8).astype(dtype)
    text = lifting.stablehlo_of(lambda x: (x, jax.numpy.asarray(table)), np.ones(2, np.float32))
    found = lift(text, signature="s", inputs=["x"], weights=(), outputs=["y", "z"])
    (constant,) = found.constants.values()
    assert constant.dtype == dtype
    assert constant.tobytes() == table.tobytes()
    assert list(found.constants) == list(found.program.weight_names)


def test_no_result_is_weakly_typed_and_64_bits_stay() -> None:
    t = "tensor<2xi64>"
    text = lifting.main(
        f"%c = stablehlo.constant dense<2> : {t}\n%0 = stablehlo.multiply %a, %c : {t}\n"
        f"return %0 : {t}",
        f"(%a: {t}) -> {t}",
    )
    x = np.full(2, 2**40, np.int64)
    lifting.assert_equal(lifting.lifted(text, x), [x * 2])
    assert "weak_type=True" not in lifting.jaxpr_of(text, 1)


def test_the_only_public_function_is_the_entry() -> None:
    text = f"""module {{
      func.func private @helper(%a: {T}) -> {T} {{ return %a : {T} }}
      func.func @serve(%a: {T}) -> {T} {{
        %0 = stablehlo.negate %a : {T}
        return %0 : {T}
      }}
    }}"""
    x = np.ones(2, np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [-x])


def test_several_public_functions_and_no_main_are_refused() -> None:
    text = f"""module {{
      func.func @f(%a: {T}) -> {T} {{ return %a : {T} }}
      func.func @g(%a: {T}) -> {T} {{ return %a : {T} }}
    }}"""
    with pytest.raises(ConversionError, match=r"public functions \['f', 'g'\], want @main"):
        module.read(text)


def test_text_and_portable_artifacts_and_bytecode_are_all_read() -> None:
    exported = jax.export.export(jax.jit(lambda x: x * x))(np.ones(2, np.float32))
    x = np.full(2, 3, np.float32)
    for data in (exported.mlir_module_serialized, exported.mlir_module()):
        lifting.assert_equal(lifting.lifted(data, x), [x * x])


def test_what_does_not_parse_is_refused() -> None:
    with pytest.raises(ConversionError, match="StableHLO module does not parse"):
        module.read("module { func.func @main( }")
    with pytest.raises(ConversionError, match="tensor<2xf6E2M3FN>: no JAX dtype for f6E2M3FN"):
        t = "tensor<2xf6E2M3FN>"
        module.read(lifting.main(f"return %a : {t}", f"(%a: {t}) -> {t}"))
