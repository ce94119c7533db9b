"""The linters, as words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scripts.fresh.run import Words, ask
from scripts.fresh.steps import StopError, step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHELL = re.compile(rb"#!.*\b(?:ba|da)?sh\b")
FOLDERS = ("scripts", "cutover", "deploy", "examples", ".ci")


def shells(root: Path) -> list[str]:
    """Every shell file, by its name or its first line."""
    files = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.suffix == ".sh" or SHELL.match(path.read_bytes()[:64]))


def words(tools: Path, shell_files: Iterable[str], *, workflows: Path | None) -> Iterator[Words]:
    """Each linter with its arguments, the quickest first."""
    yield (str(tools / "ruff"), "check", "--quiet", "--output-format=concise", ".")
    yield (str(tools / "ruff"), "format", "--check", "--quiet", "--output-format=concise", ".")
    yield (str(tools / "shellcheck"), "--external-sources", *shell_files)
    if workflows is not None:
        yield (str(tools / "zizmor"), "--offline", "--quiet", str(workflows))
    yield (str(tools / "mypy"), "--no-error-summary")


def run(root: Path, tools: Path) -> None:
    """Run them all; stop with everything that they found."""
    found: list[str] = []
    workflows = root / ".github" / "workflows"
    for line in words(tools, shells(root), workflows=workflows if workflows.is_dir() else None):
        name = (
            " ".join((line[0].rpartition("/")[2], *line[1:2]))
            if line[1].isalpha()
            else line[0].rpartition("/")[2]
        )
        with step(f"lint: {name}"):
            done = ask(line, seconds=600)
        if not done.ok:
            found.append(f"{name}:\n{done.output.rstrip()}")
    if found:
        raise StopError("the linters found something, so no test was run\n" + "\n".join(found))
