"""The reason for a release that did not start."""

from __future__ import annotations

import pytest

from cutover.core.text import log_line_message
from cutover.core.verdict import Outcome
from cutover.gate.container_checks import describe_exit, judge_not_started
from cutover.system.container import Container
from tests.helpers.containers import FAILED, STARTING, UNHEALTHY, container

EXITED = {"Status": "exited", "ExitCode": 3, "FinishedAt": "2026-01-01T00:00:10.9Z"}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "no container is there; docker said: no such image"),
        (container(**EXITED), "exited (3) 0.4 s after its start; docker said: no such image"),
        (
            container(Status="restarting", ExitCode=3, restart_count=4),
            "crash loop: restarted 4 times in 19 s, last exit code 3",
        ),
        (container(Health=STARTING, restart_count=1), "crash loop: restarted once in 19 s"),
        (
            container(Health=UNHEALTHY),
            "not after 19 s of at most 29 s: unhealthy: its HEALTHCHECK said '503 db: connection refused', 1 of the last 1 times failed",
        ),
        (
            container(Health=STARTING | {"Log": [FAILED]}),
            "not after 19 s: running, starting; docker said: no such image",
        ),
    ],
)
def test_says_what_became_of_it(found: Container | None, reason: str) -> None:
    """The verdict is a no, and the state of the container is its reason."""
    verdict = judge_not_started(found, "no such image", 19.2, 29)
    assert (verdict.outcome, verdict.reason) == (Outcome.NO, reason)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "no container is there; a task on web-2 failed: bind"),
        (container(), "not after 19 s: a task on web-2 failed: bind"),
        (container(Status="created"), "not after 19 s: a task on web-2 failed: bind"),
        (container(**EXITED), "exited (3) 0.4 s after its start; a task on web-2 failed: bind"),
    ],
)
def test_says_what_a_swarm_says_of_its_tasks(found: Container | None, reason: str) -> None:
    """The container of this node may be well, or one of many attempts."""
    verdict = judge_not_started(found, "", 19.2, 29, "a task on web-2 failed: bind")
    assert (verdict.outcome, verdict.reason) == (Outcome.NO, reason)


def test_says_what_docker_said_of_the_update_of_a_task_that_is_not_healthy() -> None:
    """Its task may still run when the update is paused for it."""
    found = container(Health=UNHEALTHY)
    reason = judge_not_started(found, "service update paused: task 5s", 19.2, 29, "").reason
    assert reason.startswith("not after 19 s of at most 29 s: unhealthy: its HEALTHCHECK said ")
    assert reason.endswith("; docker said: service update paused: task 5s")


@pytest.mark.parametrize(
    ("exit_code", "health"),
    [
        (0, ": its HEALTHCHECK said '503 db: connection refused', 1 of the last 1 times failed"),
        (137, ": its HEALTHCHECK said '503 db: connection refused', 1 of the last 1 times failed"),
        (3, ""),
    ],
)
def test_says_why_a_swarm_ended_it_and_what_docker_said_of_the_update(exit_code: int, health: str) -> None:
    """A task that is not healthy is told to end; what ended by itself has its own exit code for a reason."""
    found = container(**(EXITED | {"ExitCode": exit_code}), Health=UNHEALTHY)
    tasks = "a task on web-1 ended with exit code 0"
    reason = judge_not_started(found, "service update paused: task 5s", 19.2, 29, tasks).reason
    assert reason.startswith(describe_exit(found) + health + ";")
    assert reason.endswith(f"; docker said: service update paused: task 5s; {tasks}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("KeyError: 'DATABASE_URL'", "KeyError: 'DATABASE_URL'"),
        ('{"time": "…", "level": "ERROR", "msg": "no database"}', "ERROR no database"),
        ('{"message": "no database"}', "no database"),
        (
            '{"ts": 1, "level": "WARN", "msg": "request", "path": "/readyz", "status": 503}',
            "WARN request path=/readyz status=503",
        ),
        ('{"level": "ERROR"}', '{"level": "ERROR"}'),
        ("[1, 2]", "[1, 2]"),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_tells_a_log_line(line: str, said: str) -> None:
    """Of a JSON log line, level, message and other fields are shown."""
    assert log_line_message(line) == said
