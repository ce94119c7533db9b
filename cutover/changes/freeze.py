"""Freeze: while a file lies beside the proxy's marker, the proxy answers writes with 503 and Retry-After."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutover.changes import Change, line
from cutover.core.verdict import Verdict, no, yes

if TYPE_CHECKING:
    from pathlib import Path

    from cutover.core.config import Settings

NAME = "freeze"
BUDGET_S = 10.0


def file_of(settings: Settings) -> Path:
    """The file that the proxy looks for at each request."""
    given = settings.freeze.marker if settings.freeze else None
    return given or settings.marker / NAME


def freeze_writes(settings: Settings) -> Change:
    """The change that stops writes from the next request on; one system call, no reload."""
    path = str(file_of(settings))
    return Change(NAME, "writes are answered with 503", ("touch", "--", path), (_lift(path),), BUDGET_S)


def unfreeze_writes(settings: Settings) -> Change:
    """The change that lets writes through again; there is nothing to revert, nobody wants them frozen."""
    path = str(file_of(settings))
    return Change("thaw", "writes are answered again", ("rm", "-f", "--", path), (_lift(path),), BUDGET_S)


def _lift(path: str) -> str:
    return line("rm", "-f", "--", path, within_s=BUDGET_S)


def judge_frozen(seconds: float, longest_s: float) -> Verdict:
    """Whether the freeze is still within what users were promised."""
    seen, most = f"{seconds:.0f} s", f"at most {longest_s:.0f} s"
    if seconds <= longest_s:
        return yes(NAME, f"writes were frozen for {seen}", expected=most, seen=seen)
    return no(NAME, f"expected a freeze of {most}, it lasts for {seen}", expected=most, seen=seen)
