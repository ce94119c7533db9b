"""Notices: a team's own command, told what happened; its failure is reported and changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cutover.core.masking import MASK
from cutover.show import both_times, zone_of
from cutover.system import process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutover.core.config import Settings

EVENTS = ("begin", "switched", "released", "reverted", "operator_needed")


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened, in words that a chat message needs; no value in it is a secret."""

    event: str
    text: str = ""
    """One sentence, the one that the session prints last."""
    tag: str = ""
    before: str = ""
    """The tag that ran before."""
    color: str = ""
    who: str = ""
    report: str = ""
    exit_code: int | None = None


def facts(settings: Settings, notice: Notice, at: datetime) -> dict[str, str]:
    """The variables that the command gets; empty where nothing is known."""
    local = at.astimezone(zone_of(settings.approval) or UTC)
    found = {
        "EVENT": notice.event,
        "PROJECT": settings.project,
        "TEXT": notice.text,
        "FROM": notice.before,
        "TO": notice.tag,
        "COLOR": notice.color,
        "WHO": notice.who,
        "REPORT": notice.report,
        "EXIT_CODE": "" if notice.exit_code is None else str(notice.exit_code),
        "TIME_UTC": at.astimezone(UTC).isoformat(timespec="seconds"),
        "TIME_LOCAL": local.isoformat(timespec="seconds"),
        "TIMES": both_times(at, zone_of(settings.approval)),
    }
    return {f"CUTOVER_{key}": MASK(value) for key, value in found.items()}


def tell(settings: Settings, notice: Notice, environment: Mapping[str, str] | None = None) -> str | None:
    """Run `[hooks] command` for an event that it is for; what went wrong in one line, None if nothing did.

    The command runs in the folder of cutover.toml with the caller's environment, where its own secrets are.
    """
    wanted = settings.hooks
    if wanted is None or notice.event not in wanted.events:
        return None
    given = dict(os.environ if environment is None else environment)
    told = facts(settings, notice, datetime.now(UTC))
    done = process.run(
        wanted.command, deadline_s=wanted.budget, environment=given | told, cwd=str(settings.source.parent)
    )
    return None if done.ok else f"the notice {notice.event!r} was not sent: {done.last_line}"
