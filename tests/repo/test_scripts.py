"""Rules for the scripts: short, lint-free, with a usage line; test_script_arguments.py tests what they pass on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path
    for path in (ROOT / "scripts").rglob("*")
    if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
)
LONGEST = 25
IDS = [str(path.relative_to(ROOT)) for path in SCRIPTS]


def test_finds_the_scripts() -> None:
    """The scripts named in the runbook are found."""
    names = {path.name for path in SCRIPTS}
    assert names >= {"demo", "test", "server_deploy.sh", "server_rollback.sh", "cutover.sh", "smoke_test.sh"}


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_passes_arguments_on(script: Path) -> None:
    """At most 25 lines, no loop, no pipe, one exec at the end: shell code has no unit tests."""
    lines = script.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line and not line.startswith("#")]
    assert len(lines) <= LONGEST
    assert [line for line in code if line.split()[0] in {"for", "while", "until"} or " | " in line] == []
    assert [number for number, line in enumerate(code) if line.startswith("exec ")] == [len(code) - 1]
    assert "set -eu" in code
    assert any(line.startswith("# usage: ") for line in lines)
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_is_clean(script: Path) -> None:
    """shellcheck reports nothing for POSIX sh."""
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}")
    assert tool, "shellcheck is missing: it is in the extra dev"
    done = subprocess.run((tool, "--shell=sh", str(script)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["deploy/server_deploy.sh", "deploy/cutover.sh", "smoke/smoke_test.sh"])
def test_a_bad_call_is_one_line(name: str) -> None:
    """Invalid arguments and --help print one usage line and exit with 4."""
    for words in ((), ("--help",), ("--image-tag", "")):
        done = subprocess.run(
            (str(ROOT / "scripts" / name), *words), capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), words
        assert done.stderr.startswith(f"usage: {Path(name).name} ")


def test_without_a_virtual_environment_python3_is_used(tmp_path: Path) -> None:
    """Without .venv, as in a container, the scripts use python3."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    stand_in = tmp_path / "bin/python3"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\npwd\necho "$*"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(
        (str(tmp_path / "scripts/deploy/server_rollback.sh"), "--to-tag", "sha-1"), capture_output=True, text=True,
        check=True, cwd="/", env={"PATH": f"{stand_in.parent}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.splitlines() == [str(tmp_path.resolve()), "-m cutover rollback --to-tag sha-1"]
