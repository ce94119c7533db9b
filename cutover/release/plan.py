"""What a release will do and how it is undone, as `--plan` prints it; its timetable and the approval (go/no-go)."""

from __future__ import annotations

import contextlib
import json
import os
import select
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

from cutover.core.config import Settings
from cutover.core.config_schema import Approval
from cutover.core.masking import STARS
from cutover.release.changes import PreviousRelease
from cutover.release.colors import Situation, main_container
from cutover.system import compose
from cutover.system.compose import Rendered

LEAD = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What a deploy will run, and how what runs on the color now is restored."""

    tag: str
    rendered: Rendered
    images: Mapping[str, str]
    """Service -> the ID of its image."""
    previous: PreviousRelease | None
    """None if nothing runs there, or if it cannot be restored."""
    unrestorable: str = ""
    """Why what runs there cannot be restored, with --allow-no-rollback; a failed release then stays."""

    @property
    def undo(self) -> str:
        """What a revert does if there is no previous release."""
        if self.unrestorable:
            return f"none, a failed release stays: {self.unrestorable}"
        return "remove it, nothing ran there before"


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """The result of the preflight."""

    deploy: DeployPlan | None
    """None without --deploy."""
    old: PreviousRelease | None
    """How the live color is started again before traffic goes back to it; None without --switch."""


def plan_lines(situation: Situation, plan: ReleasePlan) -> Iterator[str]:
    """One line for each thing that would be done or undone, and for each difference to what runs now."""
    request, live = situation.request, situation.before.live
    if request.switch:
        # Counted from now; each moment comes as soon as the one before it is done.
        yield from timetable(situation.settings.approval, datetime.now(UTC) + LEAD)
    if plan.deploy is not None:
        yield from _deploy_lines(situation.settings, plan.deploy)
    if request.switch:
        yield f"would switch {live} → {situation.color}; undo: make sure {live} runs, then switch back"
    if request.rollback:
        yield "would revert everything unless every check says yes"


def _deploy_lines(settings: Settings, plan: DeployPlan) -> Iterator[str]:
    new, service = plan.rendered, settings.service
    found = main_container(settings, new.color)
    now = found.image_name if found else "nothing"
    yield f"would deploy {new.image(service)} on {new.color} (port {new.port(service)}); runs now: {now}"
    if settings.migrate:
        yield f"would migrate with: {' '.join(settings.migrate.command)}; no undo, the schema stays"
    if first := compose.one_shots_of(settings, new):
        yield f"would run {', '.join(first)} to the end first; no undo for what they change"
    if plan.previous is None:
        yield f"undo: {plan.undo}"
        return
    # From the release file, because the env file may have been edited since; a plan writes no adopted file.
    text = plan.previous.text or plan.previous.file.read_text(encoding="utf-8")
    before = Rendered(new.color, new.project, text, json.loads(text), {})
    yield from release_differences(before, new, settings)
    yield f"undo: put back {plan.previous.file.name}{without(plan.previous)}"


def without(previous: PreviousRelease) -> str:
    """What of *previous* is lost when it is restored; empty for nothing."""
    return f", without {', '.join(previous.lost)}" if previous.lost else ""


def release_differences(before: Rendered, after: Rendered, settings: Settings) -> Iterator[str]:
    """One line for each image, port and variable that changes; values are masked unless the key is unmasked."""
    for service in settings.services:
        if service not in before.model["services"]:
            yield f"{service} is new: {after.image(service)}"
            continue
        name = "" if service == settings.service else f" of {service}"
        if before.image(service) != after.image(service):
            yield f"image{name}: {before.image(service)} → {after.image(service)}"
        ports = [", ".join(str(port) for _, port in each.published(service)) for each in (before, after)]
        if ports[0] != ports[1]:
            yield f"ports{name}: {ports[0] or '(none)'} → {ports[1] or '(none)'}"
        old, new = before.environment(service), after.environment(service)
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                hidden = key not in settings.env_keys.unmasked
                shown = (STARS if hidden and key in each else each.get(key, "(none)") for each in (old, new))
                was, becomes = shown
                yield f"environment{name} {key}: {was} → {becomes}"


# --- the timetable and the approval --------------------------------------------------------------------------
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
