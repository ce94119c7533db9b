"""Measure a hold while things die: seconds from its deadline until users have the old release and nothing is open.

    .venv/bin/python -m benchmarks.bench_hold [case …] [--times N] [--dry]

Each row releases under a hold of a few seconds behind a real nginx, disturbs it, and asks users, the state directory
and `cutover status`. About 20 s a time; exit code 1 if a case left anything but exactly one release.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import write
from benchmarks.common import REPO, Rows, asked, begin, built, merged, publish, say, table
from cutover.release.history import HOLD_FILE, Hold, Moment
from cutover.release.state import State
from cutover.system.files import write_atomically
from examples.stand import Stand
from tests.helpers import disks

SECTION = "hold"
HOLD_S, GOAL_S, SLOWEST_S = 8.0, 10.0, 60.0
SESSION = ("smoke", "checks", "--target=idle", "--switch", "--watch=1s")
DISK = "size=80m,nr_inodes=400"


@dataclass(slots=True)
class Held:
    """A release that is held now."""

    stand: Stand
    state: State
    hold: Hold

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.hold.left_s(Moment.now())

    def kill_guards(self, count: int) -> None:
        """Kill *count* of its two guards."""
        until(lambda: len(self.state.guards(self.hold.release)) > 1)
        for guard in self.state.guards(self.hold.release)[:count]:
            guard.kill()

    def begun(self, change: Callable[[Moment], Moment]) -> None:
        """Write down another beginning of the hold."""
        text = replace(self.hold, begun=change(self.hold.begun)).as_text()
        write_atomically(self.state.root / HOLD_FILE, text)

    def recover(self) -> None:
        """Run `cutover recover`, as the unit at boot does."""
        said = self.stand.cutover("recover")
        if said.code:
            raise RuntimeError(said.out)


def nothing(_held: Held) -> None:
    """Nobody confirms it."""


def one_guard(held: Held) -> None:
    """Kill a guard."""
    held.kill_guards(1)


def both_guards(held: Held) -> None:
    """Kill both guards; an operator runs `cutover recover`."""
    held.kill_guards(2)
    held.recover()


def reboot(held: Held) -> None:
    """Kill both guards, let the uptime begin anew, and run what runs at boot."""
    held.kill_guards(2)
    held.begun(lambda begun: replace(begun, boot="the boot before", uptime_s=begun.uptime_s + 1e6))
    held.recover()


def late_reboot(held: Held) -> None:
    """As above, and the host is up again only after the deadline."""
    held.kill_guards(2)
    held.begun(lambda begun: replace(begun, boot="the boot before", uptime_s=begun.uptime_s + 1e6))
    time.sleep(max(0.0, held.left_s()))
    held.recover()


def clock_ahead(held: Held) -> None:
    """Let the clock be another one by a day than it was."""
    held.begun(lambda begun: replace(begun, epoch_s=begun.epoch_s - 86400))


def clock_back(held: Held) -> None:
    """As above, in the other direction."""
    held.begun(lambda begun: replace(begun, epoch_s=begun.epoch_s + 86400))


def full_disk(held: Held) -> None:
    """Fill the disk of the state directory."""
    until(lambda: len(held.state.guards(held.hold.release)) > 1)
    disks.fill(held.state.root.parent)


def confirmed(held: Held) -> None:
    """Confirm it in time."""
    said = held.stand.cutover("confirm", held.hold.release)
    if said.code:
        raise RuntimeError(said.out)


def at_the_deadline(held: Held) -> None:
    """Confirm it in the second of the deadline, each time at another moment of it."""
    shift = (time.time() * 7) % 1.0
    time.sleep(max(0.0, held.left_s() - 0.6 + shift))
    held.stand.cutover("confirm", held.hold.release)


CASES: dict[str, tuple[str, Callable[[Held], None]]] = {
    "nobody": ("nothing dies, nobody confirms", nothing),
    "session": ("the session is killed as soon as it holds", nothing),
    "guard": ("one guard is killed", one_guard),
    "guards": ("both guards are killed, then `cutover recover`", both_guards),
    "reboot": ("the host reboots in time, `cutover recover` at boot", reboot),
    "late reboot": ("the host is back after the deadline", late_reboot),
    "full disk": ("the disk of the state is full", full_disk),
    "clock ahead": ("the clock is set ahead by a day", clock_ahead),
    "clock back": ("the clock is set back by a day", clock_back),
    "confirm": ("confirmed in time", confirmed),
    "deadline": ("confirmed in the second of the deadline", at_the_deadline),
}


def until(true: Callable[[], bool], most_s: float = SLOWEST_S) -> bool:
    """Wait until it is true; False after *most_s*."""
    deadline = time.monotonic() + most_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def held_release(stand: Stand, tag: str, *, kill: bool) -> Held:
    """Release *tag* under a hold; with *kill* its session is killed as soon as that is written down."""
    state = State(stand.state)
    words = (*SESSION, f"--deploy={tag}", f"--hold={HOLD_S:g}s")
    if kill:
        session = stand.start(*words)
        until(lambda: state.held() is not None or session.poll() is not None, 120.0)
        if state.held() is None:
            raise RuntimeError(session.communicate(timeout=SLOWEST_S)[0])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session.pid, signal.SIGKILL)
        session.wait()
    else:
        done = stand.pytest(*words)
        if done.code or not re.search(r"^HELD  until", done.out, re.MULTILINE):
            raise RuntimeError(done.out)
    hold = state.held()
    if hold is None:
        raise RuntimeError("nothing is held")
    return Held(stand, state, hold)


def measure(stand: Stand, name: str, old: str, new: str) -> tuple[float | None, str]:
    """Seconds from the deadline until the old release is back, None if the new one stays; and what is wrong."""
    _, disturb = CASES[name]
    held = held_release(stand, new, kill=name == "session")
    disturb(held)
    kept = name == "confirm" or (name == "deadline" and held.stand.ask()["version"] == new and not until(
        lambda: stand.ask()["version"] == old, 5.0
    ))  # fmt: skip
    wanted = new if kept else old
    served = until(lambda: stand.ask()["version"] == wanted)
    seconds = None if kept else -held.left_s()
    closed = until(lambda: held.state.open_release() is None)
    (held.state.root.parent / "full").unlink(missing_ok=True)
    for each in held.state.root.parent.glob("full*"):
        each.unlink()
    status = stand.status()
    wrong = [
        *([] if served else [f"users get {stand.ask()['version']}"]),
        *([] if closed else ["it is still open"]),
        *([] if status["live"] == ("green" if kept else "blue") else [f"status says {status['live']}"]),
        *([] if seconds is None or seconds <= GOAL_S else [f"{seconds:.1f} s after the deadline"]),
        *([] if seconds is None or seconds >= 0 or name == "deadline" else ["before the deadline"]),
    ]
    if kept:
        back = stand.cutover("rollback")
        wrong += [back.out] if back.code else []
    return seconds, "; ".join(wrong)


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    found = [(text, rows[name]) for name, (text, _) in CASES.items() if name in rows]
    times = sum(int(row["times"]) for _, row in found)
    good = times - sum(len(row["wrong"]) for _, row in found)
    cells = [
        (
            text,
            row["times"],
            f"{row['kept']}",
            f"{row['times'] - row['kept']}",
            "" if row["slowest"] is None else f"{row['slowest']:.1f} s",
            "; ".join(row["wrong"]) or "nothing",
        )
        for text, row in found
    ]
    return [
        "## Hold",
        "",
        f"`python -m benchmarks.bench_hold`: **{good} of {times} holds ended in exactly one release, the one that",
        f"`cutover status` names.** A release behind nginx is held for {HOLD_S:g} s. The last but one column is the longest",
        f"time from the deadline until users had the old release again (goal: {GOAL_S:g} s).",
        "",
        *table(("what happens", "times", "kept", "reverted", "after the deadline, at most", "wrong"), cells),
    ]


def main() -> int:
    """Measure, print and write the results; 1 if a hold ended in anything but one release."""
    given = asked(__doc__, tuple(CASES), times=3)
    where, rows = write.machine(), {}
    with tempfile.TemporaryDirectory(prefix="bench-hold-") as folder:
        old, new = built("hold-old"), built("hold-new")
        made = Stand(
            Path(folder), f"bench-hold-{os.getpid()}", min_uptime="1s", environment={"IMAGE_REPO": REPO}
        )
        with disks.small(Path(folder) / "state", DISK):
            try:
                made.make()
                begin(made, old)
                for name in given.names:
                    done = [measure(made, name, old, new) for _ in range(given.times)]
                    back = [seconds for seconds, _ in done if seconds is not None]
                    rows[name] = {
                        "times": len(done),
                        "kept": len(done) - len(back),
                        "slowest": max(back, default=None),
                        "wrong": [why for _, why in done if why],
                        "where": where,
                    }
                    say(f"{name}: {rows[name]}")
            finally:
                made.remove()
    every = merged(SECTION, rows)
    publish(SECTION, told(every), every, dry=given.dry)
    return 1 if any(row["wrong"] for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
