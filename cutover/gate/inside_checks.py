"""Checks inside the container: listening port, user, write access. They only read.

Of a container without a shell they see what the host of the engine knows.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from cutover.core.text import count
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes

LISTEN_STATE = "0A"  # state in /proc/net/tcp
LOOPBACK_HEX = frozenset({"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"})
ROOT = frozenset({"root", "0"})
NO_FORK = re.compile(r"can(?:'|no)t fork|fork.*Resource temporarily unavailable|pids\.max", re.IGNORECASE)
NO_SHELL = frozenset({126, 127})  # exit codes
SEPARATOR = "--cutover--"
ELSEWHERE = (
    "the image has no shell, and the processes of the engine cannot be read here: "
    "run as root on the engine's host"
)
RIGHTS = (
    'if test -w "$path"; then echo w; else echo r; fi; stat -c "%u %g %a" "$path" 2>/dev/null || echo 0 0 0'
)


class CommandResult(Protocol):
    """The result of a command, as testinfra returns it."""

    rc: int
    stdout: str
    stderr: str


class ContainerHost(Protocol):
    """A testinfra host."""

    def run(self, command: str) -> CommandResult:
        """Run *command* in the container."""


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """One process of the service."""

    pid: int
    parent: int
    uid: int
    name: str
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class InsideView:
    """What was read inside the container."""

    listening: Mapping[int, frozenset[str]]
    """Port → addresses in the hexadecimal form of /proc/net/tcp."""
    processes: tuple[ServiceProcess, ...]
    users: Mapping[int, str]
    writable: Mapping[str, bool]
    """Path → whether the user of the service may write there."""
    problem: str = ""
    """Why nothing could be read; empty otherwise."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Check -> why what it asks could not be seen."""
    shell: bool = True


def look_inside(host: ContainerHost, paths: Sequence[str]) -> InsideView:
    """Read sockets, processes, users and the access rights of *paths* by one command in the container."""
    # One command, because each `docker exec` is slow; /proc, because `ss` and `ps` may be missing.
    words = " ".join(shlex.quote(path) for path in paths)
    parts = (
        "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null",
        "cat /proc/[0-9]*/status 2>/dev/null",
        "cat /etc/passwd 2>/dev/null",
        "id -u",
    )
    done = host.run(f"; echo {SEPARATOR}; ".join(parts) + f"; for path in {words}; do {RIGHTS}; done")
    if done.rc in NO_SHELL or done.stdout.count(f"{SEPARATOR}\n") != len(parts) - 1:
        problem = " ".join((done.stderr or done.stdout).split())[:200] or f"exit {done.rc}"
        return InsideView({}, (), {}, {}, problem=problem, shell=done.rc not in NO_SHELL)
    sockets, status, passwd, rights = done.stdout.split(f"{SEPARATOR}\n")
    processes = tuple(service_processes(read_processes(status)))
    writable = read_rights(rights, paths, processes)
    return InsideView(read_sockets(sockets), processes, read_users(passwd), writable)


