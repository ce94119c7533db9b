"""Restarts and health of the live color can end a watch; the state of the old color is only reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome
from cutover.gate.container_checks import life_of
from cutover.system.container import Container
from cutover.watch.check import at_once
from cutover.watch.containers import (
    ContainerSource,
    container_checks,
    judge_flaps,
    judge_old_color,
    judge_restarted,
    old_color_check,
    shared_health_trouble,
    sibling_check,
)
from tests.helpers.containers import STARTING, UNHEALTHY, container

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
FIRST = life_of(container())
LATER = "2026-01-01T00:05:00Z"


@pytest.mark.parametrize(
    ("now", "outcome", "reason"),
    [
        (container(), YES, "none, running since 2026-01-01T00:00:10"),
        (None, NO, "its container is gone"),
        (container(id="b" * 64), NO, "container aaaaaaaaaaaa was replaced by bbbbbbbbbbbb"),
        (container(restart_count=2), NO, "started anew 2 times since the watch began: it ended by itself"),
        (
            container(StartedAt=LATER),
            NO,
            "started anew 1 time since the watch began: somebody restarted it, or the engine",
        ),
        (
            container(restart_count=1, OOMKilled=True),
            NO,
            "started anew 1 time since the watch began: out of memory",
        ),
        (container(Status="exited", ExitCode=3), NO, "exited (3)"),
        (container(Status="exited", ExitCode=137, OOMKilled=True), NO, "killed for its memory limit"),
        (container(Status="restarting", restart_count=4, ExitCode=1), NO, "crash loop: restarted 4 times"),
        (container(Status="paused"), NO, "paused"),
    ],
)
def test_restarts(now: Container | None, outcome: Outcome, reason: str) -> None:
    """No unless the container of the first look still runs and was not restarted."""
    verdict = judge_restarted(FIRST, now)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason
    assert "exit code 0" not in verdict.reason


@pytest.mark.parametrize(
    ("now", "unhealthy", "outcome", "reason"),
    [
        (container(), 0, YES, "healthy"),
        (container(), 1, NO, "turned unhealthy 1 time since the watch began, healthy now"),
        (container(Health=UNHEALTHY), 1, NO, "503 db: connection refused"),
        (container(Health=STARTING), 0, NOT_ASKED, "starting, no probe has answered since its start"),
        (None, 0, NO, "gone"),
        (container(Status="exited"), 0, NO, "exited (0)"),
    ],
)
def test_health(now: Container | None, unhealthy: int, outcome: Outcome, reason: str) -> None:
    """One unhealthy status is a no: the HEALTHCHECK has its own retries."""
    verdict = judge_flaps(now, unhealthy)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("now", "outcome", "reason"),
    [
        (container(), YES, "blue is warm: running, health healthy"),
        (None, NOT_ASKED, "reported: blue is gone; reverting would first have to start it"),
        (container(Status="exited", ExitCode=1), NOT_ASKED, "reported: blue: exited (1)"),
        (container(Health=UNHEALTHY), NOT_ASKED, "reported: blue: unhealthy"),
        (container(StartedAt=LATER), NOT_ASKED, "reported: blue was started anew"),
    ],
)
def test_the_way_back_is_never_a_no(now: Container | None, outcome: Outcome, reason: str) -> None:
    """A stopped or unhealthy old color is only reported."""
    verdict = judge_old_color(FIRST, now, "blue")
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def finder(*answers: Container | Exception | None) -> Callable[[], Container | None]:
    """A function that returns *answers* one after the other, and the last one from then on."""
    rest = list(answers)

    def find() -> Container | None:
        answer: Any = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return find


def test_one_look_serves_both_checks() -> None:
    """A container that was unhealthy once is a no also after it is healthy again, until a reset."""
    find = finder(container(), container(Health=UNHEALTHY), container())
    restarts, health = container_checks(ContainerSource(find, start=at_once))
    outcomes = []
    for now in range(3):
        for check in (restarts, health):
            check.poll(float(now))
        outcomes.append((restarts.verdict().outcome, health.verdict().outcome))
    assert outcomes == [(YES, YES), (YES, NO), (YES, NO)]
    health.reset()
    assert health.verdict().outcome is YES


def test_a_silent_engine_is_unknown_and_the_way_back_only_reports_it() -> None:
    """Restarts and health are unknown while the engine is silent, and are judged again at its next answer."""
    silent = EngineUnavailable("the Docker engine does not answer: timed out")
    live, old = (ContainerSource(finder(silent, container()), start=at_once) for _ in range(2))
    restarts, health = container_checks(live)
    back = old_color_check(old, "blue")
    assert restarts.verdict().outcome is NOT_ASKED
    for check in (restarts, health, back):
        check.poll(0.0)
    assert [each.verdict().outcome for each in (restarts, health, back)] == [UNKNOWN, UNKNOWN, NOT_ASKED]
    assert back.verdict().reason.startswith("reported: ")
    restarts.poll(1.0)
    assert restarts.verdict().outcome is YES
    assert (restarts.source.polls, health.source.polls) == (2, 2)


@pytest.mark.parametrize(
    ("name", "worker", "outcome", "reason"),
    [
        ("restarts", [container(), container()], YES, "none, running"),
        ("restarts", [container(), container(restart_count=1)], NO, "worker: started anew 1 time"),
        ("restarts", [container(), None], NO, "worker: its container is gone"),
        ("restarts", [None, None], YES, "none, running"),
        ("restarts", [container(), EngineUnavailable("mute")], UNKNOWN, "mute"),
        ("health", [container(), container(Health=UNHEALTHY)], NO, "worker: unhealthy"),
        ("oom", [container(), container(OOMKilled=True)], NO, "worker: out of memory: running"),
    ],
)
def test_another_service_of_the_color_counts_too(
    name: str, worker: list[Container | EngineUnavailable | None], outcome: Outcome, reason: str
) -> None:
    """A no or unknown of another service is the verdict; a service that never had a container is not asked."""

    def find(answers: list[Any]) -> Callable[[], Container | None]:
        def ask() -> Container | None:
            answer = answers.pop(0)
            if isinstance(answer, EngineUnavailable):
                raise answer
            return answer  # type: ignore[no-any-return]

        return ask

    live = ContainerSource(find([container(), container()]), start=at_once)
    source = ContainerSource(find([*worker]), start=at_once)
    first = next(each for each in container_checks(live) if each.name in {name, "restarts"})
    check = replace(first, siblings=(sibling_check(name, "worker", source),))
    for now in range(2):
        check.poll(float(now))
    assert check.verdict().outcome is outcome, check.verdict()
    assert reason in check.verdict().reason


def probed(*probes: tuple[int, int]) -> Container:
    """A container whose HEALTHCHECK began at these seconds after ten past twelve, with these exit codes."""
    log = [{"Start": f"2026-01-01T00:10:{at:02}Z", "ExitCode": code} for at, code in probes]
    return replace(container(), health={"Status": "unhealthy", "Log": log})


@pytest.mark.parametrize(
    ("live", "old", "said"),
    [
        (
            probed((30, -1), (35, -1)),
            probed((32, -1)),
            "the old color's HEALTHCHECK timed out in the same seconds",
        ),
        (
            probed((30, 7)),
            probed((1, 7)),
            "the old color's HEALTHCHECK failed with exit code 7 in the same seconds",
        ),
        (probed((50, -1)), probed((1, -1)), ""),
        (probed((30, -1)), probed((32, 1)), ""),
        (probed((30, -1)), probed((32, 0)), ""),
        (probed((30, 0)), probed((32, -1)), ""),
        (container(), probed((32, -1)), ""),
        (probed((30, -1)), None, ""),
        (None, probed((32, -1)), ""),
    ],
)
def test_a_healthcheck_that_fails_for_both(live: Container | None, old: Container | None, said: str) -> None:
    """It is excused by the same failure of the old color in the same seconds: a timeout only by a timeout."""
    assert shared_health_trouble(live, old) == said
