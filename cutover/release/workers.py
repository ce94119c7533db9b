"""Move the workers with the traffic: workers on the idle color would take real jobs, on both colors each job twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cutover.core.change import line
from cutover.core.config import Settings
from cutover.core.errors import Failed, Inconclusive
from cutover.proxy.base import other
from cutover.release.changes import PreviousRelease, stop_change, up_change
from cutover.release.colors import in_use, replicas_of
from cutover.release.state import State
from cutover.release.transaction import Reporter, Transaction
from cutover.system import docker
from cutover.system.container import GRACE_S, Container
from cutover.system.platform import project_of

WORKER_BUDGET_S = 60.0


@dataclass(frozen=True, slots=True)
class WorkerFiles:
    """The release files from which workers are started, None where the color has no recorded release."""

    new: Path | None
    """Of the color that gets the traffic."""
    old: Path | None
    """Of the color that had it: to start its workers again."""
    previous: Path | None = None
    """What ran on the new color before this session deployed to it; else `new`."""


def move_workers(tx: Transaction, settings: Settings, to: str, files: WorkerFiles, report: Reporter) -> None:
    """Stop the workers of the other color, then start those of *to*; raises Failed or Inconclusive.

    Both are changes of the open release: a revert starts what ran and stops what did not.
    """
    services, old = settings.workers, other(to)
    if not services:
        return
    if files.new is None:
        raise Inconclusive(f"{', '.join(services)}: {to} has no recorded release to start them from")
    with report.step("T-0", f"start {', '.join(services)}") as text:
        stopped = old in settings.colors and _stop(tx, settings, old, files.old)
        _start(tx, settings, to, files.new, files.previous or files.new)
        text.append(f"started on {to}{f', stopped on {old}' if stopped else ''}")


def move_back_lines(state: State, settings: Settings, to: str) -> tuple[str, ...]:
    """Undo lines that move the workers to *to*; none if one of the colors has no recorded release."""
    services = settings.workers
    theirs, ours = last_file(state, other(to)), last_file(state, to)
    if not services or theirs is None or ours is None:
        return ()
    stopping = project_of(settings, other(to), theirs).stop(*services)
    starting = project_of(settings, to, ours).up(*services, wait_s=WORKER_BUDGET_S)
    grace_s = _grace(in_use(docker.by_service(settings.compose_project(other(to)), services)))
    stop = line(*stopping, within_s=grace_s + WORKER_BUDGET_S)
    return stop, line(*starting, within_s=2 * WORKER_BUDGET_S)


def last_file(state: State, color: str) -> Path | None:
    """The release file of the last recorded release of *color*."""
    records = state.records(color)
    return state.release_path(color, records[-1].file) if records else None


def _stop(tx: Transaction, settings: Settings, color: str, file: Path | None) -> bool:
    """Stop the workers that run on *color*; whether any ran."""
    ran = _note_running(tx, settings, color)
    if not ran:
        return False
    if file is None:
        raise Inconclusive(f"{', '.join(ran)}: {color} has no recorded release to start them from again")
    # Named by the release and not by the containers: those remain, and the stop of a killed client may be pending.
    previous = PreviousRelease.of(file, ran, WORKER_BUDGET_S, tx.id, replicas=tx.replicas[color])
    project = project_of(settings, color, file)
    done = tx.apply(stop_change(tx.state.root, project, color, previous, _grace(ran)))
    there = docker.by_service(project.project, settings.workers)
    left = [service for service, each in there.items() if each and each.running]
    if not done.ok or left:
        raise Failed(f"{', '.join(left or ran)} did not stop on {color}: {done.last_line}")
    return True


def _start(tx: Transaction, settings: Settings, color: str, file: Path, before: Path) -> None:
    services = settings.workers
    ran = _note_running(tx, settings, color)
    project = project_of(settings, color, file)
    text, grace_s, here = f"{', '.join(services)} on {color}", _grace(ran), None
    if ran:
        here = PreviousRelease.of(before, ran, WORKER_BUDGET_S, replicas=tx.replicas[color])
    where = (tx.state.root, project, services)
    change = up_change(*where, text=text, wait_s=WORKER_BUDGET_S, previous=here, grace_s=grace_s)
    done = tx.apply(change)
    there = docker.by_service(project.project, services)
    dead = [service for service, each in there.items() if each is None or not each.running]
    if not done.ok or dead:
        raise Failed(f"{', '.join(dead or services)} did not start on {color}: {done.last_line}")


def _note_running(tx: Transaction, settings: Settings, color: str) -> dict[str, Container]:
    found = docker.by_service(settings.compose_project(color), settings.workers)
    tx.note_containers(color, found, replicas_of(settings, color, settings.workers))
    return in_use(found)


def _grace(ran: Mapping[str, Container]) -> float:
    return max((each.grace_s for each in ran.values()), default=GRACE_S)