def read_sockets(text: str) -> dict[int, frozenset[str]]:
    """Return port → addresses of the listening sockets in `/proc/net/tcp` and `/proc/net/tcp6`."""
    found: dict[int, frozenset[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == LISTEN_STATE:  # noqa: PLR2004  the column of the state
            address, _, port = words[1].partition(":")
            found[int(port, 16)] = found.get(int(port, 16), frozenset()) | {address}
    return found


def read_processes(text: str) -> list[ServiceProcess]:
    """Return the processes of concatenated `/proc/*/status` files, without zombies."""
    found = []
    for block in text.split("Name:\t")[1:]:
        rows = dict(line.partition(":\t")[::2] for line in ("Name:\t" + block).splitlines())
        if "Pid" in rows and not rows.get("State", "").startswith("Z"):
            uid = int(rows["Uid"].split()[1])  # the effective one
            groups = frozenset(int(gid) for gid in (rows["Gid"] + " " + rows.get("Groups", "")).split())
            found.append(ServiceProcess(int(rows["Pid"]), int(rows["PPid"]), uid, rows["Name"], groups))
    return found


def service_processes(every: Iterable[ServiceProcess]) -> list[ServiceProcess]:
    """Return PID 1 and its descendants; processes of `docker exec` also have parent 0 and are left out."""
    by_pid = {each.pid: each for each in every}

    def root(process: ServiceProcess) -> int:
        while process.parent in by_pid:
            process = by_pid[process.parent]
        return process.pid

    return [each for each in by_pid.values() if root(each) == 1]


def read_users(passwd: str) -> dict[int, str]:
    """Return user id → name of an `/etc/passwd`."""
    rows = [line.split(":") for line in passwd.splitlines()]
    return {int(row[2]): row[0] for row in reversed(rows) if len(row) > 2 and row[2].isdigit()}  # noqa: PLR2004


def read_rights(text: str, paths: Sequence[str], processes: Sequence[ServiceProcess]) -> dict[str, bool]:
    """Return path → whether the service may write there.

    `test -w` answers for the user of `docker exec`. If that is root and the service has another user, the owner and
    the mode of the path decide.
    """
    tester, *lines = text.splitlines() or [""]
    pairs = zip(paths, lines[::2], lines[1::2], strict=False)
    others = [each for each in processes if str(each.uid) != tester]
    return {
        path: tried == "w" and (not others or tester != "0" or any(may_write(each, stat) for each in others))
        for path, tried, stat in pairs
    }


def may_write(process: ServiceProcess, stat: str) -> bool:
    """Whether owner, group and mode (`0 0 755`) let *process* write."""
    owner, group, mode = stat.split()
    bits = int(mode, 8)
    if process.uid == int(owner):
        return bool(bits & 0o200)
    return bool(bits & (0o020 if int(group) in process.groups else 0o002))


def port_inside(ports: Mapping[str, Any], published: int) -> int:
    """Return the container port that is published as *published*, else the only published one, else 0."""
    given = [(int(name[:-4]), rows) for name, rows in ports.items() if rows and name.endswith("/tcp")]
    for port, rows in given:
        if any(row.get("HostPort") == str(published) for row in rows):
            return port
    return given[0][0] if len(given) == 1 else 0


def judge_listens(seen: InsideView, port: int) -> Verdict:
    """Yes if a process listens on *port* and not only on loopback; not asked for port 0."""
    if not port:
        return not_asked("listens", "no one port is published: [gate] container_port says which it is")
    if seen.problem or "listens" in seen.unseen:
        return _not_seen("listens", seen)
    evidence: dict[str, Any] = {"listening": sorted(seen.listening)}
    addresses = seen.listening.get(port)
    if not addresses:
        others = ", ".join(str(each) for each in sorted(seen.listening)) or "nothing"
        return no("listens", f"nothing listens on port {port} (listening: {others})", **evidence)
    if addresses <= LOOPBACK_HEX:
        reason = f"port {port} listens on the container's own loopback only, which nobody outside reaches"
        return no("listens", reason, **evidence)
    return yes("listens", f"on port {port}", **evidence)


def judge_user(seen: InsideView, runs_as: str) -> Verdict:
    """Yes if every worker runs as *runs_as* (name or id); without it, as any user except root.

    Workers are the processes without children: a master may keep root for its port and its log. With `root` any user
    will do.
    """
    if seen.problem and not seen.processes:
        return _not_seen("user", seen)
    if not seen.processes:
        return unknown("user", "no process of the service could be seen")
    users = {each.uid: seen.users.get(each.uid, str(each.uid)) for each in seen.processes}
    shown = [f"{each.pid} {each.name} {users[each.uid]}" for each in seen.processes][:20]
    parents = {each.parent for each in seen.processes}
    workers = [each for each in seen.processes if each.pid not in parents]
    for each in () if runs_as in ROOT else workers:
        user = users[each.uid]
        if runs_as not in {user, str(each.uid)} if runs_as else each.uid == 0:
            reason = f"{each.name} (PID {each.pid}) runs as {user}, expected {runs_as or 'a user of its own'}"
            reason += f': [gate] user = "{user}" if that is right'
            return no("user", reason, expected=runs_as or "not root", seen=user, processes=shown)
    by = ", ".join(sorted({users[each.uid] for each in workers}))
    masters = sorted({users[each.uid] for each in seen.processes} - {users[each.uid] for each in workers})
    above = f", their parents as {', '.join(masters)}" if masters else ""
    number = len(seen.processes)
    run = f"{count(number, 'process', 'processes')} {'run' if number > 1 else 'runs'}"
    return yes("user", f"{run} as {by}{above}", processes=shown)


def judge_read_only(seen: InsideView, paths: Sequence[str], runs_as: str = "") -> Verdict:
    """Yes if the user of the service may not write to any of *paths*; not asked without one or for root."""
    if not paths:
        return not_asked("read-only", "[gate] read_only_paths is empty")
    if seen.problem:
        return _not_seen("read-only", seen)
    open_ = [path for path, writable in seen.writable.items() if writable]
    if not open_ and "read-only" in seen.unseen:
        return _not_seen("read-only", seen)
    if open_ and runs_as in ROOT:
        return not_asked("read-only", f'root may write to {", ".join(open_)}, and [gate] user = "{runs_as}"')
    if open_:
        reason = f"its user may write to {', '.join(open_)}: [gate] read_only_paths"
        return no("read-only", reason, expected="no write access")
    return yes("read-only", f"its user cannot write to {', '.join(seen.writable)}")


def _not_seen(question: str, seen: InsideView) -> Verdict:
    if NO_FORK.search(seen.problem):
        return no(question, f"pids limit: no further process can start in the container ({seen.problem})")
    if question in seen.unseen:
        return not_asked(question, seen.unseen[question])
    if not seen.shell:
        return not_asked(question, "the image has no shell, so nothing can be seen inside")
    return unknown(question, f"could not look inside: {seen.problem}")


# --- a container without a shell -----------------------------------------------------------------------------
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
    rows = [
        ServiceProcess(int(row["PID"]), int(row["PPID"]), int(row["UID"]), row["COMMAND"]) for row in listed
    ]
    processes = _rooted(_read(proc, mine) or rows)
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


def _read(proc: Path, pids: Sequence[str]) -> list[ServiceProcess]:
    try:
        return read_processes("".join((proc / pid / "status").read_text(encoding="utf-8") for pid in pids))
    except OSError:  # one has ended meanwhile
        return []


def _rooted(processes: Sequence[ServiceProcess]) -> tuple[ServiceProcess, ...]:
    """*processes*, of which one without a parent among them has none."""
    pids = {each.pid for each in processes}
    return tuple(each if each.parent in pids else replace(each, parent=0) for each in processes)


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
