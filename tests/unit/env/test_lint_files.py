"""Env files on a real disk, in a real repository, read by the real Compose."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from cutover.core import config
from cutover.env.lint import lint_env_files, lint_release
from cutover.system.compose import render

if TYPE_CHECKING:
    from pathlib import Path

COMPOSE = """
services:
  api:
    image: ${IMAGE_REPO}:${IMAGE_TAG:?}
    environment: {DATABASE_URL: "${DATABASE_URL:-}", KEY: "${KEY:-}"}
    ports: ["127.0.0.1:${API_HTTP_PORT:?}:8000"]
"""
TOML = """
project = "recall"
env_template = ".env.production.example"
[colors.blue]
env_file = ".env.blue"
[colors.green]
env_file = ".env.green"
[database]
"""
TEMPLATE = """
IMAGE_REPO=ghcr.io/<owner>/<repo>/api
IMAGE_TAG=sha-<commit>
API_HTTP_PORT=8000
DATABASE_URL='postgresql://recall:<password>@db:5432/recall'
KEY=
"""
GOOD = {
    "IMAGE_REPO": "recall/api",
    "IMAGE_TAG": "sha-1",
    "API_HTTP_PORT": "8000",
    "DATABASE_URL": "postgresql://recall:canary-1@db:5432/recall",
    "KEY": "canary-2",
}

OWN_DB = "green would start its own empty db: move it to .env.deploy, both colors share the data"


def write(folder: Path, color: str, values: dict[str, str]) -> Path:
    """Write the env file of one color with mode 0600."""
    path = folder / f".env.{color}"
    path.write_text("".join(f"{key}='{value}'\n" for key, value in values.items()))
    path.chmod(0o600)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deploy folder without findings, as current directory."""
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / "cutover.toml").write_text(TOML)
    (tmp_path / ".env.production.example").write_text(TEMPLATE)
    write(tmp_path, "blue", GOOD)
    write(tmp_path, "green", GOOD | {"API_HTTP_PORT": "8001", "IMAGE_TAG": "sha-2"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(folder: Path, environment: dict[str, str] | None = None) -> list[str]:
    """The findings in *folder*."""
    seen = lint_env_files(config.load_config(folder / "cutover.toml"), environment or {})
    lines = [str(finding) for finding in seen.findings]
    assert "canary" not in str(lines)
    assert "canary" not in str(seen.rows)
    return lines


def test_says_nothing_of_good_files(folder: Path) -> None:
    """Two colors that differ only in port and tag have no findings."""
    assert found(folder) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"KEY": "changeme"}, [".env.green: KEY still holds its placeholder: give it its value"]),
        (
            {"IMAGE_TAG": "latest"},
            [".env.green: IMAGE_TAG=latest is not pinned: use a tag that never moves, like sha-<commit>"],
        ),
        (
            {"API_HTTP_PORT": "8000"},
            [".env.green: API_HTTP_PORT is the same as blue's: give each color its own"],
        ),
        (
            {"DATABASE_URL": "postgresql://recall:canary-1@other:5432/recall"},
            [".env.green: DATABASE_URL is another than blue's: both colors must use the same data"],
        ),
        ({"KEY": "canary-3"}, []),
        (
            {"COMPOSE_PROFILES": "db"},
            [
                f".env.green: COMPOSE_PROFILES=db: {OWN_DB}",
                ".env.blue: COMPOSE_PROFILES is missing, another color has it: add it, or take it from both",
            ],
        ),
    ],
)
def test_finds_what_is_wrong(folder: Path, change: dict[str, str], expected: list[str]) -> None:
    """Each finding is one line: where, what, what to do."""
    write(folder, "green", GOOD | {"API_HTTP_PORT": "8001", "IMAGE_TAG": "sha-2"} | change)
    assert found(folder) == expected


def test_one_color_may_have_its_database(folder: Path) -> None:
    """Releases in place leave it alone, and no other color could start an empty one."""
    (folder / "cutover.toml").write_text(TOML.replace('[colors.green]\nenv_file = ".env.green"\n', ""))
    write(folder, "blue", GOOD | {"COMPOSE_PROFILES": "db"})
    assert found(folder) == []
    settings = config.load_config(folder / "cutover.toml")
    assert lint_release(settings, render(settings, "blue"), {}) == []


