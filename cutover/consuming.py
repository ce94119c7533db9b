"""Moves the consumers (`after_switch`) with the traffic: an idle one would take real jobs, two the same ones."""

from __future__ import annotations

from pathlib import Path

from cutover import scene
from cutover.changes import line
from cutover.changes.up import Previous, stop, up
from cutover.core.errors import EngineUnavailable, Failed, Inconclusive
from cutover.proxy.base import other
from cutover.system import docker
from cutover.system.compose import Compose
from cutover.system.container import GRACE_S, Container
from cutover.walk import Walk

BUDGET_S = 60.0


def move(walk: Walk, to: str) -> None:
    """Stop the consumers of the color that had the traffic, then start those of *to*; raises Failed, Inconclusive.

    Both are changes of the open release: a revert starts again what ran, and stops what did not.
    """
    services = walk.settings.workers
    if not services:
        return
    file = _release(walk, to)
    if file is None:
        raise Inconclusive(f"{', '.join(services)}: {to} has no recorded release to start them from")
    with walk.telling("T-0", f"start {', '.join(services)}") as words:
        old = other(to)
        stopped = _stop(walk, old) if old in walk.settings.colors else []
        _start(walk, to, file)
        words.append(f"started on {to}{f', stopped on {old}' if stopped else ''}")


def go_back(walk: Walk, to: str) -> tuple[str, ...]:
    """The undo lines that do the same, where both colors have a recorded release."""
    services, project = walk.settings.workers, walk.settings.compose_project
    theirs, ours = _release(walk, other(to)), _release(walk, to)
    if not services or theirs is None or ours is None:
        return ()
    stopping = Compose(project(other(to)), theirs).stop(*services)
    starting = Compose(project(to), ours).up(*services, wait_s=BUDGET_S)
    grace_s = _grace({name: each for name, each in _ask(walk, other(to)).items() if each is not None})
    return line(*stopping, within_s=grace_s + BUDGET_S), line(*starting, within_s=2 * BUDGET_S)


def _stop(walk: Walk, color: str) -> list[str]:
    """Stop the consumers that run on *color*; which they were."""
    there = _there(walk, color)
    ran = {service: each for service, each in there.items() if each is not None and each.in_use}
    if not ran:
        return []
    file = walk.old.file if walk.old else _release(walk, color)
    if file is None:
        raise Inconclusive(f"{', '.join(ran)}: {color} has no recorded release to start them from again")
    # The release's own name, and not the container's: it will still be there, with the stop of a killed client pending.
    previous = _previous(file, ran, walk.release_id or "")
    project = Compose(walk.settings.compose_project(color), file)
    done = walk.apply(stop(walk.state.root, project, tuple(ran), color, previous, _grace(ran)))
    left = [service for service, each in _ask(walk, color).items() if each and each.running]
    if not done.ok or left:
        raise Failed(f"{', '.join(left or ran)} did not stop on {color}: {done.last_line}")
    return [*ran]


def _start(walk: Walk, color: str, file: Path) -> None:
    services = walk.settings.workers
    there = _there(walk, color)
    ran = {service: each for service, each in there.items() if each is not None and each.in_use}
    planned = walk.planned.previous if walk.planned else None
    before = planned.file if planned else file
    project = Compose(walk.settings.compose_project(color), file)
    done = walk.apply(
        up(
            walk.state.root, project, services, text=f"{', '.join(services)} on {color}", wait_s=BUDGET_S,
            previous=_previous(before, ran) if ran else None, grace_s=_grace(ran),
        )
    )  # fmt: skip
    dead = [service for service, each in _ask(walk, color).items() if each is None or not each.running]
    if not done.ok or dead:
        raise Failed(f"{', '.join(dead or services)} did not start on {color}: {done.last_line}")


def _release(walk: Walk, color: str) -> Path | None:
    """The release file of *color*: what this session deploys there, else the last that was recorded."""
    pending = walk.pending if walk.pending and walk.pending.color == color else None
    record = pending or next(iter(reversed(walk.state.records(color))), None)
    return scene.release_path(walk.settings, color, record.file) if record else None


def _previous(file: Path, ran: dict[str, Container], named: str = "") -> Previous:
    well = all(each.well for each in ran.values())
    images = {each.image_name: each.image for each in ran.values() if scene.tag_of(each.image_name)}
    ids = {service: named or each.id for service, each in ran.items()}
    return Previous(file, ids, images, BUDGET_S if well else 0.0)


def _grace(ran: dict[str, Container]) -> float:
    return max((each.grace_s for each in ran.values()), default=GRACE_S)


def _there(walk: Walk, color: str) -> dict[str, Container | None]:
    """Each consumer's container before it is touched, which the revert is compared with."""
    found = _ask(walk, color)
    walk.there_before.setdefault(color, {}).update(found)
    return found


def _ask(walk: Walk, color: str) -> dict[str, Container | None]:
    try:
        return docker.by_service(walk.settings.compose_project(color), walk.settings.workers)
    except EngineUnavailable as error:
        raise Inconclusive(str(error)) from error
