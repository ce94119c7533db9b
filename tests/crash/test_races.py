"""Two at once: sessions, and the commands that people run beside them. No engine: the change is one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutover.core.change import UNDO_END
from cutover.core.config import url_config
from cutover.core.errors import Failed
from cutover.release.history import UNRECORDED_FILE, Record, Unrecorded
from cutover.release.rollback import revert_open_release
from cutover.release.state import State
from tests.crash.place import kill, lives
from tests.plugin.project import GOOD, Project, until

WAITS = """\
def test_waits(target):
    open({waiting!r}, "w").close()
    open({go!r}).read()
"""

# The child lets go of the session's output, for who reads that waits for its end; and of nothing else.
FORKS = """\
import os, signal, stat

def test_forks(target):
    child = os.fork()
    if child == 0:
        for each in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISFIFO(os.fstat(each).st_mode):
                    os.close(each)
            except OSError:
                pass
        signal.pause()
    with open({child!r}, "w") as out:
        out.write(str(child))
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without an engine, whose gate waits for us."""
    made = Project.at(tmp_path)
    os.mkfifo(tmp_path / "go")
    made.test(GOOD + WAITS.format(waiting=str(tmp_path / "waiting"), go=str(tmp_path / "go")))
    return made


@contextmanager
def releasing(project: Project) -> Iterator[subprocess.Popen[str]]:
    """A session that has made its change and waits in its gate; whatever becomes of the test, it ends with it."""
    with project.start() as session:
        try:
            until(
                lambda: (project.mark.parent / "waiting").exists() or session.poll() is not None, "the gate"
            )
            assert session.poll() is None, session.communicate()[0]
            assert project.is_open
            assert project.mark.exists()
            yield session
        finally:
            session.kill()


def goes_on(project: Project, session: subprocess.Popen[str]) -> str:
    """Let the gate go on, and return all that the session said."""
    (project.mark.parent / "go").write_text("go\n")
    return session.communicate()[0]


def cutover(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, run by another person."""
    return subprocess.run(
        (sys.executable, "-m", "cutover", *arguments), cwd=project.folder, env=project.environment(CUTOVER_WHO="ben"),
        text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
    )  # fmt: skip


def dies(project: Project, session: subprocess.Popen[str]) -> str:
    """Kill guard and session, and return what is left open."""
    guard = int((project.state / "guard.pid").read_text().split()[0])
    kill(guard)
    until(lambda: not lives(guard), "the guard is dead")
    session.kill()
    session.wait()
    return (project.state / "open").read_text().strip()


def test_the_second_session_changes_nothing(project: Project) -> None:
    """One goes on and is kept, the other exits 12, says who it is, and has touched nothing."""
    with releasing(project) as first:
        before = {path: path.stat().st_mtime_ns for path in project.state.iterdir()}
        second = project.run("--deploy=sha-2", CUTOVER_WHO="ben")
        assert second.returncode == 12, second.stdout
        assert "ana@" in second.stdout + second.stderr
        assert (
            f"pid {first.pid} on {os.uname().nodename}, alive); nothing was changed"
            in second.stdout + second.stderr
        )
        assert {path: path.stat().st_mtime_ns for path in project.state.iterdir()} == before
        assert "RELEASED" in goes_on(project, first)
        assert first.wait() == 0
    assert project.mark.exists()
    assert not project.is_open


def test_a_rollback_ends_a_living_session(project: Project) -> None:
    """`cutover rollback` is never told that it is locked: the open release is reverted, and its session says by whom."""
    with releasing(project) as session:
        done = cutover(project, "rollback")
        assert done.returncode == 11, done.stderr  # no engine here: what serves could not be asked
        assert "was reverted, but" in done.stderr
        assert not project.mark.exists()
        said = goes_on(project, session)
        assert session.wait() == 1
    assert "the release was reverted by ben" in said
    assert not project.mark.exists()
    assert not project.is_open


