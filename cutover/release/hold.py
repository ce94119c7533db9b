"""A held release: it passed everything and stays open; its guard reverts it at the deadline unless it is confirmed.

The first line of its file is read by guard.sh, the rest is the JSON text of what a confirmation writes down.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cutover.core.text import duration, utc
from cutover.release.history import Unrecorded

HOLD_FILE = "held"
GUARD_SLOTS = ("guard.1", "guard.2")
"""The locks of the two guards of a held release: whoever finds the other's lock free starts it again."""
BOOT_ID, UPTIME = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/uptime")


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time that can be compared although the clock is set, or the host boots, in between."""

    epoch_s: float
    """Seconds since 1970 by the clock."""
    boot: str
    """The ID of the kernel's boot."""
    uptime_s: float
    """Seconds since that boot, also those in which the host was suspended."""

    @classmethod
    def now(cls) -> Moment:
        """The current moment."""
        boot = BOOT_ID.read_text(encoding="ascii").strip()
        return cls(time.time(), boot, float(UPTIME.read_text(encoding="ascii").split()[0]))


@dataclass(frozen=True, slots=True)
class Hold:
    """A release that is open until *seconds* after *begun*, and what its confirmation writes down."""

    left: Unrecorded
    begun: Moment
    seconds: float
    old: str | None = None
    """The color that was live before a switch, which a confirmation retires."""

    @property
    def release(self) -> str:
        """The id of the release."""
        return self.left.release

    def left_s(self, now: Moment) -> float:
        """Seconds until the deadline, negative after it.

        A step of the clock moves no deadline: within one boot the uptime decides, after a reboot the clock.
        """
        same_boot = now.boot == self.begun.boot and now.uptime_s >= self.begun.uptime_s
        passed = now.uptime_s - self.begun.uptime_s if same_boot else now.epoch_s - self.begun.epoch_s
        return self.seconds - passed

    def until(self, now: Moment) -> float:
        """The deadline in seconds since 1970, by the clock of *now*."""
        return now.epoch_s + self.left_s(now)

    def line(self, now: Moment) -> str:
        """`sha-2 on green is held by ana@web-1 until 2026-01-31 04:35:10 UTC (for 12 min 3 s)`."""
        facts, left = self.left.facts, self.left_s(now)
        rest = f"for {duration(left)}" if left > 0 else "the time is over"
        held = f"{facts['tag']} on {facts['color']} is held by {facts['who']}"
        return f"{held} until {utc(self.until(now))} ({rest})"

    @property
    def way_out(self) -> str:
        """The two commands that end it."""
        return f"`cutover confirm {self.release}` keeps it, `cutover rollback` reverts it"

    def as_text(self) -> str:
        """The text of its file, for `parse` and guard.sh."""
        begun = self.begun
        # In whole seconds, and never too early: a shell has no fractions.
        clock = f"{math.ceil(begun.epoch_s + self.seconds)}"
        uptimes = (f"{math.floor(begun.uptime_s)}", f"{math.ceil(begun.uptime_s + self.seconds)}")
        return f"{' '.join((self.release, clock, begun.boot, *uptimes))}\n{json.dumps(asdict(self))}\n"

    @classmethod
    def parse(cls, text: str) -> Hold:
        """The value of which *text* was made; raises ValueError, TypeError or KeyError for a damaged one."""
        row = json.loads(text.partition("\n")[2])
        return cls(Unrecorded.of(row["left"]), Moment(**row["begun"]), row["seconds"], row["old"])
