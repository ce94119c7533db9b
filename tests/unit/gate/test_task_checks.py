"""What the tasks and the last update of a Swarm service say about a deploy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cutover.core.verdict import Outcome
from cutover.gate.task_checks import ExpectedTasks, judge_tasks
from cutover.system.docker import SwarmService, SwarmTask, read_service

OLD, NEW = "recall/api:sha-1", "recall/api:sha-2"
BEFORE, OURS = "2026-11-29T14:00:00Z", "2026-11-29T15:00:00Z"
TASKS = tuple(SwarmTask("running", NEW, "4f1c", f"web-{number}", "") for number in (1, 2, 3))
GOOD = SwarmService(NEW, 3, TASKS, "completed", OURS, "update completed")
EXPECTED = ExpectedTasks(NEW, "4f1c", BEFORE)


def ours(state: str, said: str = "task failed") -> SwarmService:
    """The service after an update of ours that is in this state."""
    return replace(GOOD, update=state, update_said=said)


def third(**changes: Any) -> SwarmService:
    """The service with another third task."""
    return replace(GOOD, tasks=(*TASKS[:2], replace(TASKS[2], **changes)))


@pytest.mark.parametrize(
    ("found", "outcome", "reason"),
    [
        (GOOD, Outcome.YES, "3 of 3 tasks run, on web-1, web-2, web-3"),
        (None, Outcome.NO, "the service is not there"),
        (ours("rollback_completed"), Outcome.NO, "the engine rolled the update back: task failed"),
        (ours("rollback_started"), Outcome.NO, "the engine rolled the update back: task failed"),
        (ours("paused"), Outcome.NO, "the engine paused the update: task failed"),
        (ours("updating"), Outcome.UNKNOWN, "the engine has not ended the update yet"),
        (replace(ours("rollback_completed"), update_began=BEFORE), Outcome.YES, "3 of 3 tasks run"),
        (replace(GOOD, image=OLD), Outcome.NO, f"the service has {OLD}, expected {NEW}"),
        (third(image=OLD), Outcome.NO, f"a task on web-3 runs {OLD}, expected {NEW}"),
        (third(config_hash="9a"), Outcome.NO, "a task on web-3 has config hash 9a, expected 4f1c"),
        (third(state="starting"), Outcome.NO, "2 of 3 tasks run: one on web-3 is starting"),
        (
            third(state="pending", node="", why=": no suitable node"),
            Outcome.NO,
            "2 of 3 tasks run: one on no node is pending: no suitable node",
        ),
        (replace(GOOD, tasks=TASKS[:2]), Outcome.NO, "2 of 3 tasks run"),
        (replace(GOOD, tasks=(), desired=0), Outcome.NO, "0 of 0 tasks run"),
    ],
)
def test_judges_all_tasks_that_should_run(found: SwarmService | None, outcome: Outcome, reason: str) -> None:
    """The image of every task counts, and an update only if it began after the deploy."""
    verdict = judge_tasks(found, EXPECTED)
    assert verdict.outcome is outcome
    assert reason in verdict.reason


def test_reads_the_answers_of_the_engine() -> None:
    """A first deploy has no update status; a task without a node is pending."""
    service = {
        "Spec": {"Name": "recall_blue_api", "TaskTemplate": {"ContainerSpec": {"Image": NEW}}},
        "ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 2},
    }
    spec = {"ContainerSpec": {"Image": NEW, "Labels": {"com.docker.compose.config-hash": "4f1c"}}}
    tasks = [
        {"Status": {"State": "running"}, "Spec": spec, "NodeID": "n1"},
        {"Status": {"State": "pending", "Err": "no suitable node"}, "Spec": spec},
    ]
    assert read_service(service, tasks, {"n1": "web-1"}) == SwarmService(
        NEW,
        2,
        (
            SwarmTask("running", NEW, "4f1c", "web-1", ""),
            SwarmTask("pending", NEW, "4f1c", "", ": no suitable node"),
        ),
        "",
        "",
        "",
    )
