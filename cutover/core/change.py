"""One change of a release as a value: the argv that does it and the shell lines that undo it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Argv = tuple[str, ...]
SWITCH = "switch"
PROMISE = "Reverts this release. Safe to run twice, as far as a team's own command in it (`[proxy] undo`) is."
UNDO_END = "# end of the undo"
"""The last line: without it revert.sh refuses the script, because a part of an undo is none."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a release, and its undo.

    An undo line must do nothing if it is run twice or if the change never happened, and it names files instead of
    secret values. The lines of one change run in the given order, those of later changes before those of earlier
    ones, and those of the switch first, because users wait for it.
    """

    name: str
    text: str
    do: Argv
    undo: tuple[str, ...]
    budget_s: float
    """How long `do` may take, in seconds."""


def line(*words: str, within_s: float | None = None) -> str:
    """argv as one shell line, run by timeout(1) if *within_s* is given."""
    bound = ("timeout", "-k", "10", f"{within_s:g}") if within_s else ()
    return shlex.join([*bound, *words])


def undo_script(changes: Sequence[Change], environment: Mapping[str, str] | None = None) -> str:
    """The shell script that undoes all *changes*, with *environment* set: the switch first, then the newest first."""
    exports = [f"export {key}={shlex.quote(value)}" for key, value in (environment or {}).items()]
    newest_first = [*reversed(changes)]
    blocks = [
        f"# {' '.join(f'{change.name}: {change.text}'.split())}\n" + "\n".join(change.undo)
        for change in sorted(newest_first, key=lambda each: each.name != SWITCH)
        if change.undo
    ]
    return "\n".join((f"# {PROMISE}", *exports, *blocks, UNDO_END, ""))