def test_finds_a_missing_key(folder: Path) -> None:
    """A missing key is reported against the template, the other color and the Compose file."""
    write(folder, "green", {key: GOOD[key] for key in GOOD if key != "IMAGE_TAG"} | {"API_HTTP_PORT": "8001"})
    lines = found(folder)
    assert ".env.green: IMAGE_TAG is missing, the template has it: add it" in lines
    assert ".env.green: IMAGE_TAG is missing, another color has it: add it, or take it from both" in lines
    assert any("required variable IMAGE_TAG is missing" in line for line in lines)


def test_finds_a_missing_file(folder: Path) -> None:
    """A missing env file is reported, and the other color is still checked."""
    (folder / ".env.green").unlink()
    (folder / ".env.blue").chmod(0o640)
    assert found(folder) == [
        ".env.blue: mode 0640, others may read it: chmod 600 .env.blue",
        ".env.green: no such file: write it from the template (colors.green.env_file)",
    ]


def test_finds_a_line_that_compose_cannot_read(folder: Path) -> None:
    """The error of Compose for a malformed line is reported without the value."""
    (folder / ".env.green").write_text("IMAGE_TAG='sha-1\n")
    assert [line.startswith(".env.green: ") for line in found(folder)] == [True]


def test_finds_what_the_shell_exports(folder: Path) -> None:
    """A variable of the shell is reported for each color that it would override."""
    what = "IMAGE_TAG is exported in this shell with another value, which would win: unset IMAGE_TAG"
    assert found(folder, {"IMAGE_TAG": "sha-2", "PATH": "/bin"}) == [f".env.blue: {what}"]


def test_finds_what_git_keeps(folder: Path) -> None:
    """An env file that git tracks is reported; the template may be tracked."""
    for words in (["init", "-q"], ["add", "--force", ".env.blue", ".env.production.example"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    assert found(folder) == [
        ".env.blue: is tracked by git: git rm --cached .env.blue, and renew what it holds"
    ]


OVERRIDE = "services: {api: {init: true}}\n"
KEPT = "merges it onto docker-compose.yml, and a release would not: compose_overrides = "


@pytest.mark.parametrize(
    ("more", "in_file", "in_shell", "expected"),
    [
        ("", "", "", f'docker-compose.override.yml: docker compose {KEPT}["docker-compose.override.yml"] in cutover.toml'),
        ('compose_overrides = ["docker-compose.override.yml"]', "", "", ""),
        ("compose_overrides = []", "", "", ""),
        ("", "docker-compose.yml", "", ""),  # it names one file, so Compose merges no other
        ("", "docker-compose.yml:prod.yml", "",
         '.env.blue: COMPOSE_FILE names docker-compose.yml, prod.yml, and a release uses docker-compose.yml: compose_file = "docker-compose.yml", compose_overrides = ["prod.yml"] in cutover.toml, or unset COMPOSE_FILE'),
        ('compose_overrides = ["prod.yml"]', "docker-compose.yml:prod.yml", "", ""),
        ("compose_overrides = []", "", "base.yml", 'the shell: COMPOSE_FILE names base.yml, and a release uses docker-compose.yml: compose_file = "base.yml" in cutover.toml'),
    ],
)  # fmt: skip
def test_no_file_is_dropped_that_compose_would_merge(
    folder: Path, more: str, in_file: str, in_shell: str, expected: str
) -> None:
    """COMPOSE_FILE and an override file beside are in cutover.toml, or named with the line to add."""
    for name in ("docker-compose.override.yml", "prod.yml"):
        (folder / name).write_text(OVERRIDE)
    (folder / "cutover.toml").write_text(f"{more}\n{TOML}")
    for color, port in (("blue", "8000"), ("green", "8001")):
        write(folder, color, GOOD | {"API_HTTP_PORT": port} | ({"COMPOSE_FILE": in_file} if in_file else {}))
    said = found(folder, {"COMPOSE_FILE": in_shell} if in_shell else {})
    assert (bool(said), expected in (said or [""])[0]) == (bool(expected), True), said
