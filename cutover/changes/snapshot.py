"""Snapshot: what must be cleared away when a session dies between a dump and the end of its rehearsal."""

from __future__ import annotations

from pathlib import Path

from cutover.changes import Change, Words, line

BUDGET_S = 30.0
WITHIN_S = 60.0


def snapshot(
    folder: Path, text: str, containers: Words, drop: Words = (), needs: Path | None = None
) -> Change:
    """The change that announces a snapshot in *folder*: its do changes nothing, its undo leaves nothing behind.

    *drop* are words that remove the scratch database, run only while the file *needs* says that there may be one.
    None of the lines may stop a take-back: what they remove is in nobody's way.
    """
    lines = [
        f"{line('docker', 'rm', '--force', '--volumes', *containers, within_s=WITHIN_S)} >/dev/null 2>&1 || :",
        line("find", str(folder), "-name", "*.partial", "-delete") + " || :",
        line("find", str(folder), "-maxdepth", "1", "-name", "scratch-*", "-exec", "rm", "-rf", "{}", "+")
        + " || :",
    ]
    if drop and needs is not None:
        lines.append(f"[ ! -e {line(str(needs))} ] || {line(*drop, within_s=WITHIN_S)} || :")
        lines.append(line("rm", "-f", str(needs)))
    return Change("snapshot", text, ("mkdir", "-p", "-m", "700", str(folder)), tuple(lines), BUDGET_S)
