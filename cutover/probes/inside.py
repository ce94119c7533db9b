"""What can be seen inside the container: where it listens, who it is, where it could write. Only reads."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cutover.verdict import Verdict, no, not_asked, unknown, yes

LISTEN = "0A"
LOOPBACK = frozenset({"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"})
NO_SHELL = frozenset({126, 127})
NEXT = "--cutover--"
RIGHTS = (
    'if test -w "$path"; then echo w; else echo r; fi; stat -c "%u %g %a" "$path" 2>/dev/null || echo 0 0 0'
)


class Ran(Protocol):
    """What testinfra says of a command."""

    rc: int
    stdout: str
    stderr: str


class Host(Protocol):
    """A testinfra host."""

    def run(self, command: str) -> Ran:
        """Run *command* inside."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the service."""

    pid: int
    parent: int
    uid: int
    name: str
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Inside:
    """What one look inside saw."""

    listening: Mapping[int, frozenset[str]]
    """By port the addresses, as the kernel spells them."""
    processes: tuple[Process, ...]
    users: Mapping[int, str]
    writable: Mapping[str, bool]
    """By path whether the service's own user may write there."""
    problem: str = ""
    """Why nothing could be seen."""
    shell: bool = True


def look(host: Host, paths: Sequence[str]) -> Inside:
    """Look once: one `docker exec` takes longer than all that it asks, and `ss` or `ps` may be missing."""
    words = " ".join(shlex.quote(path) for path in paths)
    parts = (
        "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null",
        "cat /proc/[0-9]*/status 2>/dev/null",
        "cat /etc/passwd 2>/dev/null",
        "id -u",
    )
    done = host.run(f"; echo {NEXT}; ".join(parts) + f"; for path in {words}; do {RIGHTS}; done")
    if done.rc in NO_SHELL or not done.stdout.count(NEXT):
        said = " ".join((done.stderr or done.stdout).split())[:200] or f"exit {done.rc}"
        return Inside({}, (), {}, {}, problem=said, shell=done.rc not in NO_SHELL)
    sockets, status, passwd, rights = done.stdout.split(f"{NEXT}\n")
    processes = tuple(service_processes(read_processes(status)))
    return Inside(read_sockets(sockets), processes, read_users(passwd), read_rights(rights, paths, processes))


