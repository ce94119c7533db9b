"""Where a release dies, who dies there, and what is true afterwards; for the tests of death and their bench."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.releases import build
from examples.stand import REPOSITORY, Stand, latest, tags

OLD, NEXT, LATER = "sha-dea0001", "sha-dea0002", "sha-dea0003"
PATIENCE_S = 120.0
SWITCH = ("--target=idle", "--switch", "--watch=60s")
EXTRA = """
[snapshot]
enabled = true

[freeze]
max = "5m"

[show]
ask = true
"""
# It says where it is, waits where it is held, and fails where it is told to.
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
    """A stand with everything that a run of show can have, on which OLD is live and proven; `remove` it afterwards."""
    return begin(Stand(folder, name, migrate=True, min_healthy="1s", extra=EXTRA))


def begin(made: Stand) -> Stand:
    """Make OLD live and proven on a new stand; it is gone again if that fails."""
    try:
        made.make()
        made.config.write_text(made.config.read_text().replace("[watch]", '[watch]\nretire = "stop"'))
        build(NEXT, revisions=3)
        build(LATER)
        build(OLD, revisions=3)
        done = made.release(OLD, "live")
        assert done.code == 0, done.out
    except BaseException:
        made.remove()
        raise
    return made


# --- a session under way -----------------------------------------------------------------------------------------
@dataclass(slots=True)
class Run:
    """A session, or a command, that is about to die."""

    stand: Stand
    process: subprocess.Popen[str]
    folder: Path
    """Where its team's test lies, and says where it is."""
    live: str
    """The colour that had the traffic when it began."""
    tag: str
    """What users got then."""
    wanted: str
    """What it releases."""
    before: Path
    """The report of the session before it."""
    lines: int
    """How long the journal was before it."""
    idle: Sequence[str] = ()
    """The images that ran on the idle colour."""
    terminal: int = -1
    heard: str = ""
    user: http.client.HTTPConnection | None = None
    """A user of the old colour, whose answer takes longer than the session lives."""

    @property
    def journal(self) -> list[dict[str, Any]]:
        """What it has journaled until now."""
        text = (self.stand.state / "journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()[self.lines :] if line.endswith("}")]

    @property
    def report(self) -> Path:
        """The folder of its report."""
        return latest(self.stand.folder)

    @property
    def release(self) -> str:
        """The id of its release, empty before it has changed anything."""
        return next((str(row["release"]) for row in self.journal if row["event"] == "open"), "")

    def does(self, change: str) -> bool:
        """Whether the journal says `do` *change*."""
        return any(row["event"] == "do" and row["change"] == change for row in self.journal)

    def told(self, step: str) -> bool:
        """Whether that step of the run of show is over."""
        file = self.report / "evidence.jsonl"
        if self.report == self.before or not file.exists():
            return False
        return f'"name": "{step}"' in file.read_text()

    def is_at(self, place: str) -> bool:
        """Whether its team's test is there."""
        return (self.folder / f"at {place}").exists()

    def hears(self, words: str) -> bool:
        """Whether the terminal has said *words*."""
        os.set_blocking(self.terminal, False)
        with suppress(BlockingIOError):
            self.heard += os.read(self.terminal, 65536).decode(errors="replace")
        return words in self.heard


