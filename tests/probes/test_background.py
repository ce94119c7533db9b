"""A slow answer is waited for by nobody."""

from __future__ import annotations

import threading
import time

import pytest

from cutover.probes.background import Background, at_once

LONG_S = 60.0


def test_a_quick_answer_comes_with_its_own_tick() -> None:
    """What answers at once is seen at once."""
    assert Background(lambda: 7, grace_s=LONG_S).tick(0.0) == [7]
    assert Background(lambda: 7, start=at_once).tick(0.0) == [7]


def test_a_slow_answer_is_not_waited_for() -> None:
    """While one is out no second is asked; its answer comes with a later tick."""
    go, calls = threading.Event(), list[int]()

    def ask() -> int:
        calls.append(1)
        go.wait(LONG_S)
        return len(calls)

    asking = Background(ask, grace_s=0.001)
    assert (asking.tick(0.0), asking.tick(0.0)) == ([], [])
    go.set()
    end = time.monotonic() + LONG_S
    while not (come := asking.tick(0.0)) and time.monotonic() < end:
        time.sleep(0.001)
    assert come == [1]


def test_several_may_be_out_at_once() -> None:
    """Hung probes do not stop the next ones, up to the given number."""
    go, asked = threading.Event(), threading.Semaphore(0)

    def ask() -> None:
        asked.release()
        go.wait(LONG_S)

    asking = Background(ask, 2, grace_s=0.001)
    for _ in range(4):
        asking.tick(0.0)
    assert asking.flying == 2
    assert asked.acquire(timeout=LONG_S)
    assert asked.acquire(timeout=LONG_S)
    assert not asked.acquire(timeout=0.01)
    go.set()


def test_an_error_is_raised_by_the_tick_that_collects_it() -> None:
    """What the asker raises reaches who ticks, and the next tick asks again."""
    asking = Background(lambda: 1 // 0, start=at_once)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            asking.tick(0.0)


def test_ticking_more_often_asks_no_more_often() -> None:
    """Answers are taken in as they come, while the question keeps its own pace."""
    asked: list[float] = []
    asking = Background(lambda: asked.append(0.0), pace_s=2.0, start=at_once)
    come = [len(asking.tick(tick / 2)) for tick in range(9)]
    assert come == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert len(asked) == 3
