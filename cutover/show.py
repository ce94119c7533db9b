"""The run of show as people read it: its moments, owners and times, and the question before the switch."""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutover.core.config import Settings
    from cutover.core.config_schema import Approval

MOMENTS = {
    "T-15m": (timedelta(minutes=-15), "preflight, snapshot, way back on the restored copy"),
    "T-10m": (timedelta(minutes=-10), "migrate, deploy to the idle color, gate"),
    "T-0": (timedelta(), "go/no-go, switch, proof, gate again, drain"),
    "T+15m": (timedelta(minutes=15), "watch, keep warm or retire, notice"),
}
SAID_YES = frozenset({"y", "yes", "go"})
PATIENCE_S = 1800.0
GO = "CUTOVER_APPROVED_TAG"
TERMINAL = Path("/dev/tty")


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether to go on, and who or what said so."""

    go: bool
    why: str


def zone_of(show: Approval) -> ZoneInfo | None:
    """The team's own time zone, None when only UTC is wanted."""
    return ZoneInfo(show.time_zone) if show.time_zone else None


def both_times(at: datetime, zone: ZoneInfo | None) -> str:
    """`16:10 UTC`, and beside it the local time, with its date where that is another one."""
    utc = at.astimezone(UTC)
    if zone is None:
        return f"{utc:%H:%M} UTC"
    local = at.astimezone(zone)
    day = "" if local.date() == utc.date() else f" on {local:%a} {local.day} {local:%b}"
    return f"{utc:%H:%M} UTC ({local:%H:%M} {local.tzname()}{day})"


def timetable(show: Approval, switch_at: datetime) -> list[str]:
    """One line for each moment: when it is if the switch is at *switch_at*, what happens, whose it is."""
    zone, owners = zone_of(show), {str(moment): f"{owner}: " for moment, owner in show.owners.items()}
    return [
        f"{moment:<6} {both_times(switch_at + offset, zone)}  {owners.get(moment, '')}{what}"
        for moment, (offset, what) in MOMENTS.items()
    ]


def question(settings: Settings, color: str, tag: str, at: datetime) -> list[str]:
    """The lines above the go/no-go: what is about to happen, when, and what has to be true first."""
    owner = settings.approval.owners.get("T-0")
    lines = [
        f"T-0    {both_times(at, zone_of(settings.approval))}: switch {settings.project} to {color}, {tag}"
    ]
    lines += [f"       decides: {owner}"] if owner else []
    return [
        *lines,
        *(f"       {number}. {text}" for number, text in enumerate(settings.approval.prerequisites, 1)),
    ]


def prompts(settings: Settings) -> list[str]:
    """What is asked one by one; only yes to each of them is a go."""
    each = [f"{text}: confirmed? [yes/no] " for text in settings.approval.prerequisites]
    return [*each, "go? [yes/no] "]


def go(settings: Settings, color: str, tag: str, environment: Mapping[str, str] | None = None) -> Answer:
    """The go/no-go of the person at the terminal; without one, that of CUTOVER_APPROVED_TAG, which must name *tag*.

    An approval is for one release: a variable that a job forgot to take away is a no for the next one.
    """
    given = (os.environ if environment is None else environment).get(GO)
    if given is not None:
        return said_before(given, tag)
    lines = question(settings, color, tag, datetime.now(UTC))
    try:
        with TERMINAL.open(encoding="utf-8") as stdin, TERMINAL.open("w", encoding="utf-8") as stdout:
            return ask(lines, prompts(settings), stdin, stdout)
    except OSError:
        return Answer(go=False, why=f"nobody can be asked here: no terminal, and {GO} is not set to {tag}")


def said_before(given: str, tag: str) -> Answer:
    """The answer of an approval that was given outside of this session."""
    if given == tag:
        return Answer(go=True, why=f"go for {tag}, approved before ({GO})")
    return Answer(go=False, why=f"{GO} approves {given or 'nothing'}, not {tag}")


def ask(lines: list[str], wanted: list[str], stdin: IO[str], stdout: IO[str]) -> Answer:
    """Show *lines*, ask each of *wanted*, and stop at the first answer that is not yes; silence is a no."""
    stdout.write("\n".join(["", *lines, ""]))
    for prompt in wanted:
        stdout.write(prompt)
        stdout.flush()
        answer = reply(stdin)
        about = prompt.split(":", 1)[0] if ": confirmed?" in prompt else ""
        if answer is None:
            return Answer(go=False, why="nobody answered" + (f" ({about})" if about else ""))
        if answer.lower() not in SAID_YES:
            return Answer(go=False, why=f"not confirmed: {about}" if about else f"a person said {answer!r}")
    return Answer(go=True, why=f"go, {len(wanted) - 1} prerequisites confirmed" if len(wanted) > 1 else "go")


def reply(stdin: IO[str], patience_s: float = PATIENCE_S) -> str | None:
    """The next line without its end, None at the end of the input or of our patience."""
    try:
        descriptor = stdin.fileno()
    except OSError:
        descriptor = -1
    if descriptor >= 0 and not select.select([descriptor], [], [], patience_s)[0]:
        return None
    line = stdin.readline()
    return line.strip() if line else None
