"""Draft a postmortem in Markdown from what a session left."""

from __future__ import annotations

from pathlib import Path

import click

from cutover.commands.common import tell
from cutover.core.errors import UsageProblem


@click.command
@click.argument("folder", type=click.Path(path_type=Path), default=Path("reports/latest"))
@click.option(
    "--output", type=click.Path(path_type=Path), help="A file to write; never one that is there already."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
def command(folder: Path, output: Path | None, as_json: bool) -> int:
    """Draft a postmortem of the session in FOLDER: what machines know is filled in, what people know is asked."""
    from cutover.report.folder import read
    from cutover.report.postmortem import draft

    text = draft(read(folder))
    if output is None:
        tell(as_json, {"postmortem": text}, [text.rstrip("\n")])
        return 0
    try:
        # A draft that somebody has begun to fill in is never written over.
        with output.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError as error:
        raise UsageProblem(f"{output} is there already; name another file or take it away") from error
    except OSError as error:
        raise UsageProblem(f"{output} cannot be written: {error.strerror}") from error
    tell(as_json, {"file": str(output)}, [f"drafted {output}"])
    return 0
