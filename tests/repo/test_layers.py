"""Arrows go down only: who may import whom inside `cutover/`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# From the top; a layer imports itself and what is below it.
UPPER = ("cutover.plugin", "cutover.cli", "cutover.cli", "cutover.__main__")
APART = (("cutover.probes", "cutover.core.change"), ("cutover.core.change", "cutover.probes"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a piece of code imports, by its full name, and each name taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name: str, package: str) -> bool:
    """Whether *name* is *package* or in it."""
    return name == package or name.startswith(f"{package}.")


def modules() -> list[tuple[str, Path]]:
    """Name and file of each module of the package."""
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in sorted((ROOT / "cutover").rglob("*.py"))
    ]


def offenses(upper: tuple[str, ...], lower_than: tuple[str, ...]) -> list[str]:
    """Who imports one of *upper* although it is not one of *lower_than*."""
    found: list[str] = []
    for name, path in modules():
        if any(is_below(name, package) for package in lower_than):
            continue
        every = imports(ast.parse(path.read_bytes()))
        found += [f"{name} imports {each}" for each in every if any(is_below(each, one) for one in upper)]
    return found


def test_nobody_imports_what_is_above() -> None:
    """The plugin and the commands are the top: nothing below knows them."""
    assert offenses(UPPER, UPPER) == []


def test_only_the_plugin_knows_pytest() -> None:
    """Everything else returns verdicts, and works without pytest."""
    assert offenses(("pytest", "_pytest"), ("cutover.plugin",)) == []


@pytest.mark.parametrize(("one", "other"), APART)
def test_questions_and_changes_do_not_know_each_other(one: str, other: str) -> None:
    """What asks never changes, what changes never asks."""
    found = [
        f"{name} imports {imported}"
        for name, path in modules()
        if is_below(name, one)
        for imported in imports(ast.parse(path.read_bytes()))
        if is_below(imported, other)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["smoke", "checks"])
def test_a_checklist_imports_the_package_absolutely(folder: str) -> None:
    """The wheel carries them under another name, so `smoke` and relative imports would not be found there."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        relative = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
        own = [
            name for name in imports(tree) if name.split(".")[0] in {"smoke", "checks", "tests", "scripts"}
        ]
        if relative or own:
            found.append(path.name)
    assert found == []
