"""Restarts and flaps of the live colour end a watch; the old one only says whether the way back is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cutover.core.errors import EngineSilent
from cutover.core.verdict import Outcome
from cutover.gate.container_checks import life_of
from cutover.probes.background import at_once
from cutover.probes.flaps import (
    Together,
    Watchman,
    beside,
    judge_flaps,
    judge_restarts,
    judge_way_back,
    questions,
)
from cutover.system.container import Container
from tests.probes.containers import STARTING, UNHEALTHY, container

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
FIRST = life_of(container())
LATER = "2026-01-01T00:05:00Z"


@pytest.mark.parametrize(
    ("now", "outcome", "reason"),
    [
        (container(), YES, "none, running since 2026-01-01T00:00:10"),
        (None, NO, "its container is gone"),
        (container(id="b" * 64), NO, "container aaaaaaaaaaaa was replaced by bbbbbbbbbbbb"),
        (container(restart_count=2), NO, "started anew 2 times since the watch began, last exit code 0"),
        (container(StartedAt=LATER), NO, "started anew 1 time since the watch began"),
        (container(restart_count=1, OOMKilled=True), NO, "since the watch began, out of memory"),
        (container(Status="exited", ExitCode=3), NO, "exited (3)"),
        (container(Status="exited", ExitCode=137, OOMKilled=True), NO, "killed for its memory limit"),
        (container(Status="restarting", restart_count=4, ExitCode=1), NO, "crash loop: restarted 4 times"),
        (container(Status="paused"), NO, "paused"),
    ],
)
def test_restarts(now: Container | None, outcome: Outcome, reason: str) -> None:
    """Anything but the same life, running, is a no."""
    verdict = judge_restarts(FIRST, now)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


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
    """One unhealthy is enough: the health check's own retries were the patience."""
    verdict = judge_flaps(now, unhealthy)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("now", "outcome", "reason"),
    [
        (container(), YES, "blue is warm: running, health healthy"),
        (None, NOT_ASKED, "reported: blue is gone; taking back would first have to start it"),
        (container(Status="exited", ExitCode=1), NOT_ASKED, "reported: blue: exited (1)"),
        (container(Health=UNHEALTHY), NOT_ASKED, "reported: blue: unhealthy"),
        (container(StartedAt=LATER), NOT_ASKED, "reported: blue was started anew"),
    ],
)
def test_the_way_back_is_never_a_no(now: Container | None, outcome: Outcome, reason: str) -> None:
    """A dead old colour is told, and moves no traffic."""
    verdict = judge_way_back(FIRST, now, "blue")
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def finder(*answers: Container | Exception | None) -> Callable[[], Container | None]:
    """An engine that gives one answer after the other."""
    rest = list(answers)

    def find() -> Container | None:
        answer: Any = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return find


def test_one_look_serves_both_questions() -> None:
    """A flap between two looks is remembered after it has healed."""
    live = Watchman(finder(container(), container(Health=UNHEALTHY), container()), at_once)
    restarts, health = questions(live, None, "")
    outcomes = []
    for _ in range(3):
        for question in (restarts, health):
            question.tick(0.0)
        outcomes.append((restarts.verdict().outcome, health.verdict().outcome))
    assert outcomes == [(YES, YES), (YES, NO), (YES, NO)]
    health.forgive()
    assert health.verdict().outcome is YES


def test_a_silent_engine_is_unknown_and_the_way_back_only_reports_it() -> None:
    """Whether anything restarted cannot be said without the engine; one more answer and it is known again."""
    silent = EngineSilent("the Docker engine does not answer: timed out")
    live, old = (Watchman(finder(silent, container()), at_once) for _ in range(2))
    restarts, health, back = questions(live, old, "blue")
    assert restarts.verdict().outcome is NOT_ASKED
    for question in (restarts, health, back):
        question.tick(0.0)
    assert [each.verdict().outcome for each in (restarts, health, back)] == [UNKNOWN, UNKNOWN, NOT_ASKED]
    assert back.verdict().reason.startswith("reported: ")
    restarts.tick(1.0)
    assert restarts.verdict().outcome is YES
    assert (restarts.asked, health.asked) == (2, 2)


@pytest.mark.parametrize(
    ("question", "worker", "outcome", "reason"),
    [
        ("restarts", [container(), container()], YES, "none, running"),
        ("restarts", [container(), container(restart_count=1)], NO, "worker: started anew 1 time"),
        ("restarts", [container(), None], NO, "worker: its container is gone"),
        ("restarts", [None, None], YES, "none, running"),
        ("restarts", [container(), EngineSilent("mute")], UNKNOWN, "mute"),
        ("health", [container(), container(Health=UNHEALTHY)], NO, "worker: unhealthy"),
        ("oom", [container(), container(OOMKilled=True)], NO, "worker: out of memory"),
    ],
)
def test_another_service_of_the_colour_counts_too(
    question: str, worker: list[Container | EngineSilent | None], outcome: Outcome, reason: str
) -> None:
    """What is upped together is watched together; what was never there is not asked."""

    def find(answers: list[Any]) -> Callable[[], Container | None]:
        def ask() -> Container | None:
            answer = answers.pop(0)
            if isinstance(answer, EngineSilent):
                raise answer
            return answer  # type: ignore[no-any-return]

        return ask

    live = Watchman(find([container(), container()]), start=at_once)
    man = Watchman(find([*worker]), start=at_once)
    first = next(each for each in questions(live, None, "") if each.name in {question, "restarts"})
    first.name = question
    looks, asked = beside("restarts", "worker", man), beside(question, "worker", man)
    together = Together(first, [looks, asked] if question != "restarts" else [looks])
    for now in range(2):
        together.tick(float(now))
    assert together.verdict().outcome is outcome, together.verdict()
    assert reason in together.verdict().reason
