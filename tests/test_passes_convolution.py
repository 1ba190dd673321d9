"""Every lowering of every kind of convolution gives what XLA's own gives."""

from typing import Any

import jax
import numpy as np
import pytest
from convolutions import NHWC, convolution, convolve, program, run
from jax import lax

from jaxrt.passes import convolution_lowering, prepare
from jaxrt.passes.convolution_table import LOWERINGS, XLA, candidates
from jaxrt.passes.rows import verdict
from jaxrt.program import Program

NCHW = ("NCHW", "OIHW", "NCHW")
TWO = ((2, 1), (2, 2))
CASES: dict[str, tuple[Any, ...]] = {
    "3x3": ((2, 9, 8, 4), (3, 3, 4, 5)),
    "3x3 valid": ((2, 9, 8, 4), (3, 3, 4, 5), NHWC, {"padding": "VALID"}),
    "3x3 one row": ((1, 6, 7, 4), (3, 3, 4, 5)),
    "3x3 of float64": ((2, 5, 4, 3), (3, 3, 3, 2), NHWC, {"dtype": "float64"}),
    "1x1": ((2, 5, 6, 4), (1, 1, 4, 7)),
    "1x1 stride 2": ((2, 5, 6, 4), (1, 1, 4, 7), NHWC, {"strides": (2, 2)}),
    "channels first": (
        (2, 4, 9, 8),
        (5, 4, 3, 3),
        NCHW,
        {"strides": (2, 2), "padding": ((1, 2), (0, 3))},
    ),
    "dilated, cropped, mixed layouts": (
        (2, 4, 9, 8),
        (5, 4, 3, 2),
        ("NCHW", "OIHW", "NHWC"),
        {"padding": ((-1, 2), (0, 3)), "rhs_dilation": (1, 2), "strides": (2, 1)},
    ),
    "depthwise": ((2, 9, 8, 4), (3, 3, 1, 4), NHWC, {"feature_group_count": 4}),
    "depthwise, 3 a channel": (
        (2, 9, 8, 4),
        (3, 2, 1, 12),
        NHWC,
        {"feature_group_count": 4, "strides": (2, 2)},
    ),
    "grouped": ((2, 9, 8, 4), (3, 2, 2, 6), NHWC, {"feature_group_count": 2}),
    "1-D": ((2, 9, 4), (3, 4, 6), ("NWC", "WIO", "NWC"), {"strides": (2,)}),
    "3-D": (
        (2, 5, 4, 6, 3),
        (3, 2, 3, 3, 4),
        ("NDHWC", "DHWIO", "NDHWC"),
        {"strides": (2, 1, 1)},
    ),
    "transposed": ((2, 5, 6, 4), (4, 3, 4, 6), NHWC, {"padding": TWO, "lhs_dilation": (2, 2)}),
    "transposed, windows side by side": (
        (2, 5, 6, 4),
        (3, 2, 4, 6),
        NHWC,
        {"padding": ((1, 3), (2, 0)), "lhs_dilation": (3, 2)},
    ),
    "RGB, dilated, stride 2": (
        (2, 9, 11, 3),
        (3, 3, 3, 5),
        NHWC,
        {"rhs_dilation": (1, 2), "strides": (2, 2)},
    ),
    "transposed, gaps": (
        (2, 5, 6, 4),
        (2, 2, 4, 6),
        NHWC,
        {"padding": TWO, "lhs_dilation": (3, 2)},
    ),
    "transposed, cropped": (
        (2, 5, 6, 4),
        (3, 3, 4, 6),
        NHWC,
        {"padding": ((-1, 3), (1, 2)), "lhs_dilation": (2, 1)},
    ),
    "transposed depthwise": (
        (2, 5, 6, 4),
        (4, 4, 1, 4),
        NHWC,
        {"padding": ((2, 2), (2, 2)), "lhs_dilation": (2, 2), "feature_group_count": 4},
    ),
}


def always(name: str) -> convolution_lowering.Choose:
    return lambda conv: name


def case(name: str) -> Any:
    x, kernel, *rest = CASES[name]
    layout = rest[0] if rest else NHWC
    return convolve(x, kernel, layout, **(rest[1] if len(rest) > 1 else {}))


@pytest.mark.parametrize("name", CASES)
def test_each_lowering_gives_what_the_convolution_gives(name: str) -> None:
    program, kernel, x = case(name)
    (conv,) = convolution_lowering.convolutions(program)
    want = run(program, kernel, x)
    names = [lowering.name for lowering in candidates(conv)]
    assert len(names) > 1
    for chosen in names:
        lowered = convolution_lowering.lower(program, always(chosen))
        got = run(lowered, kernel, x)
        bound = 3e-6 if conv.dtype == "float32" else 1e-14
        np.testing.assert_allclose(
            got, want, rtol=0, atol=bound * np.abs(want).max(), err_msg=chosen
        )
        own = "conv_general_dilated" in prepare.primitives(lowered.jaxpr)
        assert own == (chosen in (XLA, "xla by row", "phases")), chosen