def family(pid: int) -> dict[int, list[str]]:
    """The living processes below *pid*, with their words."""
    parents: dict[int, int] = {}
    words: dict[int, list[str]] = {}
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(each.name)] = int((each / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words[int(each.name)] = (each / "cmdline").read_bytes().decode(errors="replace").split("\0")
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {each: words[each] for each in found - {pid} if each in words}


def compose_ups(words: dict[int, list[str]], project: str) -> list[int]:
    """Which of these processes are a `docker compose up` of *project*."""
    return [
        pid
        for pid, each in words.items()
        if {project, "up"} <= set(each) and each[0].rsplit("/", 1)[-1].startswith("docker")
    ]


# --- the points --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Point:
    """A moment of the run of show: how one knows that it has come, and who is killed in it."""

    name: str
    reached: Callable[[Run], bool]
    victims: tuple[str, ...] = ("session",)
    """`session`; `step`: the processes that it has started, as when its container dies; `guard`."""
    arguments: tuple[str, ...] = SWITCH
    migrate: bool = False
    holds: str = ""
    """Where the team's test waits."""
    fails: str = ""
    """Where the team's test fails."""
    asks: bool = False
    """Whether a person is asked at a terminal; else the go was given before."""
    kept: bool = False
    """Whether the release is committed by then, and stays."""
    command: tuple[str, ...] = ()
    """A command in place of a session."""

    def __str__(self) -> str:
        return self.name


def does(change: str) -> Callable[[Run], bool]:
    """When the journal says `do` *change*."""
    return lambda run: run.does(change)


def told(step: str) -> Callable[[Run], bool]:
    """When that step is over, and what follows it goes on."""
    return lambda run: run.told(step)


def is_at(place: str) -> Callable[[Run], bool]:
    """When the team's test is there."""
    return lambda run: run.is_at(place)


def drains(run: Run) -> bool:
    """When the gate after the switch has passed, while a user of the old colour still waits."""
    if run.is_at("gate") and run.user is None:
        run.user = http.client.HTTPConnection("127.0.0.1", run.stand.ports["proxy"], timeout=60)
        run.user.request("GET", "/slow?seconds=50")
        (run.folder / "hold gate").unlink()
    return run.is_at("again")


def watches(run: Run) -> bool:
    """When the old colour is drained, after which it watches."""
    return run.told(f"drain {run.live}")


def puts_back(run: Run) -> bool:
    """When the session's own take-back has removed the container and starts the one from before."""
    words = family(run.process.pid)
    put_back = any("putback.sh" in " ".join(each) for each in words.values())
    return put_back and bool(compose_ups(words, run.stand.project(run.live)))


def is_committed(run: Run) -> bool:
    """When the release is closed; the old colour is being stopped."""
    return bool(run.release) and (run.stand.state / f"closed.{run.release}").exists()


ALL = ("session", "step", "guard")
# In the order of the run of show. What `do` stands before is generated of each change, and a test holds that none
# is missing.
POINTS = (
    Point("do snapshot", does("snapshot"), migrate=True),
    Point("do migrate", does("migrate"), migrate=True),
    Point("do up", does("up"), ALL),
    Point("gate", is_at("gate"), holds="gate"),
    Point("go/no-go", lambda run: run.hears("go? [yes/no]"), asks=True),
    Point("do freeze", does("freeze"), ALL),
    Point("do switch", does("switch")),
    Point("proof", told("switch"), ALL),
    Point("do thaw", does("thaw")),
    Point("gate again", is_at("again"), holds="again"),
    Point("drain", drains, ("session", "guard"), holds="gate"),
    Point("watch", watches),
    Point("put-back in place", puts_back, ("session", "step"), ("--target=live",), fails="again"),
    Point("do switch of a rollback", does("switch"), command=("rollback",)),
    Point("retire", is_committed, ALL, (*SWITCH[:2], "--watch=2s"), migrate=True, kept=True),
)


# --- dying -------------------------------------------------------------------------------------------------------
@contextmanager
def running(stand: Stand, point: Point, folder: Path) -> Iterator[Run]:
    """A session that has come to *point*; whatever becomes of the block, it ends with it."""
    for each in (point.holds and f"hold {point.holds}", point.fails and f"fail {point.fails}"):
        if each:
            (folder / each).touch()
    (folder / "test_team.py").write_text(TEAM)
    if point.command:
        _warm(stand)
    status: Any = stand.status()
    live, tag = status["live"], status["colours"][status["live"]]["tag"]
    wanted = next(each for each in ((LATER,) if point.migrate else ()) + (NEXT, OLD) if each != tag)
    lines = len((stand.state / "journal.jsonl").read_text().splitlines())
    with _started(stand, point, folder, wanted) as (process, terminal):
        run = Run(
            stand, process, folder, live, tag, wanted, latest(stand.folder), lines,
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
    """Give the users another release, for a rollback that flips back to the one they had."""
    status: Any = stand.status()
    tag = next(each for each in (NEXT, OLD) if each != status["colours"][status["live"]]["tag"])
    whole = ("smoke", "checks", *SWITCH[:2], "--watch=1s", f"--deploy={tag}", "--no-migrate")
    done = stand.pytest(*whole, CUTOVER_GO=tag)
    assert done.code == 0, done.out


@contextmanager
def _started(
    stand: Stand, point: Point, folder: Path, wanted: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process, in a group of its own, and the other end of its terminal where it has one."""
    checks = ("checks",) if "--switch" in point.arguments else ()
    more = () if point.migrate else ("--no-migrate",)
    words = stand.pytest_words("smoke", str(folder), *checks, *point.arguments, f"--deploy={wanted}", *more)
    if point.command:
        words = (sys.executable, "-m", "cutover", *point.command)
    master, slave = pty.openpty()
    go = {} if point.asks else {"CUTOVER_GO": wanted}
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
    """Kill them at once; when that was (monotonic)."""
    doomed = [*family(run.process.pid)] if "step" in victims else []
    with suppress(ProcessLookupError):  # or it would start another guard
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
    """Kill who is to die; seconds until one colour serves what it must and nothing is open. A person recovers if need be."""
    stand, dead = run.stand, die(run, point.victims)
    if "guard" in point.victims and not point.kept:
        assert (stand.state / "open").exists()
        done = stand.cutover("recover")
        assert done.code == 0, done.out
    tag = run.wanted if point.kept else run.tag
    until(lambda: not (stand.state / "open").exists(), "the release is closed")
    until(lambda: stand.ask().get("version") == tag, f"{tag} serves")
    return time.monotonic() - dead


# --- afterwards --------------------------------------------------------------------------------------------------
def until(true: Callable[[], Any], what: str, session: subprocess.Popen[str] | None = None) -> None:
    """Wait until it is true; engine, guard and sessions are other processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        ended = session is not None and session.poll() is not None
        assert not ended, f"the session ended before {what}: {session.communicate()[0] if session else ''}"
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.01)


def other(colour: str) -> str:
    """The other colour."""
    return "green" if colour == "blue" else "blue"


def only_serves(stand: Stand, tag: str, colour: str | None = None) -> None:
    """Nothing is open or held, users get *tag* alone, writes too, and `status` names it, on *colour* if given."""
    until(lambda: not (stand.state / "open").exists(), "the release is closed")
    until(lambda: stand.ask().get("version") == tag, f"{tag} serves")
    assert [stand.ask().get("version") for _ in range(20)] == [tag] * 20
    status: Any = stand.status()
    live = status["live"]
    assert colour in {None, live}
    assert (status["colours"][live]["tag"], status["colours"][live]["state"]) == (tag, "healthy")
    peace = ("open", "held_by", "needs_person", "proxy")
    assert [status[each] for each in peace] == [None] * len(peace)
    assert tags(stand.running(live)) == [tag]
    assert sorted(each.name for each in stand.marker.iterdir()) == sorted(["here", live])
    assert (
        subprocess.run(("flock", "--nonblock", str(stand.state / "hand"), "true"), check=False).returncode
        == 0
    )
    assert stand.docker("ps", "--quiet", "--filter", f"name=^{stand.name}-migrate$") == ""


def report_of(run: Run) -> dict[str, Any]:
    """What `cutover report` makes of the session that was killed: a page, and the ending that it shows."""
    assert run.report != run.before, "reports/latest is not the session that died"
    done = run.stand.cutover("report", str(run.report), "--json")
    assert done.code == 0, done.out
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    assert run.wanted in Path(found["report"]).read_text()
    return found


def as_it_must(run: Run, point: Point) -> None:
    """After a death at *point*: what serves, what `status` says, what the idle colour runs, and a report."""
    stand, idle = run.stand, other(run.live)
    only_serves(stand, run.wanted if point.kept else run.tag, idle if point.kept else run.live)
    if not point.kept:
        assert tags(stand.running(idle)) == run.idle
    if point.command:  # it has no report of its own
        assert stand.cutover("retire").code == 0
        return
    found = report_of(run)
    assert (found["ending"], found["lost"]) == ("INCONCLUSIVE", 0)
