"""A program for one device may talk to itself; a program for more is refused."""

import lifting
import numpy as np
import pytest

from jaxrt.converters.lift.evaluator import lift
from jaxrt.errors import UnsupportedOps

X = np.arange(6, dtype=np.float32).reshape(2, 3)

SUM = """({
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %s = stablehlo.add %a, %b : tensor<f32>
      stablehlo.return %s : tensor<f32>
  })"""
TYPE = "(tensor<2x3xf32>) -> tensor<2x3xf32>"


def text(op: str) -> str:
    return f"""func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {{
      %0 = {op}
      return %0 : tensor<2x3xf32>
    }}"""


def collectives(groups: str) -> dict[str, str]:
    return {
        "all_reduce": f'"stablehlo.all_reduce"(%x) <{{replica_groups = {groups}}}> {SUM} : {TYPE}',
        "all_reduce over a channel": f'"stablehlo.all_reduce"(%x) <{{replica_groups = {groups}, '
        "channel_handle = #stablehlo.channel_handle<handle = 1, type = 1>, "
        f"use_global_device_ids}}> {SUM} : {TYPE}",
        "all_gather": f'"stablehlo.all_gather"(%x) <{{all_gather_dim = 1 : i64, '
        f"replica_groups = {groups}}}> : {TYPE}",
        "reduce_scatter": f'"stablehlo.reduce_scatter"(%x) <{{scatter_dimension = 0 : i64, '
        f"replica_groups = {groups}}}> {SUM} : {TYPE}",
        "all_to_all": f'"stablehlo.all_to_all"(%x) <{{split_dimension = 0 : i64, '
        "concat_dimension = 0 : i64, split_count = 1 : i64, "
        f"replica_groups = {groups}}}> : {TYPE}",
        "collective_broadcast": f'"stablehlo.collective_broadcast"(%x) <{{'
        f"replica_groups = {groups}}}> : {TYPE}",
        "cross-replica-sum": f'"stablehlo.cross-replica-sum"(%x) <{{'
        f"replica_groups = {groups}}}> : {TYPE}",
    }


ALONE = collectives("dense<0> : tensor<1x1xi64>")
TOGETHER = collectives("dense<[[0, 1]]> : tensor<1x2xi64>")


@pytest.mark.parametrize("name", ALONE)
def test_a_group_of_one_gets_its_own_value_back(name: str) -> None:
    np.testing.assert_array_equal(lifting.lifted(text(ALONE[name]), X), [X])


@pytest.mark.parametrize("name", sorted(set(TOGETHER) - {"all_to_all"}))
def test_a_group_of_two_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedOps, match="over 2 devices: a serving program runs on one"):
        lift(text(TOGETHER[name]), signature="s", inputs=["x"], weights=[], outputs=["y"])


def permute(pairs: str) -> str:
    return text(f'"stablehlo.collective_permute"(%x) <{{source_target_pairs = {pairs}}}> : {TYPE}')


def test_a_permutation_of_one_device() -> None:
    np.testing.assert_array_equal(lifting.lifted(permute("dense<0> : tensor<1x2xi64>"), X), [X])
    np.testing.assert_array_equal(lifting.lifted(permute("dense<> : tensor<0x2xi64>"), X), [0 * X])


def test_a_permutation_of_two_devices_is_refused() -> None:
    pairs = "dense<[[0, 1], [1, 0]]> : tensor<2x2xi64>"
    with pytest.raises(UnsupportedOps, match=r"sends \[\[0, 1\], \[1, 0\]\]"):
        lift(permute(pairs), signature="s", inputs=["x"], weights=[], outputs=["y"])


def test_the_only_device_has_number_zero() -> None:
    found = lifting.lifted("""func.func @main() -> (tensor<ui32>, tensor<ui32>) {
      %0 = stablehlo.replica_id : tensor<ui32>
      %1 = stablehlo.partition_id : tensor<ui32>
      return %0, %1 : tensor<ui32>, tensor<ui32>
    }""")
    assert [(int(x), x.dtype) for x in found] == [(0, np.uint32), (0, np.uint32)]


def test_host_transfers_are_refused_all_at_once() -> None:
    module = """func.func @main(%x: tensor<f32>, %t: !stablehlo.token) -> tensor<f32> {
      %0 = "stablehlo.outfeed"(%x, %t) <{outfeed_config = ""}>
        : (tensor<f32>, !stablehlo.token) -> !stablehlo.token
      %1:2 = "stablehlo.infeed"(%0) <{infeed_config = ""}>
        : (!stablehlo.token) -> (tensor<f32>, !stablehlo.token)
      %2 = "stablehlo.send"(%1#0, %1#1) <{
        channel_handle = #stablehlo.channel_handle<handle = 5, type = 2>, is_host_transfer = true
      }> : (tensor<f32>, !stablehlo.token) -> !stablehlo.token
      %3 = stablehlo.custom_call @some_kernel(%x) : (tensor<f32>) -> tensor<f32>
      return %3 : tensor<f32>
    }"""
    with pytest.raises(UnsupportedOps) as caught:
        lift(module, signature="s", inputs=["x", "t"], weights=[], outputs=["y"])
    assert caught.value.problems == (
        "op stablehlo.outfeed",
        "op stablehlo.infeed",
        "op stablehlo.send",
        "op stablehlo.custom_call @some_kernel",
    )
