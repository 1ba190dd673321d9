"""Operations counted from shapes, and what a run in TensorFlow says of its shapes."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jaxrt.converters.arithmetic import Ran, Tensor, Work, flops, plain, work


def ran(
    op: str,
    inputs: Sequence[tuple[int, ...] | None],
    *outputs: tuple[int, ...],
    dtype: str = "float32",
) -> Ran:
    return Ran(
        op=op,
        inputs=tuple(s if s is None else Tensor(dtype=dtype, shape=s) for s in inputs),
        outputs=tuple(Tensor(dtype=dtype, shape=s) for s in outputs),
    )


@pytest.mark.parametrize(
    ("one", "count"),
    [
        (ran("MatMul", [(3, 4), (4, 5)], (3, 5)), 2 * 3 * 4 * 5),
        (ran("MatMul", [(4, 3), (4, 5)], (3, 5)), 2 * 3 * 4 * 5),  # transposed
        (ran("_MklNativeFusedMatMul", [(3, 4), (4, 5), (5,)], (3, 5)), 2 * 3 * 4 * 5),
        (ran("BatchMatMulV2", [(7, 3, 4), (4, 5)], (7, 3, 5)), 2 * 7 * 3 * 4 * 5),
        (ran("MatMul", [(0, 4), (4, 5)], (0, 5)), 0),
        (ran("Conv2D", [(2, 8, 8, 3), (3, 3, 3, 4)], (2, 4, 4, 4)), 2 * 2 * 16 * 4 * 27),
        (ran("Conv2D", [(2, 8, 8, 4), (3, 3, 2, 6)], (2, 8, 8, 6)), 2 * 2 * 64 * 6 * 18),  # groups
        (
            ran("DepthwiseConv2dNative", [(1, 8, 8, 3), (3, 3, 3, 2)], (1, 8, 8, 6)),
            2 * 64 * 6 * 9,
        ),
        (
            ran("Conv2DBackpropInput", [(4,), (2, 2, 5, 3), (1, 4, 4, 3)], (1, 8, 8, 5)),
            2 * 16 * 3 * 2 * 2 * 5,
        ),
        (ran("Tanh", [(3, 4)], (3, 4)), 12),
        (ran("AddV2", [(3, 1), (1, 4)], (3, 4), dtype="int64"), 12),
        (ran("Sum", [(3, 4), (1,)], (3,)), 12),
        (ran("Softmax", [(3, 4)], (3, 4)), 60),
        (ran("ResizeBilinear", [(1, 4, 4, 3), (2,)], (1, 8, 8, 3)), 9 * 192),
        (ran("SparseSegmentSum", [(9, 8), (5,), (5,)], (2, 8)), 40),
        (ran("Reshape", [(3, 4), (1,)], (12,)), 0),
        (ran("TensorListGetItem", [(), ()], (8, 8)), 0),
        (ran("ParseExampleV2", [None, None], (3, 2)), 0),
        (ran("LookupTableFindV2", [None, None], (3,), dtype="int64"), 0),
        (ran("StringLower", [(3,)], (3,), dtype="string"), 0),
        (ran("Equal", [(3,), ()], (3,), dtype="string"), 0),
    ],
)
def test_an_op_counts_as_xla_would_count_it(one: Ran, count: int) -> None:
    assert flops(one) == count


@pytest.mark.parametrize(
    "one",
    [
        ran("Einsum", [(3, 4), (4, 5)], (3, 5)),
        ran("SomeOpOfSomebody", [(3,)], (3,)),
        ran("MatMul", [None, (4, 5)], (3, 5)),
        ran("Conv2D", [(1, 8, 8, 3)], (1, 8, 8, 4)),
        ran("Sum", [None], ()),
        ran("SparseSegmentSum", [(9, 8), None], (2, 8)),
        ran("Conv2DBackpropInput", [(4,), (2, 2, 5, 3)], (1, 8, 8, 5)),
    ],
)
def test_an_op_that_nobody_can_count_is_named(one: Ran) -> None:
    assert flops(one) is None
    counted = ran("Tanh", [(5,)], (5,))
    assert work([one, counted]) == Work(flops=5, uncounted=(plain(one.op),))


def test_an_unknown_op_that_gives_no_floats_computes_none() -> None:
    assert flops(ran("SomeHash", [(3,)], (3,), dtype="int64")) == 0


_TRACED = """
import numpy as np
import tensorflow as tf

from jaxrt.converters.arithmetic import flops
from jaxrt.converters.traced import traced

@tf.function
def f(x, w):
    for _ in tf.range(tf.shape(x)[0]):
        x = tf.tanh(x @ w)
    if tf.reduce_sum(x) > 1e9:
        x = tf.exp(x)
    return tf.nn.relu(tf.nn.bias_add(x @ w, tf.ones(4)))

made = f.get_concrete_function(tf.TensorSpec([None, 4]), tf.TensorSpec([4, 4]))
with tf.Graph().as_default() as graph:
    tf.graph_util.import_graph_def(made.graph.as_graph_def(), name="")
    session = tf.compat.v1.Session(graph=graph)
feeds = {t.name: a for t, a in zip(made.inputs, (np.ones((3, 4), "f4"), np.eye(4, dtype="f4")))}
answers, ran = traced(session, {"y": made.outputs[0].name}, feeds)
assert answers["y"].shape == (3, 4)
for one in ran:
    if one.op.endswith(("MatMul", "Tanh", "Exp", "Sum")):
        print(one.op.lstrip("_").replace("Native", ""), flops(one))
"""


def test_a_run_is_counted_as_often_as_loops_and_branches_ran(
    tmp_path: Path,
) -> None:
    script = tmp_path / "traced.py"  # a file: AutoGraph reads the source
    script.write_text(_TRACED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split() for line in done.stdout.splitlines()]
    products = [int(count) for op, count in found if op.endswith("MatMul")]
    assert products == [2 * 3 * 4 * 4] * 4  # three rounds of the loop, and one behind it
    assert [int(count) for op, count in found if op == "Tanh"] == [12] * 3
    assert [int(count) for op, count in found if op == "Sum"] == [12]
    assert not [count for op, count in found if op == "Exp"]
