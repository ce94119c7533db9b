"""Check the env files of the colors, or write one from a template with references to secrets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from cutover.cli.doctor import compose_file_findings, rendered_unless_said
from cutover.cli.main import common, json_option, settings_of, tell
from cutover.core.errors import ConfigError, Failed
from cutover.core.text import count
from cutover.env.compose_rules import REFUSING
from cutover.env.envfile import SecretSources, render_env_file
from cutover.env.lint import LintReport, is_tracked, lint_env_files, parity_table


@click.group("env")
def env_command() -> None:
    """Check the env files of the colors, or write one from a template with references to secrets."""


@env_command.command("check")
@common
def check_command(config: str | None, as_json: bool) -> int:
    """Check the env file of each color and compare the colors. One line for each finding; values are never shown.

    All keys of env_template are there, no placeholder, mode 0600, not tracked by git, a pinned tag, valid URLs; and
    the compose file has nothing for which a release would be refused. Exits 1 when there is a finding.
    """
    settings = settings_of(config)
    found = lint_env_files(settings, os.environ)
    rendered = rendered_unless_said(settings, found.findings)
    refused = compose_file_findings(settings, rendered, REFUSING)
    found = replace(found, findings=list(dict.fromkeys([*found.findings, *refused])))
    tell(as_json, as_document(found), as_lines(found))
    return Failed.exit_code if found.findings else 0


def as_document(found: LintReport) -> dict[str, object]:
    """Return the findings and the comparison as JSON values."""
    return {
        "ok": not found.findings,
        "findings": [asdict(finding) for finding in found.findings],
        "parity": [asdict(row) for row in found.rows],
    }


def as_lines(found: LintReport) -> list[str]:
    """Return the comparison, the findings, and their number as lines of text."""
    lines = [*parity_table(found.rows, list(found.rows[0].shown)), ""] if found.rows else []
    lines += [str(finding) for finding in found.findings]
    if not found.findings:
        return [*lines, f"{' and '.join(found.colors)}: nothing to correct"]
    return [*lines, f"{count(len(found.findings), 'thing')} to correct"]


@env_command.command("render")
@click.argument("template", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", "out", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="The env file to write.",
)  # fmt: skip
@click.option(
    "--keep",
    multiple=True,
    default=("IMAGE_TAG",),
    show_default=True,
    metavar="KEY",
    help="A key whose value in FILE is kept.",
)
@json_option
def render_command(template: Path, out: Path, keep: Sequence[str], as_json: bool) -> int:
    """Write FILE (mode 0600) from TEMPLATE, with each reference replaced by its secret.

    \b
    op://vault/item/field     1Password, by its CLI `op`
    vault://mount/path#key    Vault or OpenBao: VAULT_ADDR, VAULT_TOKEN or VAULT_ROLE_ID and VAULT_SECRET_ID
    file:///path              the text of a file
    env:NAME                  a variable of this shell

    A reference is a whole value, or a part of one, as in redis://:{{ env:NAME | url }}@cache:6379/0,
    where `| url` percent-encodes it. If a reference cannot be resolved, FILE is not written (exit 4).
    """  # noqa: D301  # click reads a backspace as "do not wrap"
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"{out}: there is no such folder")
    if is_tracked(out):
        raise ConfigError(f"{out} is tracked by git, and secrets are never committed: name another file")
    missing = render_env_file(template, out, SecretSources(os.environ), keep=keep)
    lines = [*missing, f"{out} was not written"] if missing else [f"wrote {out}, mode 0600"]
    tell(as_json, {"file": str(out), "written": not missing, "missing": missing}, lines)
    return ConfigError.exit_code if missing else 0
