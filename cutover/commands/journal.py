"""Print what was changed here, when and by whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from cutover.commands.common import common, settings_of
from cutover.journal import whole

LEFT_OUT = frozenset({"at", "event", "release"})


@click.command
@common
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N entries.")
@click.option("--release", "only", metavar="ID", help="Only this release.")
def command(config: str | None, as_json: bool, last: int | None, only: str | None) -> int:
    """Print the journal of this project's state directory, oldest first."""
    rows = [row for row in whole(settings_of(config).state) if only in {None, row.get("release")}]
    shown = rows[-last:] if last else rows
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False))
        return 0
    for line in lines(shown):
        click.echo(line)
    return 0


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each entry, a blank one before each release; says so where there is none."""
    if not rows:
        return ["nothing was changed here yet"]
    said: list[str] = []
    release = rows[0].get("release")
    for row in rows:
        if row.get("release") != release:
            said.append("")
            release = row.get("release")
        said.append(line(row))
    return said


def line(row: Mapping[str, Any]) -> str:
    """`2025-09-04 01:10:22.431Z  taken back   who ana@runner-7 · why 1 check failed`, without control characters."""
    at = str(row.get("at", "")).replace("T", " ")
    facts = " · ".join(
        f"{key} {_text(value)}" for key, value in row.items() if key not in LEFT_OUT and _said(value)
    )
    whole = f"{at:<25} {row.get('event', ''):<14} {facts}".rstrip()
    return "".join(letter if letter.isprintable() else " " for letter in whole)


def _said(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
