"""The timetable of a release, and the approval (go/no-go) before the switch."""

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
YES_WORDS = frozenset({"y", "yes", "go"})
ANSWER_TIMEOUT_S = 1800.0
APPROVED_TAG = "CUTOVER_APPROVED_TAG"
TERMINAL = Path("/dev/tty")


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """Whether the switch is approved, and by whom or why not."""

    go: bool
    why: str


def zone_of(show: Approval) -> ZoneInfo | None:
    """The time zone of the team, None if times are shown in UTC only."""
    return ZoneInfo(show.time_zone) if show.time_zone else None


def both_times(at: datetime, zone: ZoneInfo | None) -> str:
    """`16:10 UTC`, and the local time in parentheses, with its date if it differs."""
    utc = at.astimezone(UTC)
    if zone is None:
        return f"{utc:%H:%M} UTC"
    local = at.astimezone(zone)
    day = "" if local.date() == utc.date() else f" on {local:%a} {local.day} {local:%b}"
    return f"{utc:%H:%M} UTC ({local:%H:%M} {local.tzname()}{day})"


def timetable(show: Approval, switch_at: datetime) -> list[str]:
    """One line for each moment: its time if the switch is at *switch_at*, its owner, what happens."""
    zone, owners = zone_of(show), {str(moment): f"{owner}: " for moment, owner in show.owners.items()}
    return [
        f"{moment:<6} {both_times(switch_at + offset, zone)}  {owners.get(moment, '')}{what}"
        for moment, (offset, what) in MOMENTS.items()
    ]


def approval_lines(settings: Settings, color: str, tag: str, at: datetime) -> list[str]:
    """The lines above the prompt: what is switched when, who decides, and the prerequisites."""
    owner = settings.approval.owners.get("T-0")
    lines = [
        f"T-0    {both_times(at, zone_of(settings.approval))}: switch {settings.project} to {color}, {tag}"
    ]
    lines += [f"       decides: {owner}"] if owner else []
    return [
        *lines,
        *(f"       {number}. {text}" for number, text in enumerate(settings.approval.prerequisites, 1)),
    ]


def approval_prompts(settings: Settings) -> list[str]:
    """The prompts, one for each prerequisite and the last for the switch; each must be answered with yes."""
    each = [f"{text}: confirmed? [yes/no] " for text in settings.approval.prerequisites]
    return [*each, "go? [yes/no] "]


def ask_approval(
    settings: Settings, color: str, tag: str, environment: Mapping[str, str] | None = None
) -> ApprovalAnswer:
    """The answer at the terminal; CUTOVER_APPROVED_TAG approves instead of it, if it names *tag*.

    A variable that was left over from an earlier release therefore refuses the next one.
    """
    given = (os.environ if environment is None else environment).get(APPROVED_TAG)
    if given is not None:
        return judge_approved_tag(given, tag)
    lines = approval_lines(settings, color, tag, datetime.now(UTC))
    try:
        with TERMINAL.open(encoding="utf-8") as stdin, TERMINAL.open("w", encoding="utf-8") as stdout:
            return ask_each(lines, approval_prompts(settings), stdin, stdout)
    except OSError:
        return ApprovalAnswer(
            go=False, why=f"nobody can be asked here: no terminal, and {APPROVED_TAG} is not set to {tag}"
        )


def judge_approved_tag(given: str, tag: str) -> ApprovalAnswer:
    """The answer of CUTOVER_APPROVED_TAG=*given* for the release of *tag*."""
    if given == tag:
        return ApprovalAnswer(go=True, why=f"go for {tag}, approved before ({APPROVED_TAG})")
    return ApprovalAnswer(go=False, why=f"{APPROVED_TAG} approves {given or 'nothing'}, not {tag}")


def ask_each(lines: list[str], wanted: list[str], stdin: IO[str], stdout: IO[str]) -> ApprovalAnswer:
    """Show *lines* and each of *wanted*; the first answer that is not yes, or none within the timeout, is a no."""
    stdout.write("\n".join(["", *lines, ""]))
    for prompt in wanted:
        stdout.write(prompt)
        stdout.flush()
        answer = read_answer(stdin)
        about = prompt.split(":", 1)[0] if ": confirmed?" in prompt else ""
        if answer is None:
            return ApprovalAnswer(go=False, why="nobody answered" + (f" ({about})" if about else ""))
        if answer.lower() not in YES_WORDS:
            return ApprovalAnswer(
                go=False, why=f"not confirmed: {about}" if about else f"a person said {answer!r}"
            )
    return ApprovalAnswer(
        go=True, why=f"go, {len(wanted) - 1} prerequisites confirmed" if len(wanted) > 1 else "go"
    )


def read_answer(stdin: IO[str], patience_s: float = ANSWER_TIMEOUT_S) -> str | None:
    """The next line without its end; None at the end of the input or after *patience_s*."""
    try:
        descriptor = stdin.fileno()
    except OSError:
        descriptor = -1
    if descriptor >= 0 and not select.select([descriptor], [], [], patience_s)[0]:
        return None
    line = stdin.readline()
    return line.strip() if line else None