def test_a_session_that_fails_after_a_rollback_says_by_whom(project: Project) -> None:
    """That its checks fail is what the rollback did: the reason is the person, and nothing is reverted again."""
    project.test(f"def test_stays(target):\n    assert open({str(project.mark)!r})\n", "test_late.py")
    with releasing(project) as session:
        assert "was reverted" in cutover(project, "rollback").stderr
        said = goes_on(project, session)
        assert session.wait() == 1
    assert "ROLLED BACK" in said
    assert "the release was reverted by ben" in said
    rows = [row for row in State(project.state).history() if row["event"] == "reverted"]
    assert [row["why"] for row in rows] == ["cutover rollback"]


def test_what_a_test_forks_holds_no_lock(project: Project) -> None:
    """A process that a team's test leaves behind keeps neither the next release out nor the guard asleep."""
    child = project.mark.parent / "child"
    project.test(FORKS.format(child=str(child)), "test_forks.py")
    with releasing(project) as session:
        guard = int((project.state / "guard.pid").read_text().split()[0])
        assert "RELEASED" in goes_on(project, session)
    left = int(child.read_text())
    try:
        assert lives(left)
        assert not State(project.state).session_runs()
        until(lambda: not lives(guard), "the guard goes")
    finally:
        kill(left)


def test_a_rollback_that_comes_too_late_says_so(tmp_path: Path) -> None:
    """A release that was committed in that moment is not said to be reverted."""
    state = State(tmp_path / "state")
    state.prepare()
    (state.root / "closed.7").write_text("7\n")
    assert state.leave(Unrecorded("7", "released", {}))
    with pytest.raises(Failed, match="7 was kept in that moment, and nothing was reverted"):
        revert_open_release(url_config(), state, "7", "cutover rollback")
    assert [row["event"] for row in state.history()] == ["reverting"]


def test_a_rollback_waits_for_who_has_opened_nothing_yet(project: Project) -> None:
    """It is never told that it is locked: it says whom it waits for, and reverts what that session then opens."""
    conftest = project.folder / "gate" / "conftest.py"
    lines = conftest.read_text().replace(
        "hold_lock()\n",
        "hold_lock()\n    open({waiting!r}, 'w').close()\n    open({go!r}).read()\n",
    )
    folder = project.mark.parent
    conftest.write_text(lines.format(waiting=str(folder / "locked"), go=str(folder / "go")))
    with project.start() as session:
        try:
            until(lambda: (folder / "locked").exists() or session.poll() is not None, "the lock")
            argv = (sys.executable, "-m", "cutover", "rollback")
            with subprocess.Popen(
                argv, cwd=project.folder, env=project.environment(CUTOVER_WHO="ben"), text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            ) as other:  # fmt: skip
                assert other.stderr is not None
                said = other.stderr.readline()
                assert said.startswith("waiting: ana@"), said
                assert other.poll() is None
                (folder / "go").write_text("go\n")
                assert "was reverted" in other.stderr.read()
            (folder / "go").write_text("go\n")
            assert "the release was reverted by ben" in session.communicate()[0]
            assert session.returncode == 1
        finally:
            session.kill()


def test_a_living_session_is_not_recovered(project: Project) -> None:
    """`cutover recover` exits 12 and says who is alive; that one goes on and is kept."""
    with releasing(project) as session:
        done = cutover(project, "recover")
        assert done.returncode == 12
        assert "ana@" in done.stderr
        assert project.mark.exists()
        assert "RELEASED" in goes_on(project, session)


def test_a_living_session_with_nothing_open_is_not_recovered(project: Project) -> None:
    """It may open a release, or still write its report: what comes after `cutover recover` would read half of it."""
    state = State(project.state)
    state.prepare()
    with state.locked({"who": "ana@web-1", "what": "sha-2 to idle", "since": "now", "pid": os.getpid()}):
        done = cutover(project, "recover")
        assert (done.returncode, done.stdout) == (12, "")
        assert "ana@web-1 is releasing sha-2 to idle" in done.stderr
    assert "nothing to recover" in cutover(project, "recover").stdout


