"""What the host of the engine knows of a container without a shell: sockets, processes, and who may write where."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutover.gate.inside_checks import (
    InsideView,
    ServiceProcess,
    may_write,
    read_processes,
    read_sockets,
)

NO_SHELL = "the image has no shell"
ELSEWHERE = (
    f"{NO_SHELL}, and the processes of the engine cannot be read here: run as root on the engine's host"
)


def look_from_outside(
    attributes: Mapping[str, Any],
    listed: Sequence[Mapping[str, str]],
    paths: Sequence[str],
    proc: Path = Path("/proc"),
) -> InsideView:
    """What can be seen of a container by its `docker inspect`, its processes as the engine *listed* them, and *proc*.

    What cannot be seen has its reason in `unseen`.
    """
    pids = [row["PID"] for row in listed]
    mine = [pid for pid in pids if _is_of(proc / pid, attributes["Id"])]
    processes = _read(proc, mine) or _listed(listed)
    unseen, listening = dict[str, str](), dict[int, frozenset[str]]()
    try:
        listening = read_sockets("".join(_sockets(proc / (mine or ["none"])[0])))
    except OSError:
        unseen["listens"] = ELSEWHERE
    root = proc / mine[0] / "root" if mine else None
    rights = {path: _writable(attributes, path, processes, root) for path in paths}
    hidden = [path for path, right in rights.items() if right is None]
    if hidden:
        unseen["read-only"] = f"{ELSEWHERE}, to see who may write to {', '.join(hidden)}"
    writable = {path: right for path, right in rights.items() if right is not None}
    return InsideView(listening, processes, {0: "root"}, writable, unseen=unseen, shell=False)


def _is_of(process: Path, container: str) -> bool:
    """Whether *process* is one of *container*: a number of another host's process may be taken here by any other."""
    try:
        return container in (process / "cgroup").read_text(encoding="utf-8")
    except OSError:
        return False


def _sockets(process: Path) -> Iterator[str]:
    yield (process / "net" / "tcp").read_text(encoding="utf-8")
    ipv6 = process / "net" / "tcp6"  # not there without IPv6
    yield ipv6.read_text(encoding="utf-8") if ipv6.exists() else ""


def _read(proc: Path, pids: Sequence[str]) -> tuple[ServiceProcess, ...]:
    try:
        return _rooted(
            read_processes("".join((proc / pid / "status").read_text(encoding="utf-8") for pid in pids))
        )
    except OSError:  # one has ended meanwhile
        return ()


def _listed(listed: Sequence[Mapping[str, str]]) -> tuple[ServiceProcess, ...]:
    rows = (
        ServiceProcess(int(row["PID"]), int(row["PPID"]), int(row["UID"]), row["COMMAND"]) for row in listed
    )
    return _rooted(rows)


def _rooted(processes: Iterator[ServiceProcess] | Sequence[ServiceProcess]) -> tuple[ServiceProcess, ...]:
    """*processes*, of which one without a parent among them has none."""
    found = list(processes)
    pids = {each.pid for each in found}
    return tuple(
        ServiceProcess(each.pid, each.parent if each.parent in pids else 0, each.uid, each.name, each.groups)
        for each in found
    )


def _writable(
    attributes: Mapping[str, Any], path: str, processes: Sequence[ServiceProcess], root: Path | None
) -> bool | None:
    """Whether the service may write to *path*; None if that cannot be seen."""
    if _is_read_only(attributes, path):
        return False
    if processes and all(each.uid == 0 for each in processes):
        return True
    if root is None:
        return None
    here, parts = f"{root}/", [part for part in path.split("/") if part]
    try:
        found = os.lstat(here)
        for part in parts:
            here = f"{here.rstrip('/')}/{part}"
            found = os.lstat(here)
            if stat.S_ISLNK(found.st_mode):
                return None  # it would lead out of the container
    except FileNotFoundError:
        return False
    except OSError:
        return None
    owner = f"{found.st_uid} {found.st_gid} {stat.S_IMODE(found.st_mode):o}"
    return any(each.uid == 0 or may_write(each, owner) for each in processes)


def _is_read_only(attributes: Mapping[str, Any], path: str) -> bool:
    """Whether *path* lies on a file system that nobody in the container may write to."""
    host = attributes["HostConfig"]
    mounts = {each["Destination"]: bool(each.get("RW", True)) for each in attributes.get("Mounts") or ()}
    mounts |= {where: "ro" not in options.split(",") for where, options in (host.get("Tmpfs") or {}).items()}
    over = [each for each in mounts if path == each or path.startswith(f"{each.rstrip('/')}/")]
    return not mounts[max(over, key=len)] if over else bool(host.get("ReadonlyRootfs"))
