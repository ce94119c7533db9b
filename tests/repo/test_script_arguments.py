"""Arguments that the runbook's scripts pass on, recorded by a script in place of Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = "-p cutover.plugin -p pytest_html.plugin -p pytest_metadata.plugin -p pytest_timeout"
SESSION = f"1 -m pytest {PLUGINS}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space in its path, whose Python prints its arguments."""
    folder = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    stand_in = folder / ".venv/bin/python"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text('#!/bin/sh\necho "${PYTEST_DISABLE_PLUGIN_AUTOLOAD-0} $*"\n')
    stand_in.chmod(0o755)
    return folder


def run(checkout: Path, words: str) -> subprocess.CompletedProcess[str]:
    """Run a script from another folder."""
    script, *rest = words.split()
    return subprocess.run(
        (str(checkout / "scripts" / script), *rest), cwd="/", capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("deploy/server_deploy.sh --image-tag sha-2", f"{SESSION} smoke --target=live --deploy=sha-2"),
        (
            "deploy/server_deploy.sh --image-tag sha-2 --target idle",
            f"{SESSION} smoke --target=idle --deploy=sha-2",
        ),
        (
            "deploy/server_deploy.sh --image-tag sha-2 --target=green --plan",
            f"{SESSION} smoke --target=green --deploy=sha-2 --plan",
        ),
        (
            "deploy/cutover.sh --image-tag sha-2 --watch=1m",
            "0 -m cutover release --image-tag sha-2 --watch=1m",
        ),
        ("smoke/smoke_test.sh http://127.0.0.1:8001", f"{SESSION} smoke --target=http://127.0.0.1:8001"),
        ("deploy/server_rollback.sh", "0 -m cutover rollback"),
        ("deploy/server_rollback.sh --to-tag sha-1", "0 -m cutover rollback --to-tag sha-1"),
        ("session smoke --target=blue", f"{SESSION} smoke --target=blue"),
    ],
)
def test_passes_arguments_on(checkout: Path, words: str, expected: str) -> None:
    """Each script runs one command of the suite, from any folder."""
    done = run(checkout, words)
    assert (done.returncode, done.stdout.strip()) == (0, expected)


@pytest.mark.parametrize(
    "words",
    [
        "deploy/server_deploy.sh",
        "deploy/server_deploy.sh sha-2",
        "deploy/server_deploy.sh --image-tag",
        "deploy/cutover.sh --target idle",
        "smoke/smoke_test.sh",
        "smoke/smoke_test.sh 127.0.0.1:8001",
    ],
)
def test_prints_its_usage(checkout: Path, words: str) -> None:
    """Without a required argument the script starts nothing and exits with 4, the code of a usage error."""
    done = run(checkout, words)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("usage: ")
