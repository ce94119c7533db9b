"""A session of the death matrix, run as a process of its own: real State, real shell files, one change or two.

usage: python -m tests.crash.acting STATE THING POINT MAX [HOLD]
With HOLD, in seconds, it holds the release in place of a commit. It says `at POINT` where its test wants it to stop, and goes on when a line comes in; what it did it says at the end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from cutover.core.change import Change, line
from cutover.core.text import now
from cutover.release import state as state_module
from cutover.release.history import Hold, Moment, Unrecorded
from cutover.release.state import State
from cutover.system import process

ID = "20250904T021000-7"
# Two halves with a command after each, so that a death can find the change half done.
WORDS = 'echo half >"$1"; cat "$1"; echo new >"$1"; cat "$1"'
ENVIRONMENT = ("TURNS", "AT", "WHEN", "VICTIMS", "STATE", "SESSION")
"""What the stand-ins of tests.crash.place read."""


def write(thing: Path) -> Change:
    """The first change: *thing* says new, and its undo puts back the copy that was made of it before."""
    undo = line("cp", f"{thing}.before", str(thing))
    return Change("write", "say new", ("sh", "-c", WORDS, "sh", str(thing)), (undo,), 60.0)


def second(thing: Path) -> Change:
    """The second change: a file beside *thing*."""
    path = f"{thing}.second"
    return Change("second", "a file", ("touch", path), (line("rm", "-f", path),), 60.0)


def hold(seconds: float) -> Hold:
    """A hold of the release that begins now."""
    facts = {"color": "green", "tag": "sha-2", "who": "ana@here"}
    return Hold(Unrecorded(ID, "released", facts), Moment.now(), seconds)


def main() -> None:
    """Lock, open, change, change again, commit; revert what fails, as a session does."""
    root, thing, point, longest = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])

    def at(name: str) -> None:
        if name == point:
            say(f"at {name}")
            sys.stdin.readline()

    state = State(root)
    state.prepare()
    state.acquire({"who": "ana", "what": "a test", "since": now(), "pid": os.getpid(), "host": "here"})
    state.begin(ID, longest)
    at("opened")
    _arm(at)
    changes: list[Change] = []
    for change in (write(thing), second(thing)):
        changes.append(change)
        done = state.step(ID, changes, longest)
        say(f"{change.name} {done.code}")
        if not done.ok:
            say(f"undone {state.revert(ID).code}")
            return
        at(f"did {change.name}")
    if len(sys.argv) > 5:  # HOLD
        say(f"held {state.hold(hold(float(sys.argv[5])))}")
        state.journal("held", release=ID)
        at("held")
        return
    setattr(state_module, "sync_folder", lambda _folder: at("renamed"))  # noqa: B010  # a name that it imports
    say(f"committed {state.close(ID)}")


def _arm(at: Callable[[str], None]) -> None:
    """From here on the steps, and not the guard, find the stand-ins first; each stops before it begins."""
    really = process.run

    def run(argv: process.Argv, *, deadline_s: float, cwd: str | None = None) -> process.CompletedCommand:
        if argv[1].endswith("step.sh"):
            at("undo written")
        return really(argv, deadline_s=deadline_s, cwd=cwd)

    shims = os.environ.get("SHIMS")
    if shims:
        os.environ["SESSION"] = str(os.getpid())
        process.FIXED_PATH = f"{shims}:{process.FIXED_PATH}"
        process.PASSED_ON = (*process.PASSED_ON, *ENVIRONMENT)  # type: ignore[assignment]
    process.run = run  # type: ignore[assignment]


def say(text: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
