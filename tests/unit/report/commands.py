"""Helpers to run the commands about a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
from click.testing import CliRunner, Result

from cutover.core.errors import CutoverError
from tests.unit.report.sessions import Session


def run(command: click.Command, *words: str) -> Result:
    """The output and exit of the command."""
    return CliRunner().invoke(command, [*words], standalone_mode=False)


def error_of(command: click.Command, *words: str) -> CutoverError:
    """The one-line error that the command ended with."""
    error = run(command, *words).exception
    assert isinstance(error, CutoverError), error
    assert "\n" not in str(error)
    return error


def folder_of(session: Callable[[Path], Session], path: Path) -> Path:
    """The report folder of a session."""
    path.mkdir()
    made = session(path / "evidence.jsonl")
    (path / "undo.sh").write_text(made.undo, encoding="utf-8")
    rows = "".join(json.dumps(row) + "\n" for row in made.journal)
    (path / "journal.jsonl").write_text(rows, encoding="utf-8")
    return path
