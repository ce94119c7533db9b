"""What the documents of the server and the runbook name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cutover.cli import cutover
from cutover.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ("README.md", "docs/runbook.md", "docs/dev/deploy_server.md", "docs/getting-started.md")
# Written by a person or a session, so they are not in the tree.
MADE = re.compile(r"/\.env\.\w+(\.template)?$")


def text_of(name: str) -> str:
    """The document."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCS)
def test_each_path_is_there(name: str) -> None:
    """A script, a test file, a template or another document that is named exists."""
    named = re.findall(r"(?<![\w/.-])(?:scripts|smoke|checks|deploy|docs|\.github)/[\w./-]*\w", text_of(name))
    missing = {path for path in named if not (ROOT / path).exists() and not MADE.search(path)}
    assert missing == set()


@pytest.mark.parametrize("name", DOCS)
def test_each_command_is_there(name: str) -> None:
    """`cutover WORD` that is named is a command."""
    named = set(re.findall(r"(?:`|bin/|-cutover )cutover ([a-z]+)", text_of(name)))
    assert named - set(cutover.list_commands(None)) == set()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DOCS)
def test_each_setting_is_there(name: str) -> None:
    """`[table] key` that is named is one of cutover.toml's."""
    fields = Settings.model_fields
    for table, key in re.findall(r"`\[+(\w+)\]+ ?(\w*)", text_of(name)):
        assert table in fields
        if key:
            assert f"'{key}'" in repr_of(fields[table].annotation), f"[{table}] {key}"


def repr_of(annotation: object) -> str:
    """The names of the keys of the table behind an annotation."""
    parts = [annotation, *getattr(annotation, "__args__", ())]
    return str([list(part.model_fields) for part in parts if hasattr(part, "model_fields")])
