"""Run the command of `[hooks]` when something happens; its failure is reported and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cutover.core.config import Settings
from cutover.core.evidence import Evidence
from cutover.core.masking import MASK
from cutover.core.text import near
from cutover.release.colors import Situation
from cutover.release.plan import both_times, zone_of
from cutover.release.state import who
from cutover.release.transaction import Reporter
from cutover.system import process


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
    variables = dict(os.environ if environment is None else environment)
    variables |= hook_variables(settings, event, datetime.now(UTC))
    cwd = str(settings.source.parent)
    done = process.run(wanted.command, deadline_s=wanted.budget, environment=variables, cwd=cwd)
    return None if done.ok else f"the notice {event.name!r} was not sent: {done.last_line}"


def send_event(
    situation: Situation, report: Reporter, name: str, text: str, exit_code: int | None = None
) -> None:
    """Run the hook for the event *name* of this session; a failure is one line of the report."""
    color, before = situation.target.color or "", situation.before.tag or ""
    page = report_path(report.evidence)
    event = HookEvent(name, text, situation.tag, before, color, who(), page, exit_code)
    failed = run_hook(situation.settings, event)
    if failed:
        report.line("", "notice", failed, None, "unknown")


def report_path(evidence: Evidence) -> str:
    """The path of the report's page as it is printed; empty if no report is written."""
    return str(near(evidence.file.parent / "report.html")) if evidence.file else ""
