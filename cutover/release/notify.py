"""Run the command of `[hooks]` when something happens; its failure is reported and changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cutover.core.masking import MASK
from cutover.core.text import near
from cutover.release.approval import both_times, zone_of
from cutover.release.colors import Situation
from cutover.release.state import who
from cutover.release.transaction import Reporter
from cutover.system import process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutover.core.config import Settings


@dataclass(frozen=True, slots=True)
class HookEvent:
    """What happened, as the hook command gets it; secrets are masked."""

    name: str
    """One of the events of `[hooks] events`."""
    text: str = ""
    """One sentence, for example the last one of the session."""
    tag: str = ""
    before: str = ""
    """The tag that ran before."""
    color: str = ""
    who: str = ""
    report: str = ""
    exit_code: int | None = None


def hook_variables(settings: Settings, event: HookEvent, at: datetime) -> dict[str, str]:
    """The environment variables of the hook command; empty if unknown."""
    local = at.astimezone(zone_of(settings.approval) or UTC)
    found = {
        "EVENT": event.name,
        "PROJECT": settings.project,
        "TEXT": event.text,
        "FROM": event.before,
        "TO": event.tag,
        "COLOR": event.color,
        "WHO": event.who,
        "REPORT": event.report,
        "EXIT_CODE": "" if event.exit_code is None else str(event.exit_code),
        "TIME_UTC": at.astimezone(UTC).isoformat(timespec="seconds"),
        "TIME_LOCAL": local.isoformat(timespec="seconds"),
        "TIMES": both_times(at, zone_of(settings.approval)),
    }
    return {f"CUTOVER_{key}": MASK(value) for key, value in found.items()}


def run_hook(
    settings: Settings, event: HookEvent, environment: Mapping[str, str] | None = None
) -> str | None:
    """Run `[hooks] command` if `[hooks] events` lists the event; one line on its failure, None if it succeeded.

    The command runs in the folder of cutover.toml, with the environment of the caller and the variables of the event.
    """
    wanted = settings.hooks
    if wanted is None or event.name not in wanted.events:
        return None
    given = dict(os.environ if environment is None else environment)
    told = hook_variables(settings, event, datetime.now(UTC))
    done = process.run(
        wanted.command, deadline_s=wanted.budget, environment=given | told, cwd=str(settings.source.parent)
    )
    return None if done.ok else f"the notice {event.name!r} was not sent: {done.last_line}"


def send_event(
    situation: Situation, report: Reporter, name: str, text: str, exit_code: int | None = None
) -> None:
    """Run the hook for the event *name* of this session; a failure is one line of the report."""
    settings, target, file = situation.settings, situation.target, report.evidence.file
    shown = str(near(file.parent / "report.html")) if file else ""
    color, before = target.color or "", situation.before.tag or ""
    failed = run_hook(settings, HookEvent(name, text, situation.tag, before, color, who(), shown, exit_code))
    if failed:
        report.line("", "notice", failed, None, "unknown")
