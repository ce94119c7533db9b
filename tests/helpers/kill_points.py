"""Points of a release at which its processes are killed, and how a test detects that a session has reached one."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.stand import Stand, latest

PATIENCE_S = 300.0
SWITCH = ("--target=idle", "--switch", "--watch=60s")


# --- a running session -------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Run:
    """A session or command that is about to be killed."""

    stand: Stand
    process: subprocess.Popen[str]
    folder: Path
    """Folder of the team's test, which creates files there to report its progress."""
    live: str
    """The live color before the release."""
    tag: str
    """The live tag before the release."""
    wanted: str
    """The tag to release."""
    before: Path
    """The report folder of the previous session."""
    lines: int
    """Number of journal lines before the release."""
    idle: Sequence[str] = ()
    """Images that ran on the idle color."""
    terminal: int = -1
    heard: str = ""
    user: http.client.HTTPConnection | None = None
    """Connection of a user whose request to the old color outlasts the session."""

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Journal entries of this release so far."""
        text = (self.stand.state / "journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()[self.lines :] if line.endswith("}")]

    @property
    def report(self) -> Path:
        """Folder of the session's report."""
        return latest(self.stand.folder)

    @property
    def release(self) -> str:
        """Id of the release; empty before the first change."""
        return next((str(row["release"]) for row in self.journal if row["event"] == "open"), "")

    def does(self, change: str) -> bool:
        """Whether the journal has `do` for *change*."""
        return any(row["event"] == "do" and row["change"] == change for row in self.journal)

    def told(self, step: str) -> bool:
        """Whether the step has ended, according to the evidence."""
        file = self.report / "evidence.jsonl"
        if self.report.name <= self.before.name or not file.exists():  # they begin with the time
            return False
        return f'"name": "{step}"' in file.read_text()

    def is_at(self, place: str) -> bool:
        """Whether the team's test has reached *place*."""
        return (self.folder / f"at {place}").exists()

    def hears(self, words: str) -> bool:
        """Whether *words* have appeared on the terminal."""
        os.set_blocking(self.terminal, False)
        with suppress(BlockingIOError):
            self.heard += os.read(self.terminal, 65536).decode(errors="replace")
        return words in self.heard


def family(pid: int) -> dict[int, list[str]]:
    """Descendants of *pid* that are running, with their arguments."""
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
    """The processes that are a `docker compose up` of *project*."""
    return [
        pid
        for pid, each in words.items()
        if {project, "up"} <= set(each) and each[0].rsplit("/", 1)[-1].startswith("docker")
    ]


# --- the points --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Point:
    """A point of a release: how to detect it, and which processes are killed there."""

    name: str
    reached: Callable[[Run], bool]
    victims: tuple[str, ...] = ("session",)
    """`session`; `step`: its child processes, which also die if its container is killed; `guard`."""
    arguments: tuple[str, ...] = SWITCH
    migrate: bool = False
    holds: str = ""
    """Place where the team's test waits."""
    fails: str = ""
    """Place where the team's test fails."""
    asks: bool = False
    """Whether approval is requested on a terminal; otherwise it is given in advance."""
    kept: bool = False
    """Whether the release is committed at this point and stays live."""
    command: tuple[str, ...] = ()
    """A command to run instead of a session."""

    def __str__(self) -> str:
        return self.name


def does(change: str) -> Callable[[Run], bool]:
    """Condition: the journal has `do` for *change*."""
    return lambda run: run.does(change)


def told(step: str) -> Callable[[Run], bool]:
    """Condition: *step* has ended."""
    return lambda run: run.told(step)


def is_at(place: str) -> Callable[[Run], bool]:
    """Condition: the team's test has reached *place*."""
    return lambda run: run.is_at(place)


def drains(run: Run) -> bool:
    """Condition: the gate after the switch has passed while a request to the old color is still in flight."""
    if run.is_at("gate") and run.user is None:
        run.user = http.client.HTTPConnection("127.0.0.1", run.stand.ports["proxy"], timeout=60)
        run.user.request("GET", "/slow?seconds=50")
        (run.folder / "hold gate").unlink()
    return run.is_at("again")


def watches(run: Run) -> bool:
    """Condition: the old color is drained and the watch has begun."""
    return run.told(f"drain {run.live}")


def puts_back(run: Run) -> bool:
    """Condition: the session's revert has removed the new container and is starting the previous one."""
    words = family(run.process.pid)
    put_back = any("restore-service.sh" in " ".join(each) for each in words.values())
    return put_back and bool(compose_ups(words, run.stand.project(run.live)))


def is_committed(run: Run) -> bool:
    """Condition: the release is closed and the old color is being stopped."""
    return bool(run.release) and (run.stand.state / f"closed.{run.release}").exists()


ALL = ("session", "step", "guard")
# In the order of a release. A test verifies that every change has a `do` point.
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


# --- afterwards --------------------------------------------------------------------------------------------------
def until(true: Callable[[], Any], what: str, session: subprocess.Popen[str] | None = None) -> None:
    """Poll *true* until it holds; fail after the deadline or if *session* ends first."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        ended = session is not None and session.poll() is not None
        assert not ended, f"the session ended before {what}: {session.communicate()[0] if session else ''}"
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.01)


def other(color: str) -> str:
    """The other color."""
    return "green" if color == "blue" else "blue"
