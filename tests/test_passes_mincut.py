"""The cheapest cut, and among equals the latest."""

import itertools
import random

from jaxrt.passes.mincut import latest_cut


def test_the_narrowest_point_of_a_chain_is_cut() -> None:
    assert latest_cut({1: 5, 2: 3, 3: 9}, [(1, 2), (2, 3)], [1], [3]) == {2}


def test_among_equal_points_the_last_is_cut() -> None:
    assert latest_cut({1: 4, 2: 4, 3: 9}, [(1, 2), (2, 3)], [1], [3]) == {2}


def test_two_ways_are_cut_where_they_are_one() -> None:
    feeds = [(1, 2), (1, 3), (2, 4), (3, 5)]
    assert latest_cut({1: 5, 2: 4, 3: 4, 4: 9, 5: 9}, feeds, [1], [4, 5]) == {1}


def test_free_nodes_are_cut_as_late_as_they_come() -> None:
    assert latest_cut({1: 0, 2: 0, 3: 7}, [(1, 2), (2, 3)], [1], [3]) == {2}


def test_what_no_sink_needs_is_not_cut() -> None:
    assert latest_cut({1: 1, 2: 1}, [], [1, 2], [2]) == {2}
    assert latest_cut({}, [], [], []) == set()


def _cuts(nodes: int, feeds: list[tuple[int, int]], taken: set[int]) -> bool:
    """Whether no way from node 0 or 1 to the last two avoids `taken`."""
    reached = {n for n in (0, 1) if n not in taken}
    for a, b in sorted(feeds):
        if a in reached and b not in taken:
            reached.add(b)
    return not reached & {nodes - 1, nodes - 2}


def test_no_set_of_nodes_is_cheaper_on_random_graphs() -> None:
    choose = random.Random(0)
    for _ in range(60):
        nodes = choose.randint(4, 8)
        costs = {n: choose.randint(0, 9) for n in range(nodes)}
        pairs = itertools.combinations(range(nodes), 2)
        feeds = [p for p in pairs if choose.random() < 0.4]
        found = latest_cut(costs, feeds, [0, 1], [nodes - 1, nodes - 2])
        assert _cuts(nodes, feeds, {n for n in range(nodes) if n in found})
        subsets = itertools.chain.from_iterable(
            itertools.combinations(range(nodes), k) for k in range(nodes + 1)
        )
        best = min(sum(costs[n] for n in s) for s in subsets if _cuts(nodes, feeds, set(s)))
        assert sum(costs[n] for n in range(nodes) if n in found) == best
