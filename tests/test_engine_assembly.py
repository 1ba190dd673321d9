"""Assembly of batches: rows in, padding, rows out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.errors import Internal
from jaxrt.serving.engine import assembly


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), spare=st.integers(0, 9))
def test_scatter_undoes_gather_for_any_cut(sizes: list[int], spare: int) -> None:
    total, bucket = sum(sizes), sum(sizes) + spare
    x = np.arange(total * 2, dtype=np.int64).reshape(total, 2)
    s = np.array([f"{i}".encode() for i in range(total)], dtype=object)
    ends = np.cumsum(sizes)[:-1]
    parts = [{"x": a, "s": b} for a, b in zip(np.split(x, ends), np.split(s, ends), strict=True)]
    batch = assembly.gather(parts, bucket)
    assert batch["x"].shape == (bucket, 2) and batch["x"].dtype == np.int64
    assert (batch["x"][total:] == x[0]).all() and (batch["s"][total:] == s[0]).all()
    back = assembly.scatter(batch, sizes, bucket, where="m")
    for part, given_part in zip(back, parts, strict=True):
        np.testing.assert_array_equal(part["x"], given_part["x"])
        np.testing.assert_array_equal(part["s"], given_part["s"])


def test_a_request_that_fills_the_bucket_is_not_copied() -> None:
    x = np.ones((4, 3), np.float32)
    assert assembly.gather([{"x": x}], 4)["x"] is x


def test_shared_inputs_go_through_as_they_are() -> None:
    k = np.array(2.0)
    parts = [{"x": np.ones((n, 3)), "k": k} for n in (1, 2)]
    batch = assembly.gather(parts, 4, shared={"k"})
    assert batch["x"].shape == (4, 3) and batch["k"] is k


def test_writing_to_one_answer_leaves_the_others_alone() -> None:
    one, two = assembly.scatter({"y": np.zeros((4, 2))}, [1, 2], 4, where="m")
    one["y"][:] = 7
    assert (two["y"] == 0).all()


@pytest.mark.parametrize("shape", [(), (3,), (5, 4)])
def test_an_output_without_the_batch_is_the_servers_fault(shape: tuple[int, ...]) -> None:
    with pytest.raises(Internal, match=r'm: output "y" has shape \[.*\] for a batch of 4 rows'):
        assembly.scatter({"y": np.zeros(shape)}, [1, 2], 4, where="m")
