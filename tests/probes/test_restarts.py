from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cutover.container import Container
from cutover.engine import EngineSilent
from cutover.probes.restarts import judge_restarts, judge_settled, settled, unchanged
from cutover.probes.stamps import seconds_of, spoken
from cutover.verdict import Outcome
from tests.probes.inspected import STARTED, Engine, at, container, health, probe

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN
RUNNING = container()


@pytest.mark.parametrize(
    ("seen", "age", "outcome", "reason"),
    [
        (RUNNING, 12, YES, "none, running for 12 s"),
        (RUNNING, 8040, YES, "none, running for 2 h 14 min"),
        (None, 12, NO, "the container is gone"),
        # A loop with lives of 11 s resets the back-off each time and looks healthy in between.
        (container(restarts=3), 9, NO, "restarted 3 times, the last one 9.0 s ago"),
        (container(restarts=1), 86400 * 21, YES, "none for 21 d 0 h (restarted 1 times, the"),
        (container("restarting", restarts=7, exit_code=1), 1, NO, "crash loop: restarted 7 times"),
        (container("exited", exit_code=1), 1, NO, "exited (1)"),
        (container("created"), 1, NO, "created, but never started"),
    ],
)  # fmt: skip
def test_restarts(seen: Container | None, age: float, outcome: Outcome, reason: str) -> None:
    """A restart is a no until the container has stood for ten minutes."""
    verdict = judge_restarts(seen, seconds_of(STARTED) + age)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("after", "outcome", "reason"),
    [
        (RUNNING, YES, "no restart in 5 s"),
        (None, NO, "is gone"),
        (container(restarts=1), NO, "started anew"),
        (container(started=at(3)), NO, f"started anew: at {STARTED}, then at {at(3)}"),
        (container(id_="e" * 64), NO, "started anew"),
        (container("restarting", restarts=2), NO, "crash loop"),
        (container("exited"), NO, "exited (0)"),
    ],
)
def test_a_restart_is_another_life(after: Container | None, outcome: Outcome, reason: str) -> None:
    """Another id, start or count is a restart, whatever the state says."""
    verdict = judge_settled(RUNNING, after, 5)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_settled_waits_from_the_start() -> None:
    """The time since the start counts, so that only the rest is waited for."""
    engine = Engine(RUNNING)
    engine.now = 2.0
    assert settled(RUNNING, 5.0, engine.asked()).outcome is YES
    assert sum(engine.naps) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("probes", "waited"),
    [
        ((probe(9.5),), 0.5),
        ((probe(8.9, 1), probe(9.9)), 0.9),
        ((probe(8.0), probe(9.0)), 0.0),
        ((probe(9.9, 1),), 0.0),
    ],
)
def test_a_slow_start_is_looked_at_a_second_longer(probes: Sequence[dict[str, Any]], waited: float) -> None:
    """Who became healthy only after `min_healthy` has to stand for a second since its first good probe."""
    engine = Engine(container(health=health("healthy", *probes)))
    engine.now = 10.0
    assert settled(RUNNING, 5.0, engine.asked()).outcome is YES
    assert sum(engine.naps) == pytest.approx(waited, abs=1e-3)


def test_the_same_life_is_asked_for_again() -> None:
    """At the end of the gate the container is still in the life that it was seen in at the beginning."""
    assert unchanged(RUNNING, Engine(RUNNING).asked()).reason == "no restart since it was first seen"
    assert unchanged(RUNNING, Engine(container(restarts=1)).asked()).outcome is NO
    assert unchanged(RUNNING, Engine(EngineSilent("mute")).asked()).outcome is UNKNOWN


def test_settled_does_not_wait_for_an_old_container() -> None:
    """What has stood long enough is looked at once."""
    engine = Engine(RUNNING)
    engine.now = 600.0
    assert (settled(RUNNING, 5.0, engine.asked()).outcome, engine.naps) == (YES, [])


def test_settled_fails_at_once() -> None:
    """A death is told when it happens, with the last log line."""
    engine = Engine(RUNNING, container("exited", exit_code=9), log=["2025-09-04T01:10:01Z out of disk"])
    verdict = settled(RUNNING, 5.0, engine.asked())
    assert (verdict.outcome, "last log line: out of disk" in verdict.reason) == (NO, True)
    assert sum(engine.naps) == 0.5


def test_a_mute_engine_is_unknown() -> None:
    """Without the engine's answer nobody knows."""
    assert settled(RUNNING, 5.0, Engine(EngineSilent("mute")).asked()).outcome is UNKNOWN


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2025-09-04T01:10:00Z", 1756948200.0),
        ("2025-09-04T01:10:00.25Z", 1756948200.25),
        ("2025-09-04T03:10:00.123456789+02:00", 1756948200.123456789),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("Traceback (most recent call last):", 0.0),
    ],
)
def test_stamps(stamp: str, seconds: float) -> None:
    """The engine's stamps are read with fractions and offsets; what never happened is 0."""
    assert seconds_of(stamp) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.4 s"),
        (31, "31 s"),
        (119, "119 s"),
        (600, "10 min"),
        (8040, "2 h 14 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_spoken(seconds: float, words: str) -> None:
    """A duration is told in units that fit it."""
    assert spoken(seconds) == words
