"""Threads beside the event loop: their results, their errors, their place behind it."""

import asyncio
import os
import sys
import threading

import pytest

from jaxrt.serving.engine import background
from jaxrt.serving.engine.background import in_thread


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_result_and_the_error_come_back() -> None:
    def fail() -> None:
        raise OSError("no disk")

    async def scenario() -> None:
        assert await in_thread(lambda: 7, calm=False) == 7
        with pytest.raises(OSError, match="no disk"):
            await in_thread(fail, calm=True)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await in_thread(lambda: next(iter(())), calm=False)

    asyncio.run(scenario())


def test_a_calm_thread_lets_others_go_first_and_leaves_them_as_they_are() -> None:
    before, turn = nice(), sys.getswitchinterval()

    def observe() -> tuple[int, float]:
        return nice(), sys.getswitchinterval()

    async def scenario() -> None:
        assert await in_thread(observe, calm=False) == (before, turn)
        lower, shorter = await in_thread(observe, calm=True)
        assert lower > before or lower == background.LOWER
        assert shorter == pytest.approx(background.SHORT_TURN)

    asyncio.run(scenario())
    assert (nice(), sys.getswitchinterval()) == (before, turn)


def test_the_last_of_several_calm_threads_gives_the_long_turns_back() -> None:
    turn = sys.getswitchinterval()
    first, second = threading.Event(), threading.Event()

    async def scenario() -> None:
        one = asyncio.create_task(in_thread(lambda: first.wait(10), calm=True))
        two = asyncio.create_task(in_thread(lambda: second.wait(10), calm=True))
        await asyncio.sleep(0.05)
        first.set()
        await one
        assert sys.getswitchinterval() < turn
        second.set()
        await two

    asyncio.run(scenario())
    assert sys.getswitchinterval() == pytest.approx(turn)


def test_a_caller_that_leaves_does_not_wait_for_the_thread() -> None:
    going = threading.Event()

    async def scenario() -> None:
        waiting = asyncio.create_task(in_thread(lambda: going.wait(10), calm=False))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        going.set()

    asyncio.run(scenario())
