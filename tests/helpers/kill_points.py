"""The moments of a run of show at which somebody dies: a session under way, and how a test knows that it has come there."""

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

PATIENCE_S = 120.0
SWITCH = ("--target=idle", "--switch", "--watch=60s")


# --- a session under way -----------------------------------------------------------------------------------------
@dataclass(slots=True)
class Run:
    """A session, or a command, that is about to die."""

    stand: Stand
    process: subprocess.Popen[str]
    folder: Path
    """Where its team's test lies, and says where it is."""
    live: str
    """The color that had the traffic when it began."""
    tag: str
    """What users got then."""
    wanted: str
    """What it releases."""
    before: Path
    """The report of the session before it."""
    lines: int
    """How long the journal was before it."""
    idle: Sequence[str] = ()
    """The images that ran on the idle color."""
    terminal: int = -1
    heard: str = ""
    user: http.client.HTTPConnection | None = None
    """A user of the old color, whose answer takes longer than the session lives."""

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
    """When the gate after the switch has passed, while a user of the old color still waits."""
    if run.is_at("gate") and run.user is None:
        run.user = http.client.HTTPConnection("127.0.0.1", run.stand.ports["proxy"], timeout=60)
        run.user.request("GET", "/slow?seconds=50")
        (run.folder / "hold gate").unlink()
    return run.is_at("again")


def watches(run: Run) -> bool:
    """When the old color is drained, after which it watches."""
    return run.told(f"drain {run.live}")


def puts_back(run: Run) -> bool:
    """When the session's own revert has removed the container and starts the one from before."""
    words = family(run.process.pid)
    put_back = any("restore-service.sh" in " ".join(each) for each in words.values())
    return put_back and bool(compose_ups(words, run.stand.project(run.live)))


def is_committed(run: Run) -> bool:
    """When the release is closed; the old color is being stopped."""
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


# --- afterwards --------------------------------------------------------------------------------------------------
def until(true: Callable[[], Any], what: str, session: subprocess.Popen[str] | None = None) -> None:
    """Wait until it is true; engine, guard and sessions are other processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        ended = session is not None and session.poll() is not None
        assert not ended, f"the session ended before {what}: {session.communicate()[0] if session else ''}"
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.01)


def other(color: str) -> str:
    """The other color."""
    return "green" if color == "blue" else "blue"
