"""What the tasks and the last update of a Swarm service say about a deploy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome
from cutover.gate.task_checks import ExpectedTasks, MovedTask, judge_tasks, moved_task, why_not_running
from cutover.system.docker import SwarmNode, SwarmService, SwarmTask, read_service

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
        {
            "Status": {"State": "running", "ContainerStatus": {"ContainerID": "c1"}},
            "Spec": spec,
            "NodeID": "n1",
            "Slot": 2,
            "DesiredState": "shutdown",
            "CreatedAt": OURS,
        },
        {"Status": {"State": "pending", "Err": "no suitable node"}, "Spec": spec},
    ]
    assert read_service(service, tasks, {"n1": "web-1"}) == SwarmService(
        NEW,
        2,
        (
            SwarmTask("running", NEW, "4f1c", "web-1", "", "shutdown", 2, "c1", OURS),
            SwarmTask("pending", NEW, "4f1c", "", ": no suitable node"),
        ),
        "",
        "",
        "",
    )


def at(second: int, slot: int, node: str, **more: Any) -> SwarmTask:
    """A task that was created in that second, with a container of that name."""
    task = SwarmTask("running", NEW, "4f1c", node, "", slot=slot, container=f"c{slot}{second}")
    return replace(task, created=f"2026-11-29T15:00:{second:02d}.5Z", **more)


def node(name: str, state: str = "ready", availability: str = "active") -> SwarmNode:
    """A node of the Swarm."""
    return SwarmNode(f"id of {name}", name, state, availability)


ORPHAN, MOVED = at(1, 2, "web-2", desired="shutdown"), at(9, 2, "web-3")
BESIDE = (at(1, 1, "web-1"), at(2, 3, "web-2", desired="shutdown"), at(3, 2, "web-3", desired="shutdown"))


@pytest.mark.parametrize(
    ("nodes", "later", "moved"),
    [
        ([node("web-2")], (MOVED,), None),
        ([node("web-2", "down")], (MOVED,), MovedTask("web-2 is down", MOVED)),
        ([node("web-2", "disconnected")], (), MovedTask("web-2 is disconnected", None)),
        ([node("web-2", availability="drain")], (MOVED,), MovedTask("web-2 was drained", MOVED)),
        ([node("web-2", availability="pause")], (MOVED,), None),
        ([node("web-1")], (MOVED,), MovedTask("web-2 left the Swarm", MOVED)),
    ],
    ids=["it ended by itself", "down", "away, not started yet", "drained", "paused", "removed"],
)
def test_a_task_is_moved_by_what_happens_to_its_node(
    nodes: list[SwarmNode], later: tuple[SwarmTask, ...], moved: MovedTask | None
) -> None:
    """The task in its place has the same slot and is newer; without trouble of the node it ended by itself."""
    assert moved_task(ORPHAN.container, [*BESIDE, ORPHAN, *later], nodes) == moved


def test_a_global_task_is_started_nowhere_else() -> None:
    """With `mode: global` each node has one task, and a node that is down none."""
    tasks = [replace(each, slot=0) for each in (ORPHAN, MOVED)]
    assert moved_task(ORPHAN.container, tasks, [node("web-2", "down")]) == MovedTask("web-2 is down", None)


def test_a_task_that_nobody_knows_was_not_moved() -> None:
    """Its service was removed."""
    assert moved_task("c0", [ORPHAN, MOVED], [node("web-2", "down")]) is None


@pytest.mark.parametrize(
    ("state", "last", "reason"),
    [
        ("unknown", MOVED, "does not know yet whether web-2 is up"),
        ("down", replace(MOVED, state="failed", why=": exit 1"), "web-2 is down, and the task in its place failed on web-3: exit 1"),
        ("down", replace(MOVED, state="rejected", node=""), "the task in its place was rejected on no node"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_unknown(state: str, last: SwarmTask, reason: str) -> None:
    """A new leader has not heard of all nodes yet; a task that fails on a healthy node may be the release's fault."""
    with pytest.raises(EngineUnavailable, match=reason):
        moved_task(ORPHAN.container, [ORPHAN, last], [node("web-2", state), node("web-3")])


REFUSED, AGAIN = ": starting container failed: bind: address already in use", {"state": "ready", "why": ""}
ENDED = {"state": "failed", "desired": "shutdown", "why": REFUSED}
BUSY = f"failed{REFUSED}"


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ([at(1, 1, "web-1"), at(1, 2, "web-2")], ""),
        ([at(1, 1, "web-1"), at(1, 2, "web-2", **ENDED), at(9, 2, "web-2", **AGAIN)], f"a task on web-2 {BUSY}"),
        ([at(9, 2, "web-2", **AGAIN), at(4, 2, "web-2", **ENDED), at(1, 2, "web-2", **ENDED)],
            f"a task on web-2 failed 2 times{REFUSED}"),
        ([at(1, 0, "web-2", **ENDED), at(5, 0, "web-2", **ENDED), at(5, 0, "web-1")],
            f"a task on web-2 failed 2 times{REFUSED}"),
        ([at(1, 2, "web-2", **ENDED), at(9, 2, "web-2")], ""),
        ([at(1, 2, "web-2", **ENDED, image=OLD), at(9, 2, "web-2", state="starting")], "a task on web-2 is starting"),
        ([at(1, 1, "", state="pending", why=": no suitable node")], "a task on no node is pending: no suitable node"),
        ([at(1, 2, "web-2", state="complete", desired="shutdown"), at(9, 2, "", state="pending")],
            "a task on web-2 ended with exit code 0"),
        ([at(1, 1, "web-1", state="complete", desired="shutdown")], ""),
        ([at(1, 1, "web-1", **ENDED), at(1, 2, "web-2", **ENDED)], f"a task on web-1 {BUSY} (and 1 more)"),
        ([], ""),
    ],
    ids=["all run", "started again", "in any order", "on each node", "runs now", "another release's end", "pending",
        "not healthy", "scaled down", "two", "none"],
)  # fmt: skip
def test_says_why_tasks_do_not_run(tasks: list[SwarmTask], why: str) -> None:
    """The last end of the same release in the same slot is the reason; a task that waits to be started has none."""
    assert why_not_running(tasks) == why
