"""Rules for the files of the repository: no machine paths, executable scripts, pinned dependencies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cutover

ROOT = Path(__file__).parents[2]
TOML = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Folders of a development machine, which no file of the project may contain.
MACHINE = re.compile(r"(?<![\w./-])/(?:work|root|farm)/")
# Hosts of package indexes: each machine configures its own mirror.
INDEX = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian\.org|artifactregistry)")


def tracked() -> list[Path]:
    """Every file in the work tree that git tracks or would add."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> list[tuple[str, str]]:
    """Name and content of each text file."""
    found = []
    for path in tracked():
        try:
            found.append((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def shells() -> list[Path]:
    """Every shell script, by its name or by its first line."""
    return [
        path for path in tracked()
        if path.suffix == ".sh" or re.match(rb"#!.*\b(?:ba|da)?sh\b", path.read_bytes()[:64])
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", [MACHINE, INDEX], ids=["path of a machine", "host of an index"])
def test_no_file_names_a(pattern: re.Pattern[str]) -> None:
    """No file contains a path or host that exists on one machine only."""
    me = str(Path(__file__).relative_to(ROOT))
    found = [
        f"{name}: {hit.group()}" for name, text in texts() if name != me for hit in pattern.finditer(text)
    ]
    assert found == []


def test_scripts_are_executable() -> None:
    """A script that is called by its path is executable."""
    called = [path for path in shells() if path.relative_to(ROOT).parts[0] in {"scripts", ".ci"}]
    assert called != []
    assert [str(path.relative_to(ROOT)) for path in called if not os.access(path, os.X_OK)] == []


def test_shell_is_clean() -> None:
    """shellcheck finds nothing in any shell script."""
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert tool, "shellcheck is missing: it is in the extra dev"
    done = subprocess.run(
        (tool, "--external-sources", *map(str, shells())),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_scripts_only_pass_arguments_on() -> None:
    """A script has at most 25 lines, no loop and no pipe: logic in shell has no unit test."""
    wrong = []
    for path in (ROOT / "scripts").rglob("*"):
        if path not in shells():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        code = [line for line in lines if not line.lstrip().startswith("#")]
        if len(lines) > 25 or any(
            re.search(r"\b(for|while|until|sed|jq)\b|[^|]\|[^|]", line) for line in code
        ):
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_version_is_one() -> None:
    """The package and the distribution have the same version."""
    assert cutover.__version__ == TOML["project"]["version"]


def test_entry_point_has_the_name_of_its_module() -> None:
    """With another name pytest would register the plugin twice in a checkout, and fail."""
    assert TOML["project"]["entry-points"]["pytest11"] == {"cutover.plugin": "cutover.plugin"}


def test_each_dependency_has_its_reason() -> None:
    """docs/decisions.md gives a reason for each dependency."""
    project = TOML["project"]
    groups = (*project["optional-dependencies"].values(), *TOML["dependency-groups"].values())
    extras = [name for group in groups for name in group]
    names = {re.split(r"[\[<>=~ ]", name)[0] for name in project["dependencies"] + extras}
    reasons = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    assert {
        name for name in names if not re.search(rf"^\| .*\b{name}\b.* \|", reasons, re.MULTILINE)
    } == set()


def test_each_dependency_has_a_tested_lower_bound() -> None:
    """`nox -s lowest` tests these versions; without a bound it would test the first version of a package."""
    project = TOML["project"]
    names = [*project["dependencies"], *project["optional-dependencies"]["vault"]]
    assert [name for name in names if ">=" not in name] == []


PIN = re.compile(r"([\w.-]+)==\S+( ; [^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")


def pinned(name: str) -> set[str]:
    """The packages in the requirements file *name*, each of which has an exact version and hashes."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    return {line.split("==")[0] for line in lines}


def required(*requirements: str) -> set[str]:
    """The names in *requirements*, as the pins spell them."""
    return {re.split(r"[\[<>=~ ]", requirement)[0].lower() for requirement in requirements}


def test_each_dependency_is_pinned_with_a_hash() -> None:
    """constraints.txt pins all direct dependencies of a developer, requirements.txt those of a server."""
    extras = TOML["project"]["optional-dependencies"]
    runtime = TOML["project"]["dependencies"]
    developer = (*extras.values(), *TOML["dependency-groups"].values())
    assert required(*runtime, *(name for group in developer for name in group)) <= pinned("constraints.txt")
    server = required(*runtime, *extras["vault"], *TOML["build-system"]["requires"])
    assert server <= pinned("requirements.txt") <= pinned("constraints.txt")


def test_developers_and_servers_have_the_same_versions() -> None:
    """Every pin of requirements.txt is also in constraints.txt."""
    developer, server = (
        set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("constraints.txt", "requirements.txt")
    )
    assert server - developer == set()
