"""Run a session to a kill point, kill its processes, and check the state afterwards."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from examples.releases import build
from examples.stand import REPOSITORY, Stand, latest, tags
from tests.helpers.kill_points import SWITCH, Point, Run, family, other, until

OLD, NEXT, LATER = "sha-dea0001", "sha-dea0002", "sha-dea0003"
EXTRA = """
[snapshot]
enabled = true

[freeze]
max_duration = "5m"

[approval]
required = true
"""
# Reports its place, waits while a hold file exists, and fails if a fail file exists.
TEAM = """\
import time
from pathlib import Path

HERE = Path(__file__).parent

def test_team(target, request):
    at = "again" if request.node.name.endswith("[live]") else "gate"
    (HERE / f"at {at}").touch()
    while (HERE / f"hold {at}").exists():
        time.sleep(0.05)
    assert not (HERE / f"fail {at}").exists()
"""


def make(folder: Path, name: str) -> Stand:
    """A stand with everything that a run of show can have, on which OLD is live and verified; `remove` it afterwards."""
    return begin(Stand(folder, name, migrate=True, min_uptime="1s", extra=EXTRA))


def begin(made: Stand) -> Stand:
    """Make OLD live and verified on a new stand; it is gone again if that fails."""
    try:
        made.make()
        made.config.write_text(made.config.read_text().replace("[watch]", '[watch]\nold_color = "stop"'))
        build(NEXT, revisions=3)
        build(LATER)
        build(OLD, revisions=3)
        done = made.release(OLD, "live")
        assert done.code == 0, done.out
    except BaseException:
        made.remove()
        raise
    return made


# --- killing -----------------------------------------------------------------------------------------------------
@contextmanager
def running(stand: Stand, point: Point, folder: Path) -> Iterator[Run]:
    """A session that has reached *point*; it is killed when the block ends."""
    for each in (point.holds and f"hold {point.holds}", point.fails and f"fail {point.fails}"):
        if each:
            (folder / each).touch()
    (folder / "test_team.py").write_text(TEAM)
    if point.command:
        _warm(stand)
    status: Any = stand.status()
    live, tag = status["live"], status["colors"][status["live"]]["tag"]
    wanted = next(each for each in ((LATER,) if point.migrate else ()) + (NEXT, OLD) if each != tag)
    lines = len((stand.state / "journal.jsonl").read_text().splitlines())
    before = latest(stand.folder)
    with _started(stand, point, folder, wanted) as (process, terminal):
        run = Run(
            stand, process, folder, live, tag, wanted, before, lines,
            tags(stand.running(other(live))), terminal,
        )  # fmt: skip
        try:
            until(lambda: point.reached(run), str(point), process)
            yield run
        finally:
            die(run, ("session",))
            if run.user is not None:
                run.user.close()


def _warm(stand: Stand) -> None:
    """Switch to another release, so that a rollback has a previous one to switch back to."""
    status: Any = stand.status()
    tag = next(each for each in (NEXT, OLD) if each != status["colors"][status["live"]]["tag"])
    whole = ("smoke", "checks", *SWITCH[:2], "--watch=1s", f"--deploy={tag}", "--skip-migrations")
    done = stand.pytest(*whole, CUTOVER_APPROVED_TAG=tag)
    assert done.code == 0, done.out


@contextmanager
def _started(
    stand: Stand, point: Point, folder: Path, wanted: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the process in its own process group; yield it with the master side of its terminal."""
    checks = ("checks",) if "--switch" in point.arguments else ()
    more = () if point.migrate else ("--skip-migrations",)
    words = stand.pytest_words("smoke", str(folder), *checks, *point.arguments, f"--deploy={wanted}", *more)
    if point.command:
        words = (sys.executable, "-m", "cutover", *point.command)
    master, slave = pty.openpty()
    go = {} if point.asks else {"CUTOVER_APPROVED_TAG": wanted}
    with ExitStack() as stack:
        stack.callback(os.close, master)
        process = stack.enter_context(
            subprocess.Popen(
                ("setsid", "--ctty", *words) if point.asks else words,
                stdin=slave if point.asks else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, env=stand.shell(**go), cwd=REPOSITORY, start_new_session=not point.asks,
            )
        )  # fmt: skip
        os.close(slave)
        yield process, master


def die(run: Run, victims: Sequence[str]) -> float:
    """Kill the *victims* at once; return the time (monotonic)."""
    doomed = [*family(run.process.pid)] if "step" in victims else []
    with suppress(ProcessLookupError):  # stop the session first, or it would start another guard
        os.killpg(run.process.pid, signal.SIGSTOP)
    if "guard" in victims:
        doomed.append(int((run.stand.state / "guard.pid").read_text().split()[0]))
    for each in doomed:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    return time.monotonic()


def settled(run: Run, point: Point) -> float:
    """Kill the victims of *point*; return the seconds until one color serves the correct tag and no release is open.

    Runs `cutover recover` if the guard was killed too.
    """
    stand, dead = run.stand, die(run, point.victims)
    if "guard" in point.victims and not point.kept:
        assert (stand.state / "open").exists()
        done = stand.cutover("recover")
        assert done.code == 0, done.out
    tag = run.wanted if point.kept else run.tag
    until(lambda: not (stand.state / "open").exists(), "the release is closed")
    until(lambda: stand.ask().get("version") == tag, f"{tag} serves")
    return time.monotonic() - dead


def only_serves(stand: Stand, tag: str, color: str | None = None) -> None:
    """Assert that only *tag* serves, no release is open, no lock is held, and `status` agrees, on *color* if given."""
    until(lambda: not (stand.state / "open").exists(), "the release is closed")
    until(lambda: stand.ask().get("version") == tag, f"{tag} serves")
    assert [stand.ask().get("version") for _ in range(20)] == [tag] * 20
    status: Any = stand.status()
    live = status["live"]
    assert color in {None, live}
    assert (status["colors"][live]["tag"], status["colors"][live]["state"]) == (tag, "healthy")
    peace = ("open", "releasing", "needs_operator", "proxy")
    assert [status[each] for each in peace] == [None] * len(peace)
    assert tags(stand.running(live)) == [tag]
    assert sorted(each.name for each in stand.marker.iterdir()) == sorted(["here", live])
    assert (
        subprocess.run(
            ("flock", "--nonblock", str(stand.state / "step.lock"), "true"), check=False
        ).returncode
        == 0
    )
    assert stand.docker("ps", "--quiet", "--filter", f"name=^{stand.name}-migrate$") == ""


def report_of(run: Run) -> dict[str, Any]:
    """Result of `cutover report html --json` for the killed session."""
    assert run.report != run.before, "reports/latest is not the session that died"
    done = run.stand.cutover("report", "html", str(run.report), "--json")
    assert done.code == 0, done.out
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    assert run.wanted in Path(found["report"]).read_text()
    return found


def as_it_must(run: Run, point: Point) -> None:
    """Assert the state after a kill at *point*: live release, status, idle color and report."""
    stand, idle = run.stand, other(run.live)
    only_serves(stand, run.wanted if point.kept else run.tag, idle if point.kept else run.live)
    if not point.kept:
        assert tags(stand.running(idle)) == run.idle
        last: Any = stand.status()["last"]
        assert last["release"] == run.release
        assert last["event"] in {"reverted", "recovered"}, "status tells of an earlier one"
    if point.command:  # commands write no report
        assert stand.cutover("retire").code == 0
        return
    found = report_of(run)
    assert (found["status"], found["lost"]) == ("INCONCLUSIVE", 0)
