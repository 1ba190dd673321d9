"""The orders in which C++'s standard library takes equal scores: they decide what TensorFlow keeps.

libstdc++'s binary heap (bits/stl_heap.h) and its introspective sort (bits/stl_algo.h), best first.
"""

from collections.abc import Sequence

_SMALL = 16
"""Shorter runs are left to the insertion sort at the end."""


def popped(scores: Sequence[float]) -> list[int]:
    """Places of the scores as a priority queue gives them, pushed one by one from the first."""
    if len(set(scores)) == len(scores):
        return sorted(range(len(scores)), key=lambda at: -scores[at])
    queue: list[int] = []
    for at in range(len(scores)):
        queue.append(at)
        _rise(queue, scores, len(queue) - 1, 0, at)
    found = []
    while queue:
        found.append(queue[0])
        last = queue.pop()
        if queue:
            _sink(queue, scores, last)
    return found


def _rise(queue: list[int], scores: Sequence[float], hole: int, top: int, value: int) -> None:
    while hole > top and scores[queue[(hole - 1) // 2]] < scores[value]:
        queue[hole] = queue[(hole - 1) // 2]
        hole = (hole - 1) // 2
    queue[hole] = value


def _sink(queue: list[int], scores: Sequence[float], value: int, top: int = 0) -> None:
    """The hole at `top` goes down to the leaves; `value` rises from there."""
    hole, count = top, len(queue)
    while hole < (count - 1) // 2:
        child = 2 * (hole + 1)
        if scores[queue[child]] < scores[queue[child - 1]]:
            child -= 1
        queue[hole] = queue[child]
        hole = child
    if count % 2 == 0 and hole == (count - 2) // 2:
        queue[hole] = queue[2 * hole + 1]
        hole = 2 * hole + 1
    _rise(queue, scores, hole, top, value)


def introsorted(scores: Sequence[float]) -> list[int]:
    """Places of the scores, the highest first, as std::sort leaves them."""
    order = list(range(len(scores)))
    if len(set(scores)) == len(scores):
        return sorted(order, key=lambda at: -scores[at])
    _split(order, scores, 0, len(order))
    for at in range(1, len(order)):
        value, to = order[at], at
        while to > 0 and scores[value] > scores[order[to - 1]]:
            order[to] = order[to - 1]
            to -= 1
        order[to] = value
    return order


def _split(order: list[int], scores: Sequence[float], first: int, last: int) -> None:
    while last - first > _SMALL:
        cut = _partition(order, scores, first, last)
        _split(order, scores, cut, last)
        last = cut


def _partition(order: list[int], scores: Sequence[float], first: int, last: int) -> int:
    """The median of three goes to the front; what is better than it goes to the left."""
    at = _median(order, scores, first + 1, first + (last - first) // 2, last - 1)
    order[first], order[at] = order[at], order[first]
    pivot = scores[order[first]]
    left, right = first + 1, last
    while True:
        while scores[order[left]] > pivot:
            left += 1
        right -= 1
        while pivot > scores[order[right]]:
            right -= 1
        if left >= right:
            return left
        order[left], order[right] = order[right], order[left]
        left += 1


def _median(order: list[int], scores: Sequence[float], a: int, b: int, c: int) -> int:
    x, y, z = (scores[order[at]] for at in (a, b, c))
    if x > y:
        return b if y > z else c if x > z else a
    return a if x > z else c if y > z else b
