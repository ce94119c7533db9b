from __future__ import annotations

import ast
from pathlib import Path

import pytest

from examples.catalogue import REVISIONS

MIGRATIONS = Path(__file__).parents[2] / "examples" / "recall" / "migrations"
EXPANDING = {"create_table", "add_column", "create_index"}


def chain(folder: str) -> dict[str | None, str]:
    """Previous revision → revision, for each file in *folder*."""
    found = {}
    for path in (MIGRATIONS / folder).glob("*.py"):
        names = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        assert path.name.startswith(names["revision"])
        found[names["down_revision"]] = names["revision"]
    return found


def operations(path: Path) -> set[str]:
    """Names of the Alembic operations in a revision's upgrade."""
    upgrade = next(
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
    )
    return {
        node.func.attr
        for node in ast.walk(upgrade)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
    }


def test_the_revisions_are_one_line() -> None:
    """The revisions form a single chain from an empty database to the newest schema."""
    steps, at, walked = chain("versions"), None, []
    while at in steps:
        at = steps[at]
        walked.append(at)
    assert sorted(walked) == sorted(steps.values())
    assert walked == [name.split("_")[0] for name in REVISIONS]


def test_the_revisions_only_expand() -> None:
    """The common revisions only expand, so that the previous release runs on the new schema."""
    for path in (MIGRATIONS / "versions").glob("*.py"):
        assert operations(path) <= EXPANDING, path.name


@pytest.mark.parametrize("folder", ["contract", "broken"])
def test_a_named_revision_continues_the_common_ones(folder: str) -> None:
    """Each bad revision follows the newest common one."""
    (before,) = chain(folder)
    steps = chain("versions")
    assert before in steps.values()
    assert before not in steps
