"""A container without a shell, seen by the host of its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutover.core.verdict import Outcome
from cutover.gate.inside_checks import judge_listens, judge_read_only, judge_user, look_from_outside

YES, NO, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.NOT_ASKED
ID = "c" * 64
SOCKETS = "  sl  local_address rem_address st\n   0: 00000000:1F40 00000000:0000 0A 0 0 0\n"
LOOPBACK = "  sl  local_address rem_address st\n   0: 0100007F:1F40 00000000:0000 0A 0 0 0\n"


def listed(*uids: int) -> list[dict[str, str]]:
    """Processes as the engine lists them; the first one is the parent of the others."""
    return [
        {"PID": str(901 + number), "PPID": "901" if number else "17", "UID": str(uid), "COMMAND": "app"}
        for number, uid in enumerate(uids)
    ]


def inspected(
    *, frozen: bool = False, mounts: tuple[tuple[str, bool], ...] = (), tmpfs: str = ""
) -> dict[str, Any]:
    """`docker inspect` of a container with *mounts* (destination, writable)."""
    host = {"ReadonlyRootfs": frozen, "Tmpfs": {tmpfs: "rw"} if tmpfs else None}
    return {"Id": ID, "HostConfig": host, "Mounts": [{"Destination": to, "RW": rw} for to, rw in mounts]}


def proc_of(root: Path, *uids: int, container: str = ID, sockets: str = SOCKETS) -> Path:
    """A /proc with the processes of `listed`."""
    for row in listed(*uids):
        process, uid = root / row["PID"], row["UID"]
        (process / "net").mkdir(parents=True)
        (process / "cgroup").write_text(f"0::/system.slice/docker-{container}.scope\n")
        (process / "net" / "tcp").write_text(sockets)
        (process / "root" / "data").mkdir(parents=True)
        (process / "root" / "data").chmod(0o755)
        (process / "root" / "link").symlink_to("/tmp")
        (process / "status").write_text(
            f"Name:\tapp\nState:\tS (sleeping)\nPid:\t{row['PID']}\nPPid:\t{row['PPID']}\n"
            f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t5\t5\t5\t5\n"
        )
    return root


@pytest.mark.parametrize(
    ("sockets", "port", "outcome", "reason"),
    [
        (SOCKETS, 8000, YES, "on port 8000"),
        (SOCKETS, 9000, NO, "nothing listens on port 9000 (listening: 8000)"),
        (LOOPBACK, 8000, NO, "own loopback only"),
    ],
)
def test_sockets_are_read_on_the_host(
    tmp_path: Path, sockets: str, port: int, outcome: Outcome, reason: str
) -> None:
    """A process of the container shows the sockets of its network."""
    seen = look_from_outside(inspected(), listed(65532), [], proc_of(tmp_path, 65532, sockets=sockets))
    verdict = judge_listens(seen, port)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize("container", ["d" * 64, None])
def test_another_host_is_not_asked(tmp_path: Path, container: str | None) -> None:
    """Where the engine is elsewhere the same number is another process: nothing is claimed, the user is known."""
    if container:
        proc_of(tmp_path, 65532, container=container)
    seen = look_from_outside(inspected(), listed(65532), ["/data"], tmp_path)
    for verdict in (judge_listens(seen, 8000), judge_read_only(seen, ["/data"])):
        assert (verdict.outcome, "run as root on the engine's host" in verdict.reason) == (NOT_ASKED, True)
    assert judge_user(seen, "").outcome is YES


@pytest.mark.parametrize(
    ("uids", "outcome", "reason"),
    [
        ((0, 33), YES, "2 processes run as 33, their parents as root"),
        ((65532, 65532), YES, "2 processes run as 65532"),
        ((0, 0), NO, "app (PID 902) runs as root"),
    ],
)
def test_users_are_known(tmp_path: Path, uids: tuple[int, int], outcome: Outcome, reason: str) -> None:
    """From the list of the engine, and from the host where it can be read."""
    for proc in (tmp_path / "none", proc_of(tmp_path / "proc", *uids)):
        verdict = judge_user(look_from_outside(inspected(), listed(*uids), [], proc), "")
        assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("made", "mode", "uid", "outcome"),
    [
        (inspected(), 0o755, 65532, YES),
        (inspected(), 0o777, 65532, NO),
        (inspected(), 0o755, 0, NO),
        (inspected(frozen=True), 0o777, 65532, YES),
        (inspected(frozen=True), 0o777, 0, YES),
        (inspected(mounts=(("/data", False),)), 0o777, 0, YES),
        (inspected(frozen=True, mounts=(("/data", True),)), 0o777, 65532, NO),
        (inspected(mounts=(("/data", True), ("/", False))), 0o777, 65532, NO),
        (inspected(frozen=True, tmpfs="/data"), 0o777, 65532, NO),
        (inspected(frozen=True, mounts=(("/dat", True),)), 0o777, 65532, YES),
    ],
)
def test_who_may_write_is_seen(
    tmp_path: Path, made: dict[str, Any], mode: int, uid: int, outcome: Outcome
) -> None:
    """By the mounts, by whether the root is read-only, and by owner and mode of the folder."""
    proc = proc_of(tmp_path, uid)
    (proc / "901" / "root" / "data").chmod(mode)
    verdict = judge_read_only(look_from_outside(made, listed(uid), ["/data"], proc), ["/data"])
    assert verdict.outcome is outcome, verdict


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """An absolute link would lead out of the container; what is missing cannot be written."""
    seen = look_from_outside(inspected(), listed(65532), ["/link/x", "/gone"], proc_of(tmp_path, 65532))
    assert seen.writable == {"/gone": False}
    verdict = judge_read_only(seen, ["/link/x", "/gone"])
    assert (verdict.outcome, "/link/x" in verdict.reason) == (NOT_ASKED, True)
