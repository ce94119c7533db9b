"""Write report.html again from the files of a session, also of one that died."""

from __future__ import annotations

from pathlib import Path

import click

from cutover.commands.common import tell
from cutover.core.errors import UsageProblem


@click.command
@click.argument("folder", type=click.Path(path_type=Path), default=Path("reports/latest"))
@click.option("--output", type=click.Path(path_type=Path), help="Another file than FOLDER/report.html.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def command(folder: Path, output: Path | None, as_json: bool) -> int:
    """Write FOLDER's report.html again from evidence.jsonl, journal.jsonl and undo.sh.

    A page in which pytest-html has its table is kept; what stands above its table is ours and stays, too.
    """
    from cutover.report.folder import read
    from cutover.report.page import render
    from cutover.report.tests_html import BLOB

    seen = read(folder)
    there = folder / "report.html"
    whole = there.is_file() and BLOB.search(there.read_text(encoding="utf-8", errors="replace")) is not None
    file = output or (folder / "again.html" if whole else there)
    try:
        file.write_text(render(seen.evidence, seen.ending, seen.undo, seen.journal), encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"{file} cannot be written: {error.strerror}") from error
    facts = {"report": str(file), "ending": str(seen.ending.word), "lost": seen.evidence.lost}
    tell(as_json, facts, [f"{seen.ending.word}  {file}"])
    return 0
