"""The timetable of a release, and the approval (go/no-go) before the switch."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

from cutover.core.config import Settings
from cutover.core.config_schema import Approval

MOMENTS = {
    "T-15m": (timedelta(minutes=-15), "preflight, snapshot, rehearsal on the restored copy"),
    "T-10m": (timedelta(minutes=-10), "migrate, deploy to the idle color, gate"),
    "T-0": (timedelta(), "go/no-go, switch, proof, gate again, drain"),
    "T+15m": (timedelta(minutes=15), "watch, keep warm or retire, notice"),
}
YES_WORDS = frozenset({"y", "yes", "go"})
ANSWER_TIMEOUT_S = 1800.0
APPROVED_TAG = "CUTOVER_APPROVED_TAG"
TERMINAL = Path("/dev/tty")


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """Whether the switch is approved, and the name of the approver or the reason of the refusal."""

    go: bool
    why: str


def zone_of(approval: Approval) -> ZoneInfo | None:
    """The time zone of the team, None if times are shown in UTC only."""
    return ZoneInfo(approval.time_zone) if approval.time_zone else None


def both_times(at: datetime, zone: ZoneInfo | None) -> str:
    """`16:10 UTC`, and the local time in parentheses, with its date if it differs."""
    utc = at.astimezone(UTC)
    if zone is None:
        return f"{utc:%H:%M} UTC"
    local = at.astimezone(zone)
    day = "" if local.date() == utc.date() else f" on {local:%a} {local.day} {local:%b}"
    return f"{utc:%H:%M} UTC ({local:%H:%M} {local.tzname()}{day})"


def timetable(approval: Approval, switch_at: datetime) -> list[str]:
    """One line for each moment: its time if the switch is at *switch_at*, its owner, what happens."""
    zone, owners = zone_of(approval), {str(moment): f"{name}: " for moment, name in approval.owners.items()}
    return [
        f"{moment:<6} {both_times(switch_at + offset, zone)}  {owners.get(moment, '')}{what}"
        for moment, (offset, what) in MOMENTS.items()
    ]


def approval_lines(settings: Settings, color: str, tag: str, at: datetime) -> list[str]:
    """The lines above the prompt: what is switched when, who decides, and the prerequisites."""
    approval = settings.approval
    owner = approval.owners.get("T-0")
    return [
        f"T-0    {both_times(at, zone_of(approval))}: switch {settings.project} to {color}, {tag}",
        *([f"       decides: {owner}"] if owner else []),
        *(f"       {number}. {text}" for number, text in enumerate(approval.prerequisites, 1)),
    ]


def ask_approval(
    settings: Settings, color: str, tag: str, environment: Mapping[str, str] | None = None
) -> ApprovalAnswer:
    """The answer at the terminal; CUTOVER_APPROVED_TAG approves instead of it, if it names *tag*.

    A variable that was left over from an earlier release therefore refuses the next one.
    """
    given = (os.environ if environment is None else environment).get(APPROVED_TAG)
    if given == tag:
        return ApprovalAnswer(go=True, why=f"go for {tag}, approved before ({APPROVED_TAG})")
    if given is not None:
        return ApprovalAnswer(go=False, why=f"{APPROVED_TAG} approves {given or 'nothing'}, not {tag}")
    lines = approval_lines(settings, color, tag, datetime.now(UTC))
    try:
        with TERMINAL.open(encoding="utf-8") as stdin, TERMINAL.open("w", encoding="utf-8") as stdout:
            return ask_each(lines, settings.approval.prerequisites, stdin, stdout)
    except OSError:
        why = f"nobody can be asked here: no terminal, and {APPROVED_TAG} is not set to {tag}"
        return ApprovalAnswer(go=False, why=why)


def ask_each(
    lines: Sequence[str], prerequisites: Sequence[str], stdin: IO[str], stdout: IO[str]
) -> ApprovalAnswer:
    """Show *lines*, ask for each prerequisite and for the switch; an answer that is not yes, or none, is a no."""
    stdout.write("\n".join(["", *lines, ""]))
    for about in (*prerequisites, ""):
        stdout.write(f"{about}: confirmed? [yes/no] " if about else "go? [yes/no] ")
        stdout.flush()
        answer = read_answer(stdin)
        if answer is None:
            return ApprovalAnswer(go=False, why=f"nobody answered ({about})" if about else "nobody answered")
        if answer.lower() not in YES_WORDS:
            why = f"not confirmed: {about}" if about else f"a person said {answer!r}"
            return ApprovalAnswer(go=False, why=why)
    confirmed = f", {len(prerequisites)} prerequisites confirmed" if prerequisites else ""
    return ApprovalAnswer(go=True, why=f"go{confirmed}")


def read_answer(stdin: IO[str], patience_s: float = ANSWER_TIMEOUT_S) -> str | None:
    """The next line without its end; None at the end of the input or after *patience_s*."""
    with contextlib.suppress(OSError):  # without a descriptor the next line is there at once
        if not select.select([stdin], [], [], patience_s)[0]:
            return None
    line = stdin.readline()
    return line.strip() if line else None
