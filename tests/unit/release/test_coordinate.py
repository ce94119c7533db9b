"""What a coordinator runs on hosts, and how it reads what they send."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.core.target import ReleaseRequest
from cutover.release.coordinate import HostsRequest, confirm_script, host_options, unpack
from cutover.release.hosts import HostAction, HostBatch, HostPhase, HostsPlan

PLAN = HostsPlan("sha-2", (HostBatch(("web-1",), 60.0),), 600.0)
SETTINGS = Settings.model_validate(
    {
        "project": "recall",
        "colors": {"blue": {"env_file": Path(".env")}},
        "proxy": {"driver": "nginx", "url": "http://127.0.0.1", "drain_timeout": "5s"},
        "watch": {"duration": "1m"},
        "hosts": {"names": ["web-1"], "path": "/srv/the shop/"},
    }
)


def test_a_session_on_a_host_is_one_line_of_shell() -> None:
    """Phase 1 stages, phase 2 switches under hold; both end with their connection."""
    request = HostsRequest(SETTINGS, PLAN, "id", "ana o'x", ("--allow-no-rollback",))
    stage, switch = (
        request.session(HostAction(phase, ("web-1",), 60.0)) for phase in (HostPhase.STAGE, HostPhase.SWITCH)
    )
    assert "cutover release sha-2 --stage --allow-no-rollback" in stage
    assert "cutover release sha-2 --staged --watch=60s --hold=600s --allow-no-rollback" in switch
    for line in (stage, switch):
        assert line.startswith("exec 3<&0; ")
        assert "cd '/srv/the shop/'" in line
        assert "\n" not in line
    assert "CUTOVER_REPORTS='/srv/the shop/reports/hosts-id/stage'" in stage


@pytest.mark.parametrize(
    ("migrate_on", "skipped"),
    [("first", (False, True, True)), ("all", (False, False, False)), ("none", (True, True, True))],
)
def test_one_database_is_migrated_by_one_host(migrate_on: Any, skipped: tuple[bool, ...]) -> None:
    """The session of the first host migrates, those of the others and of the switch do not."""
    batch = HostBatch(("web-1", "web-2"), 60.0)
    request = HostsRequest(
        SETTINGS, HostsPlan("sha-2", (batch,), 600.0, migrate_on=migrate_on), "id", "ana", ()
    )
    actions = (
        HostAction(HostPhase.STAGE, ("web-1",)),
        HostAction(HostPhase.STAGE, ("web-2",)),
        HostAction(HostPhase.SWITCH, ("web-1",)),
    )
    assert tuple("--skip-migrations" in request.session(each) for each in actions) == skipped


def test_options_of_the_coordinator_reach_the_hosts() -> None:
    """What is allowed here is allowed there; checklists of a team's own are named."""
    asked = ReleaseRequest(("idle",), deploy="sha-2", switch=True, migrate=False, allow_no_rollback=True)
    assert host_options(asked, ()) == ("--allow-no-rollback",)
    assert host_options(ReleaseRequest(("idle",)), ("ops/gate",)) == ("--tests=ops/gate",)


def run(script: str) -> None:
    """Run a script to its end."""
    subprocess.run(("sh", "-c", script), check=True, timeout=60)


def test_all_hosts_are_confirmed_and_their_answers_kept(tmp_path: Path) -> None:
    """Output and exit code of each; a host that ssh does not reach is asked again."""
    once = f'if [ -e "{tmp_path}/seen" ]; then echo kept; exit 0; fi; : >"{tmp_path}/seen"; exit 255'
    argvs = {
        "web-1": ("echo", "a b"),
        "web-2": ("sh", "-c", "echo late >&2; exit 1"),
        "web-3": ("sh", "-c", once),
    }
    run(confirm_script(argvs, tmp_path, 30.0))
    found = {path.name: path.read_text().strip() for path in tmp_path.glob("web-*")}
    assert found == {
        "web-1.out": "a b", "web-1.code": "0", "web-2.out": "late", "web-2.code": "1", "web-3.out": "kept", "web-3.code": "0",
    }  # fmt: skip


def test_a_host_that_stays_silent_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    """After the hold a confirmation means nothing any more."""
    run(confirm_script({"web-1": ("sh", "-c", "echo silent; exit 255")}, tmp_path, 1.0))
    assert (tmp_path / "web-1.code").read_text() == "255\n"


def test_confirmations_go_on_if_the_coordinator_is_killed(tmp_path: Path) -> None:
    """One process confirms on all hosts: there is no moment in which only some have been told."""
    argvs = dict.fromkeys(("web-1", "web-2"), ("sh", "-c", "sleep 0.5; echo done"))
    code = "import sys\nfrom cutover.system.process import run\nrun(('sh', '-c', sys.argv[1]), deadline_s=60)"

    words = (sys.executable, "-c", code, confirm_script(argvs, tmp_path, 30.0))
    with subprocess.Popen(words, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "web-1.out").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    while not ((tmp_path / "web-1.code").exists() and (tmp_path / "web-2.code").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def packed(*members: tuple[str, bytes]) -> bytes:
    """A compressed tar file of plain files, and one link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("./link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def test_only_plain_files_of_a_report_are_unpacked(tmp_path: Path) -> None:
    """A host cannot write outside of the folder of its report, nor make links in it."""
    folder = tmp_path / "report"
    folder.mkdir()
    unpack(packed(("./report.html", b"page"), ("../out", b"x"), ("/abs", b"x"), ("a/b", b"x")), folder)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_more_files_than_a_report_has_are_refused(tmp_path: Path) -> None:
    """A host cannot fill the disk of the coordinator."""
    with pytest.raises(ValueError, match="more than a report has"):
        unpack(packed(*((f"./{number}", b"") for number in range(300))), tmp_path)
