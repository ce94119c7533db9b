"""Is there room left: where the engine keeps its data, where our state and reports are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.errors import EngineSilent
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.system import docker

GB = 1e9


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on one file system."""

    path: Path
    device: int
    free: int
    size: int
    inodes_free: int
    inodes: int
    """0: the file system does not count them."""


def room(path: Path) -> Room:
    """The room where *path* is, or will be; raises OSError."""
    there = next(each for each in (path, *path.parents) if each.exists())
    found = os.statvfs(there)
    return Room(
        path, there.stat().st_dev, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize,
        found.f_favail, found.f_files,
    )  # fmt: skip


def disk(settings: Settings, engine_root: Callable[[], Path] = docker.data_root) -> list[Verdict]:
    """One verdict for each file system that a release writes to."""
    verdicts, seen, paths = list[Verdict](), set[int](), [settings.state, settings.reports]
    try:
        root = engine_root()
    except EngineSilent as error:
        verdicts.append(unknown("disk", str(error)))
    else:
        paths += [root] if root.is_dir() else []
        if not root.is_dir():
            verdicts.append(
                not_asked("disk", f"{root}, where the engine keeps its data, cannot be seen here")
            )
    for path in paths:
        try:
            found = room(path)
        except OSError as error:
            verdicts.append(unknown("disk", f"{path}: {error.strerror}"))
            continue
        if found.device not in seen:
            seen.add(found.device)
            verdicts.append(judge_disk(found, settings.slo.disk_free))
    return verdicts


def judge_disk(found: Room, least: float) -> Verdict:
    """No when less than *least* of the space, or of the inodes, is left."""
    share = found.free / found.size if found.size else 0.0
    expected, seen = f"{least:.0%} free", f"{share:.0%} ({found.free / GB:.1f} of {found.size / GB:.0f} GB)"
    evidence = {"path": str(found.path), "free_bytes": found.free, "inodes_free": found.inodes_free}
    if share < least:
        return no(
            "disk", f"{found.path}: expected {expected}, got {seen}", expected=expected, seen=seen, **evidence
        )
    inodes = found.inodes_free / found.inodes if found.inodes else 1.0
    if inodes < least:
        reason = f"{found.path}: expected {least:.0%} of the inodes free, got {inodes:.0%}"
        return no("disk", reason, expected=expected, seen=f"{inodes:.0%} of inodes", **evidence)
    return yes("disk", f"{found.path}: {seen} free", expected=expected, seen=seen, **evidence)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that a person must read first."""
    order = {"no": 0, "unknown": 1, "yes": 2, "not asked": 3}
    return min(verdicts, key=lambda each: order[each.outcome])
