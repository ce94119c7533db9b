"""Whether a service of a Swarm runs what it should, and what became of a task whose node went down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutover.core.errors import EngineUnavailable
from cutover.core.text import seconds_of
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.system.docker import SwarmNode, SwarmService, SwarmTask

ROLLED_BACK = frozenset({"rollback_started", "rollback_paused", "rollback_completed"})
QUESTION = "tasks"
ENDED = {"failed": "failed", "rejected": "was rejected", "complete": "ended with exit code 0"}
"""State of a task that has ended by itself, or because it was not healthy -> what is said of it."""
TO_RUN = frozenset({"running", "ready"})


@dataclass(frozen=True, slots=True)
class ExpectedTasks:
    """What a service should be after a deploy."""

    image: str
    """The name of the image, as in the release file."""
    config_hash: str
    """What the release file labels its containers with."""
    update_before: str
    """When the last update before the deploy began: a later report is of this deploy. Empty for none."""


def judge_tasks(found: SwarmService | None, expected: ExpectedTasks) -> Verdict:
    """Yes if every task that should run does so with the expected image; an update that the engine took back is a no.

    The exit code of `docker stack deploy` does not tell: it is 0 after a rollback.
    """
    wanted = f"all tasks run {expected.image}"
    if found is None:
        return no(QUESTION, "the service is not there", expected=wanted)
    ours = found.update_began != expected.update_before
    if ours and found.update in ROLLED_BACK:
        return no(QUESTION, f"the engine rolled the update back: {found.update_said}", expected=wanted)
    if ours and found.update == "paused":
        return no(QUESTION, f"the engine paused the update: {found.update_said}", expected=wanted)
    if found.image != expected.image:
        return no(QUESTION, f"the service has {found.image}, expected {expected.image}", expected=wanted)
    if ours and found.update == "updating":
        return unknown(QUESTION, "the engine has not ended the update yet", expected=wanted)
    running = [each for each in found.tasks if each.state == "running"]
    if other := next((each for each in running if each.image != expected.image), None):
        reason = f"a task on {other.node} runs {other.image}, expected {expected.image}"
        return no(QUESTION, reason, expected=wanted)
    if other := next((each for each in running if each.config_hash != expected.config_hash), None):
        hashes = f"config hash {other.config_hash[:12] or 'none'}, expected {expected.config_hash[:12]}"
        return no(QUESTION, f"a task on {other.node} has {hashes}", expected=wanted)
    said = f"{len(running)} of {found.desired} tasks run"
    if len(running) < found.desired or not running:
        waiting = next((each for each in found.tasks if each.state != "running"), None)
        why = f": one on {waiting.node or 'no node'} is {waiting.state}{waiting.why}" if waiting else ""
        return no(QUESTION, f"{said}{why}", expected=wanted)
    nodes = sorted({each.node for each in running})
    return yes(QUESTION, f"{said}, on {', '.join(nodes)}", expected=wanted)


def why_not_running(tasks: Sequence[SwarmTask]) -> str:
    """What the engine says of the tasks of a service that do not run; empty if all do.

    *tasks* are all that the Swarm remembers. It starts one again that has ended, and only the ended one says why.
    """
    places: dict[int | str, list[SwarmTask]] = {}
    for each in sorted(tasks, key=lambda task: seconds_of(task.created)):
        places.setdefault(each.slot or each.node, []).append(each)
    found = [said for each in places.values() if (said := _why_not_running(each))]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


def _why_not_running(tasks: Sequence[SwarmTask]) -> str:
    """The same of the *tasks* of one slot or of one node, the oldest first."""
    latest = tasks[-1]
    scaled_down = latest.desired not in TO_RUN and latest.state not in {"failed", "rejected"}
    if latest.state == "running" or scaled_down:
        return ""
    deployed = (latest.image, latest.config_hash)
    ended = [each for each in tasks if each.state in ENDED and (each.image, each.config_hash) == deployed]
    if not ended:
        return f"a task on {latest.node or 'no node'} is {latest.state}{latest.why}"
    times = f" {len(ended)} times" if len(ended) > 1 else ""
    return f"a task on {ended[-1].node or 'no node'} {ENDED[ended[-1].state]}{times}{ended[-1].why}"


def why_ended(container_id: str, slot: int, tasks: Sequence[SwarmTask]) -> str:
    """How the task with that container ended by itself: `on web-1 failed: task: non-zero exit (137)`; else empty.

    *slot* is where it was: the Swarm forgets a task after a few later ones there, and the last of them is told.
    """
    ours = [each for each in tasks if each.container == container_id]
    ended = [each for each in ours or tasks if each.state in ENDED and (ours or each.slot == slot)]
    last = max(ended, key=lambda task: seconds_of(task.created), default=None)
    return f"on {last.node or 'no node'} {ENDED[last.state]}{last.why}" if last else ""


@dataclass(frozen=True, slots=True)
class MovedTask:
    """What became of a task whose node does not run tasks any more."""

    why: str
    """What happened to the node: `web-2 is down`."""
    to: SwarmTask | None
    """The task in its place; None if the Swarm starts none."""


def moved_task(container_id: str, tasks: Sequence[SwarmTask], nodes: Sequence[SwarmNode]) -> MovedTask | None:
    """What became of the task with that container, among all *tasks* of its service.

    None if nothing happened to its node: then it ended by itself. Raises EngineUnavailable if that is not certain.
    """
    task = next((each for each in tasks if each.container == container_id), None)
    why = _lost(task.node, nodes) if task else ""
    if task is None or not why:
        return None
    if not task.slot:  # mode: global
        return MovedTask(why, None)
    begun = seconds_of(task.created)
    later = [each for each in tasks if each.slot == task.slot and seconds_of(each.created) > begun]
    if bad := next((each for each in later if each.state in ENDED), None):
        ended = f"{ENDED[bad.state]} on {bad.node or 'no node'}{bad.why}"
        raise EngineUnavailable(f"{why}, and the task in its place {ended}")
    return MovedTask(why, next((each for each in later if each.desired in TO_RUN), None))


def _lost(name: str, nodes: Sequence[SwarmNode]) -> str:
    """Why the node *name* runs no tasks any more; empty if it should run them."""
    node = next((each for each in nodes if each.name == name), None)
    if node is None:
        return f"{name} left the Swarm"
    if node.state == "unknown":  # after the death of a leader
        raise EngineUnavailable(f"the Swarm does not know yet whether {name} is up")
    if node.state != "ready":
        return f"{name} is {node.state}"
    return f"{name} was drained" if node.availability == "drain" else ""
