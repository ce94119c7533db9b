from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cutover.core.verdict import Outcome, Verdict
from cutover.gate.inside_checks import (
    InsideView,
    ServiceProcess,
    judge_listens,
    judge_read_only,
    judge_user,
    look_inside,
    port_inside,
    read_rights,
)
from cutover.system.process import run

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
ANYWHERE, LOOPBACK = frozenset({"00000000"}), frozenset({"0100007F"})
FULL = InsideView({}, (), {}, {}, problem="sh: can't fork: Resource temporarily unavailable")
MASTER = InsideView(
    listening={80: ANYWHERE},
    processes=(
        ServiceProcess(1, 0, 0, "nginx"), ServiceProcess(8, 1, 33, "nginx"), ServiceProcess(9, 1, 33, "nginx"),
    ),
    users={0: "root", 33: "www"},
    writable={"/": False},
)  # fmt: skip
SEEN = InsideView(
    listening={8000: ANYWHERE},
    processes=(ServiceProcess(1, 0, 10001, "docker-init"), ServiceProcess(7, 1, 10001, "gunicorn")),
    users={0: "root", 10001: "recall"},
    writable={"/": False},
)


@dataclass
class CompletedCommand:
    rc: int
    stdout: str
    stderr: str = ""


class Container:
    """A container whose command prints one text."""

    def __init__(self, rc: int, stdout: str, stderr: str = "") -> None:
        self.done = CompletedCommand(rc, stdout, stderr)

    def run(self, command: str) -> CompletedCommand:  # noqa: ARG002  it says the same to everything
        """Say it."""
        return self.done


SOCKETS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B00007F:A3C5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 51262 1 0 100 0 0 10 0
   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001        0 51300 1 0 100 0 0 10 0
   2: 030011AC:1F40 010011AC:D2F0 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
