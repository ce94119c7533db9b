"""`cutover release`: which pytest session it becomes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cutover.cli import main, release
from cutover.release import gate_run, verify

PLUGINS = (
    "-p",
    "cutover.plugin",
    "-p",
    "pytest_html.plugin",
    "-p",
    "pytest_metadata.plugin",
    "-p",
    "pytest_timeout",
)
PYTEST = (sys.executable, "-m", "pytest", *PLUGINS)
IDLE = ("--target=idle", "--deploy=sha-2", "--switch")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sha-2",), ("smoke", "checks", *IDLE)),
        (("--image-tag", "sha-2"), ("smoke", "checks", *IDLE)),
        (("--image-tag=sha-2", "--watch", "1m"), ("smoke", "checks", *IDLE, "--watch=1m")),
        (("sha-2", "--watch=1m", "--plan"), ("smoke", "checks", *IDLE, "--watch=1m", "--plan")),
        (("sha-2", "--in-place"), ("smoke", "--target=live", "--deploy=sha-2")),
        (("sha-2", "--stage"), ("smoke", "--target=idle", "--deploy=sha-2")),
        (("sha-2", "--stage", "--tests=gate", "--tests=checks"), ("gate", "--target=idle", "--deploy=sha-2")),
        (("sha-2", "--hosts=all", "--hold=1h"), ("smoke", "checks", *IDLE, "--on-hosts=all", "--hold=1h")),
        (("sha-2", "--skip-migrations", "-v"), ("smoke", "checks", *IDLE, "--skip-migrations", "-v")),
        (("--skip-migrations", "--image-tag=sha-2"), ("smoke", "checks", *IDLE, "--skip-migrations")),
        (("sha-2", "--tests=gate", "--tests", "checks"), ("gate", "checks", *IDLE)),
        (("sha-2", "--cutover-config=x.toml"), ("smoke", "checks", *IDLE, "--cutover-config=x.toml")),
        (("--cutover-config", "x.toml", "sha-2"), ("smoke", "checks", *IDLE, "--cutover-config=x.toml")),
    ],
)  # fmt: skip
def test_becomes_a_pytest_session(
    words: tuple[str, ...], expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release is one pytest session; what is not ours is passed on."""
    for name in ("smoke", "checks"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(release, "replace_process", seen.append)
    done = CliRunner().invoke(release.release_command, words, standalone_mode=False)
    assert done.exception is None
    assert seen == [(*PYTEST, *expected)]


@pytest.mark.parametrize(
    ("folders", "names", "expected"),
    [
        (("smoke", "checks"), ("smoke", "checks"), ("smoke", "checks")),
        ((), ("smoke", "checks"), ("--pyargs", "cutover.smoke", "cutover.checks")),
        (("smoke",), ("smoke", "checks"), ("--pyargs", "smoke", "cutover.checks")),
        ((), ("smoke",), ("--pyargs", "cutover.smoke")),
        (("smoke",), ("smoke",), ("smoke",)),
    ],
)
def test_own_folders_win_over_the_shipped_ones(
    folders: tuple[str, ...], names: tuple[str, ...], expected: tuple[str, ...], tmp_path: Path
) -> None:
    """A team's own `smoke` and `checks` are asked in place of those that the wheel carries."""
    for name in folders:
        (tmp_path / name).mkdir()
    assert gate_run.checklists(*names, here=tmp_path) == expected


def test_loads_no_foreign_plugin() -> None:
    """The session gets our environment, and plugins only by name."""
    seen: list[tuple[object, ...]] = []
    release.replace_process(("python", "-m", "pytest"), lambda *call: seen.append(call))
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    assert seen == [("python", ("python", "-m", "pytest"), environment)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 4, "name the image tag"),
        (("sha-2",), 4, "no cutover.toml"),
        (("sha-2", "--watch=soon"), 4, "--watch"),
        (("sha-2", "--hosts="), 4, "--hosts needs a value"),
    ],
)
def test_ends_as_the_session_does(words: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    """A slip is one line and exit 4; all others are pytest's own exit codes."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        (sys.executable, "-m", "cutover", "release", *words), check=False, capture_output=True, text=True,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


@pytest.mark.parametrize("words", [("--cutover-config", "x.toml"), ("--cutover-config=x.toml",)])
def test_what_is_staged_is_asked_of_the_file_that_is_named(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either spelling, and before or after the tag."""
    monkeypatch.chdir(tmp_path)
    read: list[str | None] = []
    monkeypatch.setattr(main, "settings_of", read.append)
    monkeypatch.setattr(verify, "require_staged", lambda _settings, _tag: None)
    monkeypatch.setattr(release, "replace_process", lambda _argv: None)
    for given in (("sha-2", "--staged", *words), (*words, "--staged", "sha-2")):
        done = CliRunner().invoke(release.release_command, given, standalone_mode=False)
        assert done.exception is None
    assert read == ["x.toml", "x.toml"]
