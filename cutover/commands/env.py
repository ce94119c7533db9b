"""Check the colours' env files, or write one from a template with references to secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cutover.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutover.env.check import Checked


@click.group("env")
def command() -> None:
    """Check the colours' env files, or write one from a template with references to secrets."""


@command.command("check")
@click.option("--cutover-config", metavar="FILE", help="Another cutover.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def check(cutover_config: str | None, *, as_json: bool) -> None:
    """Say what is wrong with each colour's env file, one line each, and how the colours differ.

    Complete against env_template, no placeholder, mode 0600, not tracked by git, a tag that does not move,
    URLs that can be read. Values are never shown. Ends with 4 when something is wrong.
    """
    from cutover import settings
    from cutover.env.check import check as look

    found = look(settings.load(settings.find(cutover_config, os.environ, Path.cwd()), os.environ), os.environ)
    click.echo(
        "\n".join([json.dumps(as_document(found), ensure_ascii=False)] if as_json else as_lines(found))
    )
    if found.findings:
        raise SystemExit(UsageProblem.exit_code)


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
def render(template: Path, out: Path, keep: Sequence[str]) -> None:
    r"""Write FILE (0600) from TEMPLATE, each reference replaced by the secret that it leads to.

    \b
    op://vault/item/field     1Password, by its CLI `op`
    vault://mount/path#key    Vault or OpenBao: VAULT_ADDR, VAULT_TOKEN or VAULT_ROLE_ID and VAULT_SECRET_ID
    file:/path                the text of a file
    env:NAME                  a variable of this shell

    A reference is a whole value, or stands inside one, as in redis://:{{ env:NAME | url }}@cache:6379/0,
    where `| url` percent-encodes it. All or nothing: if one leads nowhere, FILE is not written (exit 4).
    """
    from cutover.env.check import tracked
    from cutover.env.references import Sources
    from cutover.env.render import render as write

    if out.exists() and tracked(out):
        raise UsageProblem(f"{out} is tracked by git: secrets are never committed, name another file")
    if not out.resolve().parent.is_dir():
        raise UsageProblem(f"{out}: no such folder")
    missing = write(template, out, Sources(os.environ), keep=keep)
    for each in missing:
        click.echo(str(each), err=True)
    if missing:
        click.echo(f"{out} was not written", err=True)
        raise SystemExit(UsageProblem.exit_code)
    click.echo(f"wrote {out}, mode 0600")
