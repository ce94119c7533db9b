from __future__ import annotations

from typing import Any

import pytest

from cutover.container import Container
from cutover.engine import EngineSilent
from cutover.probes import health as probes
from cutover.probes.health import budget, judge_health, wait_healthy
from cutover.verdict import Outcome
from tests.probes.inspected import CHECK, ID, Engine, at, container, health, probe

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN
S = 10**9
STARTING = container(health=health("starting"))
HEALTHY = container(health=health("healthy", probe(1.1)))
CRASHED = container("exited", health("unhealthy"), exit_code=3, finished=at(0.4))
LOOPING = container("restarting", health("unhealthy"), restarts=4, exit_code=1)


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        (HEALTHY, YES, "healthy, running for 60 s, last asked 59 s ago"),
        (None, NO, "the container is gone"),
        (container(check={"Test": ["NONE"]}), NO, "has no HEALTHCHECK, so nobody knows when it breaks"),
        (container(check={"Test": ["NONE"], "Interval": 10**9}), NO, "has no HEALTHCHECK"),
        (container(check={}), NO, "has no HEALTHCHECK"),
        (STARTING, UNKNOWN, "starting, no probe has answered since its start"),
        # An engine before its first look: the check is configured, `State.Health` is not there yet.
        (container(health=None), UNKNOWN, "no probe has answered"),
        # Started again: the log still holds entries from before.
        (container(health=health("healthy", probe(-5))), UNKNOWN, "no probe has answered since its start"),
        (container(health=health("unhealthy", probe(3, 1, "503 db: refused"), streak=3)), NO,
         "unhealthy: its HEALTHCHECK said '503 db: refused', 1 of the last 1 times failed"),
        (container(health=health("unhealthy", probe(3, -1, "Health check exceeded timeout (1s)"))), NO,
         "exceeded timeout (1s)"),
        # A pause forces "unhealthy" without a failed probe.
        (container("paused", health("unhealthy", probe(1))), NO, "paused: it answers nobody"),
        (LOOPING, NO, "crash loop: restarted 4 times, last exit code 1"),
        (CRASHED, NO, "exited (3) 0.4 s after its start"),
        (container("exited", health("unhealthy"), exit_code=137, oom=True, finished=at(9)), NO,
         "exited (137) 9.0 s after its start, killed for its memory limit"),
        (container("exited", exit_code=128, error="port is already allocated"), NO,
         "exited (128): port is already allocated"),
        (container("created", health=health("starting")), UNKNOWN, "starting"),
    ],
)  # fmt: skip
def test_health(seen: Container | None, outcome: Outcome, reason: str) -> None:
    """Healthy is a running container with a good probe since its start; everything else has a name."""
    verdict = judge_health(seen, 1756948260.5)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("check", "seconds", "words"),
    [
        ({"Interval": 5 * S, "Timeout": 2 * S, "StartPeriod": 10 * S}, 31, "start_period 10 s + 3 × 7 s"),
        ({"Interval": S, "Timeout": 2 * S, "Retries": 5}, 15, "5 × 3 s"),
        ({}, 180, "3 × 60 s"),
        ({"Interval": 0, "Retries": 0}, 180, "3 × 60 s"),
    ],
)  # fmt: skip
def test_budget_is_the_healthchecks_own(check: dict[str, Any], seconds: float, words: str) -> None:
    """A container may take as long as its own numbers say, the engine's defaults where they say nothing."""
    assert (budget(check).seconds, str(budget(check))) == (seconds, words)


def test_waits_until_healthy() -> None:
    """A container that starts is asked again, each time anew, until it is healthy."""
    engine = Engine(container("created", health("starting")), STARTING, STARTING, HEALTHY)
    verdict = wait_healthy(ID, None, engine.asked())
    assert (verdict.outcome, verdict.reason, len(engine.naps)) == (YES, "after 0.3 s of at most 9 s", 3)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (CRASHED, "exited (3) 0.4 s after its start; last log line: KeyError: 'DATABASE_URL'"),
        (LOOPING, "crash loop: restarted 4 times, last exit code 1; last log line: KeyError: 'DATABASE_URL'"),
        (container(health=health("unhealthy", streak=3)), "unhealthy; last log line"),
        (container(check={}), "has no HEALTHCHECK"),
        (container("paused", health("unhealthy")), "paused"),
        (None, "the container is gone"),
    ],
    ids=["dead", "crash loop", "unhealthy", "no healthcheck", "paused", "gone"],
)
def test_fails_at_once(seen: Container | None, reason: str) -> None:
    """What further waiting cannot mend is told without waiting, with the last log lines."""
    lines = ["2025-09-04T01:10:00.7Z Traceback", "2025-09-04T01:10:00.8Z KeyError: 'DATABASE_URL'"]
    engine = Engine(STARTING, seen, log=lines)
    verdict = wait_healthy(ID, None, engine.asked())
    assert (verdict.outcome, reason in verdict.reason, len(engine.naps)) == (NO, True, 1), verdict
    assert verdict.evidence["log"] == ["Traceback", "KeyError: 'DATABASE_URL'"]


@pytest.mark.parametrize(("own", "longest"), [(None, 9), (2.0, 2)], ids=["its healthcheck's", "given"])
def test_waiting_is_bounded(own: float | None, longest: float) -> None:
    """Who never becomes healthy is given up at the budget, and the last failed probe is told."""
    engine = Engine(container(health=health("starting", probe(2, 22, "503"))))
    verdict = wait_healthy(ID, own, engine.asked())
    assert (verdict.outcome, f"not healthy in {longest} s" in verdict.reason) == (NO, True)
    assert "its HEALTHCHECK said '503'" in verdict.reason
    assert longest <= engine.now < longest + 1


def test_an_engine_that_is_silent_for_a_moment_is_asked_again() -> None:
    """One unanswered look does not end the wait."""
    engine = Engine(EngineSilent("busy"), STARTING, EngineSilent("busy"), HEALTHY)
    assert wait_healthy(ID, None, engine.asked()).outcome is YES


def test_a_mute_engine_is_unknown() -> None:
    """An engine that says nothing for the whole budget leaves the question unanswered."""
    engine = Engine(EngineSilent("the Docker engine does not answer"))
    verdict = wait_healthy(ID, 3.0, engine.asked())
    assert (verdict.outcome, verdict.reason) == (UNKNOWN, "the Docker engine does not answer")


def test_the_gate_waits_for_one_that_starts() -> None:
    """The question of the gate has the same patience, and answers with the age."""
    verdict = probes.health(ID, None, Engine(STARTING, HEALTHY).asked(now=lambda: at(61)))
    assert (verdict.outcome, verdict.reason) == (YES, "healthy, running for 61 s, last asked 60 s ago")


def test_numbers_come_from_the_container() -> None:
    """`CHECK` has no start period and no retries: the engine's defaults fill in."""
    assert budget(CHECK).seconds == 9