def test_status_names_who_releases(project: Project) -> None:
    """While a session lives `status` says whose it is and what is open, and that its guard lives."""
    with releasing(project) as session:
        facts = json.loads(cutover(project, "status", "--json").stdout)
        assert facts["releasing"]["who"].startswith("ana@")
        assert facts["releasing"]["pid"] == session.pid
        assert facts["open"] == (project.state / "open").read_text().strip()
        assert facts["guard"] is True
        assert "ana@" in cutover(project, "status").stdout
        goes_on(project, session)


def test_what_a_dead_session_left_is_named_and_recovered(project: Project) -> None:
    """Its guard dead too: `status` names it, `retire` is refused, `recover` reverts it, once."""
    with releasing(project) as session:
        left = dies(project, session)
    facts = json.loads(cutover(project, "status", "--json").stdout)
    assert (facts["open"], facts["releasing"], facts["guard"]) == (left, None, False)
    assert "no guard lives: run `cutover recover`" in cutover(project, "status").stdout
    refused = cutover(project, "retire")
    assert (refused.returncode, f"release {left} is open" in refused.stderr) == (4, True)
    recovered = cutover(project, "recover")
    assert recovered.returncode == 11  # no engine here: what serves could not be asked
    assert f"release {left} was reverted, but" in recovered.stderr
    assert not project.mark.exists()
    assert not project.is_open
    assert cutover(project, "recover").returncode == 11  # as long as that is so
    status = cutover(project, "status")
    assert (status.returncode, "run: cutover recover" in status.stdout) == (11, True)
    assert cutover(project, "recover", "--give-up").returncode == 0
    again = cutover(project, "recover", "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"recovered": None})
    assert json.loads(cutover(project, "status", "--json").stdout)["open"] is None


def test_the_next_session_reverts_what_a_dead_one_left(project: Project) -> None:
    """Before anything else; that its own preflight then ends it is another matter."""
    with releasing(project) as session:
        dies(project, session)
    assert project.mark.exists()
    done = project.run("--deploy=sha-2")
    assert done.returncode == 4, done.stdout
    assert not project.mark.exists()
    assert not project.is_open


def test_a_rollback_reverts_what_a_dead_session_left(project: Project) -> None:
    """Nobody need know whether the session lives."""
    with releasing(project) as session:
        dies(project, session)
    assert "was reverted" in cutover(project, "rollback").stderr
    assert not project.mark.exists()


def test_a_gate_beside_a_dead_release_opens_nothing_over_it(project: Project) -> None:
    """A gate that fails while a dead session's release is open leaves that one's undo alone."""
    with releasing(project) as session:
        left = dies(project, session)
    undo = (project.state / "undo.sh").read_text()
    (project.folder / "gate" / "conftest.py").unlink()
    project.test("def test_bad(target):\n    assert 0\n")
    assert project.run().returncode == 1
    assert ((project.state / "open").read_text().strip(), (project.state / "undo.sh").read_text()) == (
        left,
        undo,
    )
    assert "was reverted" in cutover(project, "recover").stderr
    assert not project.mark.exists()


def test_a_person_is_asked_for_first(project: Project) -> None:
    """An undo that was given up: `status` says so first with the command to run, the next session too; both exit 11."""
    with releasing(project) as session:
        left = dies(project, session)
    (project.state / "undo.sh").write_text(f"echo no engine >&2; exit 1\n{UNDO_END}\n")
    (project.state / "NEEDS_OPERATOR").write_text(f"{left}\n")
    status = cutover(project, "status")
    command = f"sh {project.state}/revert.sh {project.state} {left}"
    assert status.returncode == 11
    assert status.stdout.startswith(f"OPERATOR NEEDED: the revert of {left} was given up; run: {command}")
    done = project.run("--deploy=sha-2")
    assert done.returncode == 11, done.stdout
    assert "no engine" in done.stdout
    assert command in done.stdout
    assert cutover(project, "recover").returncode == 11
    (project.state / "undo.sh").write_text(f"rm -f {project.mark}\n{UNDO_END}\n")
    subprocess.run(command.split(), check=True)
    assert (
        cutover(project, "status").returncode == 10
    )  # nobody is needed any more; the engine of these tests is silent


def test_a_person_may_give_up_a_revert(project: Project) -> None:
    """An undo that fails for ever: `recover --give-up` closes the release, keeps what runs and says who; 11 no more."""
    with releasing(project) as session:
        left = dies(project, session)
    (project.state / "undo.sh").write_text("echo no engine >&2; exit 1\n")
    assert cutover(project, "recover").returncode == 11
    status = cutover(project, "status")
    assert status.returncode == 11
    assert f"run: sh {project.state}/revert.sh {project.state} {left}" in status.stdout
    assert "cutover recover --give-up" in status.stdout
    done = cutover(project, "recover", "--give-up")
    assert done.returncode == 0, done.stderr
    assert f"given up: release {left} is closed and its guard ended" in done.stdout
    assert project.mark.exists()
    assert not project.is_open
    status = cutover(project, "status")
    assert status.returncode == 10  # the engine of these tests is silent
    assert "given up by ben" in status.stdout


DIES_AFTER_THE_RENAME = """
import os
from cutover.release import finish, state
from cutover.release.history import Record

@pytest.fixture(scope="session", autouse=True)
def dies(deploy, cutover_session):
    tx = cutover_session.release().tx
    tx.record = Record("green", "sha-2", "sha256:2", "h", "c2", "2.yml", verified=False, by="ana", at="now")
    if not os.path.exists("died"):
        open("died", "w").close()
        state.sync_folder = lambda _folder: os._exit(9)
        finish.SessionEnd._live_from_now_on = lambda _: None  # what is live is asked of an engine
"""


@pytest.mark.parametrize("by", ["recover", "the next session"])
def test_a_session_that_dies_after_its_commit_is_recorded_by_the_next(tmp_path: Path, by: str) -> None:
    """The commit is one rename; record, tag in the env file and journal are completed by whoever comes next."""
    project = Project.at(tmp_path)
    project.test(GOOD)
    with (project.folder / "gate" / "conftest.py").open("a") as conftest:
        conftest.write(DIES_AFTER_THE_RENAME)
    assert project.run().returncode == 9
    state = State(project.state)
    until(lambda: not lives(int((project.state / "guard.pid").read_text().split()[0])), "the guard goes")
    assert state.open_release() is None
    assert (project.mark.exists(), state.records("green")) == (True, [])
    release = state.history()[-1]["release"]
    if by == "recover":
        done = cutover(project, "recover")
        assert done.returncode == 0, done.stderr
        assert (
            f"the session of release {release} ended before its record was complete; it is complete now"
            in done.stdout
        )
        assert "nothing to recover" in cutover(project, "recover").stdout
    else:
        done = project.run("--deploy=sha-2")
        assert "ended before its record was complete; it is complete now" in " ".join(done.stdout.split())
    [record] = state.records("green")
    assert (record.tag, record.verified) == ("sha-2", True)
    assert "IMAGE_TAG=sha-2" in (project.folder / ".env.green").read_text()
    rows = [row for row in state.history() if row["event"] == "staged"]
    assert [row["release"] for row in rows][:1] == [release]
    assert state.unrecorded() is None


def test_a_commit_that_did_not_happen_is_not_recorded(tmp_path: Path) -> None:
    """The session dies between what it has left to record and the rename: its guard reverts, and nothing is recorded."""
    state = State(tmp_path / "state")
    state.prepare()
    record = Record("green", "sha-2", "sha256:2", "h", "c2", "2.yml", verified=True, by="ana", at="now")
    (state.root / "undo.sh").write_text(f"{UNDO_END}\n")
    (state.root / "open").write_text("7\n")
    (state.root / UNRECORDED_FILE).write_text(Unrecorded("7", "released", {}, record).as_text())
    assert state.unrecorded() is None
    assert state.revert("7").ok
    assert state.unrecorded() is None
    assert not (state.root / UNRECORDED_FILE).exists()