def read_sockets(text: str) -> dict[int, frozenset[str]]:
    """The listening ports of `/proc/net/tcp` and `/proc/net/tcp6`, with their addresses."""
    found: dict[int, frozenset[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == LISTEN:  # noqa: PLR2004  the column of the state
            address, _, port = words[1].partition(":")
            found[int(port, 16)] = found.get(int(port, 16), frozenset()) | {address}
    return found


def read_processes(text: str) -> list[Process]:
    """The processes of concatenated `/proc/*/status` files; zombies are left out."""
    found = []
    for block in text.split("Name:\t")[1:]:
        rows = dict(line.partition(":\t")[::2] for line in ("Name:\t" + block).splitlines())
        if "Pid" in rows and not rows.get("State", "").startswith("Z"):
            uid = int(rows["Uid"].split()[1])  # the effective one
            groups = frozenset(int(gid) for gid in (rows["Gid"] + " " + rows.get("Groups", "")).split())
            found.append(Process(int(rows["Pid"]), int(rows["PPid"]), uid, rows["Name"], groups))
    return found


def service_processes(every: Iterable[Process]) -> list[Process]:
    """PID 1 and what descends from it; what `docker exec` brought in has parent 0 too, and is none of it."""
    by_pid = {each.pid: each for each in every}

    def root(process: Process) -> int:
        while process.parent in by_pid:
            process = by_pid[process.parent]
        return process.pid

    return [each for each in by_pid.values() if root(each) == 1]


def read_users(passwd: str) -> dict[int, str]:
    """Names by user id, of an `/etc/passwd`."""
    rows = [line.split(":") for line in passwd.splitlines()]
    return {int(row[2]): row[0] for row in reversed(rows) if len(row) > 2 and row[2].isdigit()}  # noqa: PLR2004


def read_rights(text: str, paths: Sequence[str], processes: Sequence[Process]) -> dict[str, bool]:
    """By path whether the service may write there.

    What was tried holds for whoever looked. An image that starts as root and then becomes another user is looked at
    by root, who may write anywhere that is not read-only: for it the owner and mode of the path decide.
    """
    looker, *lines = text.splitlines() or [""]
    pairs = zip(paths, lines[::2], lines[1::2], strict=False)
    others = [each for each in processes if str(each.uid) != looker]
    return {
        path: tried == "w" and (not others or looker != "0" or any(_may_write(each, stat) for each in others))
        for path, tried, stat in pairs
    }


def _may_write(process: Process, stat: str) -> bool:
    """Whether *process* may write to what has this owner, group and mode."""
    owner, group, mode = stat.split()
    bits = int(mode, 8)
    if process.uid == int(owner):
        return bool(bits & 0o200)
    return bool(bits & (0o020 if int(group) in process.groups else 0o002))


def inner_port(ports: Mapping[str, Any], published: int) -> int:
    """The port inside that is *published* on the host, else the only one that is published; 0 if there is none."""
    given = {
        int(name.partition("/")[0]): rows for name, rows in ports.items() if rows and name.endswith("/tcp")
    }
    mine = [
        port for port, rows in given.items() if any(row.get("HostPort") == str(published) for row in rows)
    ]
    return mine[0] if mine else next(iter(given)) if len(given) == 1 else 0


def judge_listens(seen: Inside, port: int) -> Verdict:
    """Yes when something listens on *port* where the outside can reach it; 0: nobody knows which."""
    if not port:
        return not_asked("listens", "no one port is published: [gate] listens says which it is")
    if seen.problem:
        return _not_seen("listens", seen)
    evidence: dict[str, Any] = {"listening": sorted(seen.listening)}
    addresses = seen.listening.get(port)
    if not addresses:
        others = ", ".join(str(each) for each in sorted(seen.listening)) or "nothing"
        return no("listens", f"nothing listens on port {port} (listening: {others})", **evidence)
    if addresses <= LOOPBACK:
        reason = f"port {port} listens on the container's own loopback only, which nobody outside reaches"
        return no("listens", reason, **evidence)
    return yes("listens", f"on port {port}", **evidence)


def judge_user(seen: Inside, runs_as: str) -> Verdict:
    """Yes when each process runs as *runs_as*, or, where no name is given, as anybody but root."""
    if seen.problem:
        return _not_seen("user", seen)
    if not seen.processes:
        return unknown("user", "no process of the service could be seen")
    users = {each.uid: seen.users.get(each.uid, str(each.uid)) for each in seen.processes}
    evidence: dict[str, Any] = {
        "processes": [f"{each.pid} {each.name} {users[each.uid]}" for each in seen.processes][:20]
    }
    wrong = [each for each in seen.processes if not _allowed(each.uid, users[each.uid], runs_as)]
    if wrong:
        who, first = users[wrong[0].uid], wrong[0]
        reason = f"{first.name} (PID {first.pid}) runs as {who}, expected {runs_as or 'a user of its own'}"
        return no("user", reason, expected=runs_as or "not root", seen=who, **evidence)
    return yes(
        "user", f"{len(seen.processes)} processes run as {', '.join(sorted(users.values()))}", **evidence
    )


def _allowed(uid: int, name: str, runs_as: str) -> bool:
    return runs_as in {name, str(uid)} if runs_as else uid != 0


def judge_read_only(seen: Inside) -> Verdict:
    """Yes when the image's user may write at none of the paths."""
    if seen.problem:
        return _not_seen("read-only", seen)
    open_ = [path for path, writable in seen.writable.items() if writable]
    if open_:
        return no("read-only", f"its user may write to {', '.join(open_)}", expected="no write access")
    return yes("read-only", f"its user cannot write to {', '.join(seen.writable)}")


def _not_seen(question: str, seen: Inside) -> Verdict:
    """An image without a shell is a choice of its makers; any other trouble is not known."""
    if not seen.shell:
        return not_asked(question, "the image has no shell, so nothing can be seen inside")
    return unknown(question, f"could not look inside: {seen.problem}")