def test_every_lowering_fits_some_case() -> None:
    fitting = {
        lowering.name
        for name in CASES
        for conv in convolution_lowering.convolutions(case(name)[0])
        for lowering in candidates(conv)
    }
    assert fitting == set(LOWERINGS)


@pytest.mark.parametrize("lowering", sorted(n for n in LOWERINGS if not n.endswith("by row")))
def test_rows_stay_apart_in_every_lowering(lowering: str) -> None:
    def lowered(name: str, batch: int) -> Program | None:
        x, kernel, *rest = CASES[name]
        more = rest[1] if len(rest) > 1 else {}
        found, _, _ = convolve((batch, *x[1:]), kernel, rest[0] if rest else NHWC, **more)
        (conv,) = convolution_lowering.convolutions(found)
        fits = LOWERINGS[lowering].fits(conv)
        return convolution_lowering.lower(found, always(lowering)) if fits else None

    name = next(name for name in CASES if lowered(name, 2))
    programs = {batch: found for batch in (2, 3) if (found := lowered(name, batch))}
    assert verdict(programs).independent, (name, verdict(programs).reason)


def test_winograd_kernels_are_transformed_once() -> None:
    program, kernel, x = case("3x3")
    want = run(program, kernel, x)
    split = prepare.split(convolution_lowering.lower(program, always("Winograd F(4,3)")))
    prepared = prepare.run_prepare(split, {"k": kernel})
    assert [a.shape for a in prepared.values()] == [(36, 4, 5)]
    got = run(split.apply, *prepared.values(), x)
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-6)


def test_a_kernel_that_depends_on_inputs_is_not_transformed() -> None:
    x = np.ones((1, 8, 8, 4), np.float32)

    def dynamic(k: Any, v: Any) -> Any:
        return lax.conv_general_dilated(v, k * v.sum(), (1, 1), "SAME", dimension_numbers=NHWC)

    found = program(dynamic, {"k": np.ones((3, 3, 4, 4), np.float32)}, x)
    (conv,) = convolution_lowering.convolutions(found)
    assert not conv.fixed
    assert not [c.name for c in candidates(conv) if "Winograd" in c.name]
    assert str(conv).endswith("kernel computed")


def test_convolutions_in_loops_are_lowered_too() -> None:
    kernel = np.ones((1, 1, 4, 4), np.float32) / 4
    x = np.ones((1, 3, 3, 4), np.float32)

    def looped(k: Any, v: Any) -> Any:
        def step(_: Any, c: Any) -> Any:
            return lax.conv_general_dilated(c, k, (1, 1), "SAME", dimension_numbers=NHWC)

        return lax.fori_loop(np.int32(0), np.int32(3), step, v)

    found = program(looped, {"k": kernel}, x)
    lowered = convolution_lowering.lower(found, always("dot"))
    assert "conv_general_dilated" not in set(prepare.primitives(lowered.jaxpr))
    np.testing.assert_allclose(run(lowered, kernel, x), run(found, kernel, x), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_left_to_xla(dtype: str) -> None:
    x = np.ones((1, 3, 3, 4), jax.numpy.dtype(dtype))

    def plain(k: Any, v: Any) -> Any:
        return lax.conv_general_dilated(v, k, (1, 1), "SAME", dimension_numbers=NHWC)

    found = program(plain, {"k": np.ones((1, 1, 4, 4), x.dtype)}, x)
    assert convolution_lowering.convolutions(found) == ()
    assert convolution_lowering.lower(found, always("dot")) is found


def test_a_convolution_is_spelled_with_all_it_depends_on() -> None:
    assert str(convolution(batch=8, strides=(2, 2), groups=4)) == (
        "float32[8,14,14,32], 3x3 -> 32, pad 1,1 1,1, stride 2x2, 4 groups"
    )
    transposed = convolution(lhs_dilation=(2, 2), rhs_dilation=(1, 3), window=(3, 1))
    assert str(transposed) == (
        "float32[1,14,14,32], 3x1 -> 32, pad 1,1 1,1, transposed 2x2, dilated 1x3"
    )
    assert transposed.flops == 2 * 27 * 29 * 32 * 3 * 32 // 4


def test_windows_of_many_taps_are_not_written_out() -> None:
    wide = convolution(spatial=(187, 96), window=(129, 38), features=1, out_features=64)
    assert [c.name for c in candidates(wide)] == [XLA]
    large = convolution(batch=64, spatial=(224, 224), features=64, out_features=64)
    assert "im2col dot" not in [c.name for c in candidates(large)]
    assert "im2col dot by row" in [c.name for c in candidates(large)]
