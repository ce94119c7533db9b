"""Structure of the package: folders, size, import cycles and depth, names, and who knows pytest and click.

The layers themselves are a contract of import-linter (pyproject.toml). As a script it prints the figures of any tree:
python -m tests.repo.test_layers [ROOT]
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    *("cli", "core", "database", "env", "gate", "plugin", "proxy", "release", "report", "system", "watch"),
}
TOP_FILES = {"__init__.py", "__main__.py", "py.typed"}
MAX_MODULES = 126
MAX_LINES = 31_633
MAX_FLOORS = 8
MAX_DEFINITIONS = 3
# Packages that only these folders of cutover/ may import.
RESERVED = {"pytest": {"plugin"}, "_pytest": {"plugin"}, "click": {"cli"}}


def imported(tree: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Module and name of each import in *tree*, also inside functions; the name is empty for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -node.level + 1 or None] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def definitions(tree: ast.Module) -> Iterator[str]:
    """The public functions, classes and constants that a module defines at its top level."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def components(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of *graph*, each one after all that it leads to (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for child in sorted(graph[node]):
            if child not in number:
                visit(child)
                low[node] = min(low[node], low[child])
            elif child in stack:
                low[node] = min(low[node], number[child])
        if low[node] == number[node]:
            start = stack.index(node)
            found.append(sorted(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def longest_path(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain of imports, from the top; a cycle counts as one."""
    best: dict[str, list[str]] = {}
    for group in components(graph):
        below = {child for member in group for child in graph[member]} - set(group)
        path = max((best[child] for child in sorted(below)), key=len, default=[])
        best.update({member: [group[0], *path] for member in group})
    return max(best.values(), key=len)


def folder_of(module: str) -> str:
    """The entry at the top of cutover/ that *module* is in."""
    return ".".join(module.split(".")[:2])


@dataclass(frozen=True)
class Package:
    """The modules of cutover/ below *root*, read without importing them."""

    root: Path

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The file of each module, by its dotted name."""
        files = sorted((self.root / "cutover").rglob("*.py"))
        return {
            ".".join(p.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__"): p
            for p in files
        }

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each module."""
        return {name: ast.parse(path.read_bytes()) for name, path in self.paths.items()}

    @cached_property
    def lines(self) -> int:
        """Lines of all modules."""
        return sum(path.read_bytes().count(b"\n") for path in self.paths.values())

    @cached_property
    def graph(self) -> dict[str, set[str]]:
        """The modules of the package that each module imports."""
        graph: dict[str, set[str]] = {}
        for name, tree in self.trees.items():
            package = name if self.paths[name].name == "__init__.py" else name.rpartition(".")[0]
            edges = ((f"{module}.{each}", module) for module, each in imported(tree, package))
            targets = (next((one for one in edge if one in self.paths), name) for edge in edges)
            graph[name] = {target for target in targets if target != name}
        return graph

    @cached_property
    def cycles(self) -> list[list[str]]:
        """The groups of modules that import each other."""
        return [group for group in components(self.graph) if len(group) > 1]

    @cached_property
    def folder_graph(self) -> dict[str, set[str]]:
        """The same imports between the entries at the top of cutover/: a folder counts as one."""
        graph: dict[str, set[str]] = defaultdict(set)
        for name, targets in self.graph.items():
            graph[folder_of(name)] |= {folder_of(target) for target in targets} - {folder_of(name)}
        return dict(graph)

    @cached_property
    def repeated(self) -> dict[str, list[str]]:
        """The public names that more than MAX_DEFINITIONS modules define, with these modules."""
        places: dict[str, list[str]] = defaultdict(list)
        for module, tree in self.trees.items():
            for name in sorted(set(definitions(tree))):
                places[name].append(module)
        return {name: modules for name, modules in places.items() if len(modules) > MAX_DEFINITIONS}

    @cached_property
    def foreign_entries(self) -> list[str]:
        """The entries at the top of cutover/ that are none of the folders and files of the plan."""
        entries = ((entry.name, entry.is_dir()) for entry in (self.root / "cutover").iterdir())
        return sorted(
            n for n, is_dir in entries if n != "__pycache__" and n not in (FOLDERS if is_dir else TOP_FILES)
        )

    @cached_property
    def reserved(self) -> list[str]:
        """The imports of pytest or click by a module that may not know it."""
        found = []
        for name, tree in self.trees.items():
            folder = folder_of(name).rpartition(".")[2]
            for module, _ in imported(tree, name):
                package = module.split(".")[0]
                if folder not in RESERVED.get(package, {folder}):
                    found.append(f"{name} imports {package}")
        return sorted(set(found))


def shared_tests(root: Path) -> list[str]:
    """The test modules that import another test module."""
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        package = ".".join(path.parent.relative_to(root).parts)
        for module, name in imported(ast.parse(path.read_bytes()), package):
            parts = [*module.split("."), name]
            if parts[0] == "tests" and any(part.startswith("test_") for part in parts[1:-1]):
                found.append(f"{path.relative_to(root)} imports {module}")
            elif (
                parts[0] == "tests"
                and (root / Path(*parts)).with_suffix(".py").is_file()
                and name.startswith("test_")
            ):
                found.append(f"{path.relative_to(root)} imports {module}.{name}")
    return found


def figures(root: Path) -> Iterator[str]:
    """One line for each figure of the tree *root*, and below it what is over a limit."""
    package = Package(root)
    yield f"modules          {len(package.paths)} (at most {MAX_MODULES})"
    yield f"lines            {package.lines} (at most {MAX_LINES})"
    yield f"imports          {sum(map(len, package.graph.values()))} between modules"
    yield f"folders          {len(package.folder_graph)}, imports {sum(map(len, package.folder_graph.values()))}"
    yield f"cycles           {len(package.cycles)} (0)"
    yield from (f"    {' '.join(cycle)}" for cycle in package.cycles)
    for what, graph, limit in (
        ("floors", package.folder_graph, f"at most {MAX_FLOORS}"),
        ("longest chain", package.graph, "no limit"),
    ):
        path = longest_path(graph)
        yield f"{what:16} {len(path)} ({limit})"
        yield f"    {' > '.join(path)}"
    yield f"repeated names   {len(package.repeated)} (0 in more than {MAX_DEFINITIONS} modules)"
    yield from (f"    {name}: {' '.join(modules)}" for name, modules in sorted(package.repeated.items()))
    for what, found in (
        ("foreign entries", package.foreign_entries),
        ("pytest or click", package.reserved),
        ("shared tests", shared_tests(root)),
    ):
        yield f"{what:16} {len(found)} (0)"
        yield from (f"    {line}" for line in found)


PACKAGE = Package(ROOT)


def test_the_folders_are_those_of_the_plan() -> None:
    """cutover/ has the 11 folders, the public names, the entry point and the marker of types; nothing else."""
    assert PACKAGE.foreign_entries == []


def test_the_size_is_bounded() -> None:
    """At most as many modules and lines as today."""
    assert len(PACKAGE.paths) <= MAX_MODULES
    assert PACKAGE.lines <= MAX_LINES


def test_no_modules_import_each_other() -> None:
    """There is no import cycle; an import inside a function counts too."""
    assert PACKAGE.cycles == []


def test_imports_are_shallow() -> None:
    """The folders stand on at most 8 floors: the longest chain of imports between them."""
    path = longest_path(PACKAGE.folder_graph)
    assert len(path) <= MAX_FLOORS, " > ".join(path)


def test_a_name_means_one_thing() -> None:
    """No public name is defined at the top level of more than 3 modules."""
    assert PACKAGE.repeated == {}


def test_pytest_and_click_stay_at_the_top() -> None:
    """Only the plugin imports pytest, only the commands import click."""
    assert PACKAGE.reserved == []


def test_no_test_module_imports_another() -> None:
    """What tests share is in a conftest.py or in tests/helpers."""
    assert shared_tests(ROOT) == []


@pytest.mark.parametrize("folder", ["smoke", "checks"])
def test_a_checklist_imports_the_package_absolutely(folder: str) -> None:
    """The checklists use absolute imports of `cutover`, because the wheel installs them under another name."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        relative = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
        own = [
            module
            for module, _ in imported(tree, folder)
            if module.split(".")[0] in {"smoke", "checks", "tests", "scripts"}
        ]
        if relative or own:
            found.append(path.name)
    assert found == []


if __name__ == "__main__":
    print(*figures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT), sep="\n")  # noqa: T201 - a script prints
