"""Whether a service of a Swarm runs what it should, by all its tasks and by the update that the engine reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.system.docker import SwarmService

ROLLED_BACK = frozenset({"rollback_started", "rollback_paused", "rollback_completed"})
QUESTION = "tasks"


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
    return yes(QUESTION, f"{said}, on {_nodes([each.node for each in running])}", expected=wanted)


def _nodes(names: Sequence[str]) -> str:
    return ", ".join(sorted({*names}))
