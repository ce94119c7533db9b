"""The changes of a release: each a value of words that do it and of shell lines that revert it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

Argv = tuple[str, ...]
SWITCH = "switch"
PROMISE = "Reverts this release. Safe to run twice, as far as a team's own command in it (`[proxy] undo`) is."


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what it is called, the words that do it, the shell lines that undo it, and its time budget.

    Each undo line is a no-op when run twice and when the do never happened; it names files, never values.
    The lines of one change run in the order given; those of later changes run before those of earlier ones, but
    those of the switch before all: users wait for it.
    """

    name: str
    text: str
    do: Argv
    undo: tuple[str, ...]
    budget_s: float


def line(*words: str, within_s: float | None = None) -> str:
    """Words as one shell line, bounded by timeout(1) when *within_s* is given."""
    bound = ("timeout", "-k", "10", f"{within_s:g}") if within_s else ()
    return shlex.join([*bound, *words])


def undo_script(changes: Sequence[Change]) -> str:
    """The script that reverts all *changes*, the newest first; the switch before all others."""
    newest_first = [*reversed(changes)]
    blocks = [
        f"# {' '.join(f'{change.name}: {change.text}'.split())}\n" + "\n".join(change.undo)
        for change in sorted(newest_first, key=lambda each: each.name != SWITCH)
        if change.undo
    ]
    return f"# {PROMISE}\n" + "\n".join(blocks) + "\n"
