"""The journal of a state directory: what was done, when and by whom, as lines of JSON.

A guard needs no Python and writes none of them: what it reverted is read from its own log, and put where it belongs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from cutover.core.text import stamp
from cutover.system.files import read_json_lines

FILE, GUARD = "journal.jsonl", "guard.log"
TAKEN = "reverted: "
ENDS = frozenset({"released", "reverted", "kept unverified", "recovered", "rolled back"})


def whole(root: Path) -> list[dict[str, Any]]:
    """The journal of the state directory *root*, with what the guards of dead sessions did."""
    rows = read_json_lines(root / FILE)
    ended = {row.get("release") for row in rows if row.get("event") in ENDS}
    for release in _by_guards(root):
        last = next((n for n, row in reversed([*enumerate(rows)]) if row.get("release") == release), None)
        if release in ended or last is None:
            continue
        at = _closed_at(root, release) or rows[last].get("at")
        rows.insert(last + 1, {"at": at, "event": "reverted", "release": release, "who": "its guard"})
    return rows


def _by_guards(root: Path) -> list[str]:
    """The releases that a guard says it reverted."""
    with contextlib.suppress(OSError):
        lines = (root / GUARD).read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.removeprefix(TAKEN) for line in lines if line.startswith(TAKEN)]
    return []


def _closed_at(root: Path, release: str) -> str | None:
    """When the release was closed: a rename changes nothing of a file but the time of its change."""
    with contextlib.suppress(OSError):
        return stamp((root / f"closed.{release}").stat().st_ctime)
    return None