"""
STATUS = "".join(
    f"Name:\t{name}\nState:\t{state}\nPid:\t{pid}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n{rest}\n"
    for name, state, pid, parent, uid, rest in (
        ("docker-init", "S (sleeping)", 1, 0, 10001, "Gid:\t5\t5\t5\t5"),
        ("gunicorn", "S (sleeping)", 7, 1, 10001, "Gid:\t5\t5\t5\t5\nGroups:\t6 7"),
        ("curl", "Z (zombie)", 99, 1, 0, "Gid:\t0\t0\t0\t0"),
        ("sh", "S (sleeping)", 120, 0, 0, "Gid:\t0\t0\t0\t0"),
        ("cat", "R (running)", 121, 120, 0, "Gid:\t0\t0\t0\t0"),
    )
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nrecall:x:10001:10001::/app:/bin/false\n"


def test_one_look_sees_everything() -> None:
    """Sockets, processes, users and access rights are read by one command."""
    parts = [SOCKETS, STATUS, PASSWD, "10001\nr\n0 0 755\nw\n10001 0 755\n"]
    seen = look_inside(Container(0, "--cutover--\n".join(parts)), ["/", "/data"])
    assert seen.listening == {8000: ANYWHERE, 0xA3C5: frozenset({"0B00007F"})}
    assert [(each.name, each.uid) for each in seen.processes] == [("docker-init", 10001), ("gunicorn", 10001)]
    assert seen.processes[1].groups == {5, 6, 7}
    assert seen.users == {0: "root", 10001: "recall"}
    assert seen.writable == {"/": False, "/data": True}


@pytest.mark.parametrize(
    ("looker", "tried", "stat", "writable"),
    [
        ("10001", "r", "0 0 755", False),
        ("10001", "w", "10001 0 755", True),
        # The image starts as root and becomes uid 10001: root's own rights say nothing.
        ("0", "w", "0 0 755", False),
        ("0", "w", "0 0 777", True),
        ("0", "w", "10001 0 755", True),
        ("0", "w", "10001 0 555", False),
        ("0", "w", "0 5 775", True),
        ("0", "w", "0 9 775", False),
        ("0", "r", "10001 0 755", False),
    ],
)
def test_rights_are_those_of_the_service(looker: str, tried: str, stat: str, *, writable: bool) -> None:
    """A path is writable if the user of the service may write, whatever the user of `docker exec`."""
    service = [ServiceProcess(7, 1, 10001, "gunicorn", frozenset({5}))]
    assert read_rights(f"{looker}\n{tried}\n{stat}\n", ["/"], service) == {"/": writable}


def test_root_may_write() -> None:
    """A service that runs as root may write like root."""
    assert read_rights("0\nw\n0 0 755\n", ["/"], [ServiceProcess(1, 0, 0, "gunicorn")]) == {"/": True}


class ThisMachine:
    """A shell on this host in place of one in a container."""

    def run(self, command: str) -> CompletedCommand:
        """Run *command* as testinfra would."""
        done = run(("sh", "-c", command), deadline_s=60)
        return CompletedCommand(done.code, done.out, done.err)


def test_the_command_is_understood_by_a_real_shell(tmp_path: Path) -> None:
    """The command works in a POSIX shell, also with odd paths, and writes nothing."""
    odd = tmp_path / "it's a path"
    odd.mkdir()
    odd.chmod(0o777)  # whoever looks: here every process of the machine is "the service"
    seen = look_inside(ThisMachine(), [str(odd), str(tmp_path / "missing")])
    assert seen.writable == {str(odd): True, str(tmp_path / "missing"): False}
    assert list(odd.iterdir()) == []
    assert seen.users[0] == "root"


@pytest.mark.parametrize(
    ("container", "outcome", "reason"),
    [
        (Container(127, "", 'exec: "/bin/sh": stat /bin/sh: no such file'), NOT_ASKED, "has no shell"),
        (Container(126, "", "OCI runtime exec failed"), NOT_ASKED, "has no shell"),
        (Container(1, "", "Error: No such container: abc"), UNKNOWN, "No such container: abc"),
        (Container(0, "garbage"), UNKNOWN, "could not look inside: garbage"),
        (
            Container(2, "--cutover--\n", "sh: 1: read error"),
            UNKNOWN,
            "could not look inside: sh: 1: read error",
        ),
        (Container(0, "--cutover--\n" * 4, "odd"), UNKNOWN, "could not look inside: odd"),
    ],
)
def test_what_cannot_be_seen(container: Container, outcome: Outcome, reason: str) -> None:
    """Without a shell the verdict is not asked; after any other error it is unknown."""
    seen = look_inside(container, ["/"])
    for verdict in (judge_listens(seen, 8000), judge_user(seen, ""), judge_read_only(seen, ["/"])):
        assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


TWO = {"3000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}], "9000/tcp": [{"HostPort": "9100"}]}


@pytest.mark.parametrize(
    ("ports", "published", "inner"),
    [
        (TWO, 8001, 3000),
        (TWO, 9100, 9000),
        (TWO, 7, 0),
        ({"3000/tcp": [{"HostPort": "8001"}], "53/udp": [{"HostPort": "53"}], "9000/tcp": None}, 7, 3000),
        ({}, 8001, 0),
    ],
)
def test_the_published_port_is_asked_for(ports: dict[str, Any], published: int, inner: int) -> None:
    """The container port follows from the published port."""
    assert port_inside(ports, published) == inner


def test_a_port_that_nobody_knows_is_not_asked() -> None:
    """If several ports are published and none is that of the target, `[gate] container_port` is needed."""
    verdict = judge_listens(SEEN, 0)
    assert (verdict.outcome, "[gate] container_port says which" in verdict.reason) == (NOT_ASKED, True)


WRITES = replace(SEEN, writable={"/": True, "/x": False})
ROOT = replace(SEEN, processes=(ServiceProcess(1, 0, 0, "gunicorn"), ServiceProcess(7, 1, 10001, "gunicorn")))


@pytest.mark.parametrize(
    ("verdict", "outcome", "reason"),
    [
        (judge_listens(SEEN, 8000), YES, "on port 8000"),
        (judge_listens(SEEN, 9000), NO, "nothing listens on port 9000 (listening: 8000)"),
        (judge_listens(replace(SEEN, listening={}), 8000), NO, "(listening: nothing)"),
        (judge_listens(replace(SEEN, listening={8000: LOOPBACK}), 8000), NO, "own loopback only"),
        (judge_listens(replace(SEEN, listening={8000: LOOPBACK | ANYWHERE}), 8000), YES, "on port 8000"),
        (judge_user(SEEN, ""), YES, "2 processes run as recall"),
        (judge_user(SEEN, "recall"), YES, "run as recall"),
        (judge_user(SEEN, "10001"), YES, "run as recall"),
        (judge_user(SEEN, "app"), NO, 'gunicorn (PID 7) runs as recall, expected app: [gate] user = "recall" if that is right'),
        (judge_user(ROOT, ""), YES, "2 processes run as recall, their parents as root"),
        (judge_user(replace(ROOT, processes=ROOT.processes[:1]), ""), NO,
         "gunicorn (PID 1) runs as root, expected a user of its own"),
        (judge_user(replace(SEEN, processes=()), ""), UNKNOWN, "no process of the service could be seen"),
        (judge_user(replace(ROOT, processes=ROOT.processes[:1]), "root"), YES, "1 process runs as root"),
        (judge_user(MASTER, ""), YES, "3 processes run as www, their parents as root"),
        (judge_user(MASTER, "www"), YES, "run as www"),
        (judge_user(MASTER, "root"), YES, "run as www"),
        (judge_user(MASTER, "app"), NO, "nginx (PID 8) runs as www, expected app"),
        (judge_user(replace(MASTER, processes=(*MASTER.processes, ServiceProcess(10, 1, 0, "cron"))), ""), NO,
         "cron (PID 10) runs as root"),
        (judge_read_only(SEEN, ["/"]), YES, "its user cannot write to /"),
        (judge_read_only(SEEN, []), NOT_ASKED, "[gate] read_only_paths is empty"),
        (judge_read_only(WRITES, ["/", "/x"]), NO, "its user may write to /: [gate] read_only_paths"),
        (judge_read_only(WRITES, ["/", "/x"], "root"), NOT_ASKED, 'root may write to /, and [gate] user = "root"'),
        (judge_user(FULL, ""), NO, "pids limit: no further process can start in the container (sh: can't fork"),
        (judge_listens(FULL, 80), NO, "pids limit"),
    ],
)  # fmt: skip
def test_inside(verdict: Verdict, outcome: Outcome, reason: str) -> None:
    """The verdicts for the listening port, the user and the write access."""
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict
