"""Where things die: a state directory, the thing that a release changes, and stand-ins that kill in their turn."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cutover.core.change import UNDO_END, undo_script
from cutover.release.state import State, did_revert
from cutover.system import process as processes
from cutover.system.files import write_atomically
from tests.crash.acting import ID, write

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
OLD, NEW = "old\n", "new\n"
# Does what the real command does, but in the turn AT somebody is killed, before or after it. `timeout` becomes the
# real one: whoever sends a signal to its process group must find the same processes as in a release.
SHIM = """\
#!/bin/sh
n=0; if [ -e "$TURNS" ]; then read -r n <"$TURNS"; fi; n=$((n + 1)); echo "$n" >"$TURNS"
read -r _ _ _ _ group _ <"/proc/$$/stat"
die() {{
  for each in $VICTIMS; do
    case $each in
      session) kill -9 "$SESSION" ;;
      guard) read -r pid _ <"$STATE/guard.pid"; kill -9 "$pid" ;;
    esac
  done
  case " $VICTIMS " in *" step "*) kill -9 "-$group" ;; esac
}}
if [ "$n $WHEN" = "$AT before" ]; then die; fi
{run}
code=$?
if [ "$n $WHEN" = "$AT after" ]; then die; fi
exit "$code"
"""
STANDING_IN = ("flock", "cat", "sync", "mv", "timeout", "cp", "rm")


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until it is true; another process does it, and nobody tells when."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with a state directory, and a thing that says old."""

    folder: Path
    state: State
    thing: Path

    @classmethod
    def at(cls, folder: Path) -> Place:
        """A new place in *folder*."""
        made = cls(folder, State(folder / "state"), folder / "thing")
        made.thing.write_text(OLD)
        Path(f"{made.thing}.before").write_text(OLD)
        made.state.prepare()
        return made

    # --- sessions ------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def session(
        self,
        point: str = "",
        *,
        longest: float = 3600.0,
        hold_s: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[str]]:
        """A session that stops at *point*; whatever becomes of the test, it ends with it."""
        process = subprocess.Popen(
            (sys.executable, "-m", "tests.crash.acting", str(self.state.root), str(self.thing), point, f"{longest:g}",
             *([] if hold_s is None else [f"{hold_s:g}"])),
            cwd=REPOSITORY, env=os.environ | dict(environment or {}), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        with process:
            try:
                if point:
                    assert reads(process, f"at {point}"), f"never at {point}"
                yield process
            finally:
                process.kill()

    def shims(self, at: int, when: str, *victims: str) -> dict[str, str]:
        """The environment in which *victims* die at the command number *at* of a step."""
        folder = self.folder / "shims"
        folder.mkdir(exist_ok=True)
        (self.folder / "turns").unlink(missing_ok=True)
        for name in STANDING_IN:
            real = shutil.which(name, path=processes.FIXED_PATH)
            path = folder / name
            path.write_text(SHIM.format(run=f'{"exec " if name == "timeout" else ""}{real} "$@"'))
            path.chmod(0o755)
        return {
            "SHIMS": str(folder), "TURNS": str(self.folder / "turns"), "AT": str(at), "WHEN": when,
            "VICTIMS": " ".join(victims), "STATE": str(self.state.root),
        }  # fmt: skip

    def left_open(self, undo: str | None = None) -> None:
        """A release whose session is gone, its change done, without a guard."""
        text = f"{undo}{UNDO_END}\n" if undo else undo_script([write(self.thing)])
        write_atomically(self.state.root / "undo.sh", text)
        write_atomically(self.state.root / "open", f"{ID}\n")
        self.thing.write_text(NEW)

    # --- what is there -------------------------------------------------------------------------------------------
    @property
    def guard(self) -> int:
        """The guard's process id."""
        return int((self.state.root / "guard.pid").read_text().split()[0])

    @property
    def turns(self) -> int:
        """How many commands the stand-ins have run."""
        return int((self.folder / "turns").read_text())

    @property
    def is_closed(self) -> bool:
        """Whether the release was committed or reverted."""
        return self.state.open_release() is None and (self.state.root / f"closed.{ID}").exists()

    @property
    def says(self) -> str:
        """What the thing says."""
        return self.thing.read_text()

    def hand_is_free(self) -> bool:
        """Whether no step and no revert runs."""
        argv = ("flock", "--nonblock", str(self.state.root / "step.lock"), "true")
        return subprocess.run(argv, check=False).returncode == 0

    def assert_reverted(self) -> None:
        """What was there is there again, once and for all: reverting again, or the undo alone, changes nothing."""
        until(lambda: self.is_closed, "the release is reverted")
        until(self.hand_is_free, "the revert ends")
        again = self.state.revert(ID)
        assert again.ok
        assert not did_revert(again, ID)
        self._assert_old()
        for _ in range(2):
            subprocess.run(("sh", "-eu", str(self.state.root / "undo.sh")), check=True)
        self._assert_old()
        assert self.state.needs_operator() is None

    def _assert_old(self) -> None:
        assert self.says == OLD
        assert not Path(f"{self.thing}.second").exists()

    def assert_kept(self) -> None:
        """The release is committed, and its guard has gone without touching it."""
        until(lambda: not lives(self.guard), "the guard goes")
        assert self.is_closed
        assert self.says == NEW
        assert self.state.needs_operator() is None


def reads(process: subprocess.Popen[str], wanted: str) -> bool:
    """Read what a session says until it says *wanted*; False when it ends before."""
    assert process.stdout is not None
    return any(line.strip() == wanted for line in process.stdout)


def go_on(process: subprocess.Popen[str]) -> None:
    """Let a session that has stopped at its point go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """End a process, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
