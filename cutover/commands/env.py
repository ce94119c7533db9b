"""Check the colours' env files, or write one from a template with references to secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cutover.commands.common import common, settings_of, tell
from cutover.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutover.env.check import Checked


@click.group
def command() -> None:
    """Check the colours' env files, or write one from a template with references to secrets."""


@command.command("check")
@common
def check(config: str | None, as_json: bool) -> int:
    """Say what is wrong with each colour's env file, one line each, and how the colours differ.

    Complete against env_template, no placeholder, mode 0600, not tracked by git, a tag that does not move,
    URLs that can be read. Values are never shown. Ends with 4 when something is wrong.
    """
    from cutover.env.check import check as look

    found = look(settings_of(config), os.environ)
    tell(as_json, as_document(found), as_lines(found))
    return UsageProblem.exit_code if found.findings else 0


def as_document(found: Checked) -> dict[str, object]:
    """The findings and the table as JSON values."""
    return {
        "ok": not found.findings,
        "findings": [finding.as_json() for finding in found.findings],
        "parity": [row.as_json() for row in found.rows],
    }


def as_lines(found: Checked) -> list[str]:
    """The table, the findings, and what they come to."""
    from cutover.env.parity import table

    lines = [*table(found.rows, list(found.rows[0].shown) if found.rows else []), ""] if found.rows else []
    lines += [str(finding) for finding in found.findings]
    number = len(found.findings)
    colours = " and ".join(found.colours)
    what = (
        f"{number} thing{'s' if number != 1 else ''} to correct"
        if number
        else f"{colours}: nothing to correct"
    )
    return [*lines, what]


@command.command("render")
@click.argument("template", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", "out", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path)
)
@click.option(
    "--keep",
    multiple=True,
    default=("IMAGE_TAG",),
    show_default=True,
    metavar="KEY",
    help="Stays as it is in FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def render(template: Path, out: Path, keep: Sequence[str], as_json: bool) -> int:
    """Write FILE (0600) from TEMPLATE, each reference replaced by the secret that it leads to.

    \b
    op://vault/item/field     1Password, by its CLI `op`
    vault://mount/path#key    Vault or OpenBao: VAULT_ADDR, VAULT_TOKEN or VAULT_ROLE_ID and VAULT_SECRET_ID
    file:///path              the text of a file
    env:NAME                  a variable of this shell

    A reference is a whole value, or stands inside one, as in redis://:{{ env:NAME | url }}@cache:6379/0,
    where `| url` percent-encodes it. All or nothing: if one leads nowhere, FILE is not written (exit 4).
    """  # noqa: D301  # click reads a backspace as "do not wrap"
    from cutover.env.references import Sources
    from cutover.env.render import render as write

    fit_to_write(out)
    missing = write(template, out, Sources(os.environ), keep=keep)
    told = [str(each) for each in missing]
    said = [*told, f"{out} was not written"] if missing else [f"wrote {out}, mode 0600"]
    tell(as_json, {"file": str(out), "written": not missing, "missing": told}, said)
    return UsageProblem.exit_code if missing else 0


def fit_to_write(out: Path) -> None:
    """Raise UsageProblem where secrets must not, or cannot, be written."""
    from cutover.env.check import tracked

    if not out.resolve().parent.is_dir():
        raise UsageProblem(f"{out}: there is no such folder")
    if tracked(out):
        raise UsageProblem(f"{out} is tracked by git, and secrets are never committed: name another file")
