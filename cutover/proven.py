"""The proven releases: what is recorded as one, and what a revert proves again."""

from __future__ import annotations

from dataclasses import replace

from cutover import preflight, scene
from cutover.core.errors import CutoverError, EngineUnavailable
from cutover.core.text import seconds_of
from cutover.state import Record, now
from cutover.system import docker
from cutover.walk import Walk


def record_what_runs(walk: Walk) -> None:
    """A whole gate passed on what somebody else deployed: it is proven, so that it can be put back one day.

    Not while anybody releases: theirs is proven by the end of their session, not by ours.
    """
    try:
        walk.lock()
        if walk.state.open_release() is None:
            record(walk, walk.target.color or "", float(walk.evidence.facts["began"]))
    except (CutoverError, EngineUnavailable, OSError):
        return  # it can be proven by the next gate
    finally:
        walk.unlock()


def record(walk: Walk, color: str, began: float) -> None:
    """Write down what runs on *color*, if it ran before the gate *began*: else something else was asked."""
    previous, known = preflight.previous_of(walk.state, walk.scene, color)
    found = docker.the_container(walk.target.project or "", walk.settings.service)
    if previous is None or found is None or seconds_of(found.started_at) >= began:
        return
    if known is not None and known.proven and known.is_running(found.id, found.image, found.config_hash):
        return
    tag, what = scene.tag_of(found.image_name) or "", (found.image, found.config_hash, found.id)
    walk.state.keep_record(
        Record(color, tag, *what, previous.file.name, proven=True, by=preflight.who(), at=now())
    )


def prove_again(walk: Walk) -> None:
    """The gate has just passed on what was put back under traffic: its record gets the new container's id."""
    color = walk.before or ""
    found = docker.the_container(walk.settings.compose_project(color), walk.settings.service)
    for row in reversed(walk.state.records(color)):
        if found and row.proven and (row.image, row.config_hash) == (found.image, found.config_hash):
            if row.container != found.id:
                walk.state.keep_record(replace(row, container=found.id, at=now()))
            return


def was_proven(walk: Walk) -> bool:
    """Whether what ran before had passed a whole gate: one that never did may fail it now as it did before."""
    return any(row.proven and row.tag == walk.from_tag for row in walk.state.records(walk.before or ""))
