"""The search for canaries finds one wherever it may be planted."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.canaries import Processes, told

CANARY = "canary-of-this-test"


@pytest.mark.parametrize(
    ("name", "mode", "found"),
    [
        ("var/lib/cutover/recall/journal.jsonl", 0o600, True),
        ("srv/recall/reports/one/report.html", 0o644, True),
        ("var/lib/cutover/recall/old/journal.jsonl.gz", 0o600, True),
        ("var/lib/cutover/recall/releases/green/20261126T003535-0123abcd.yml", 0o644, True),
        ("var/lib/cutover/recall/releases/green/20261126T003535-0123abcd.yml", 0o600, False),
        ("var/lib/cutover/recall/releases/green/notes.txt", 0o600, True),
        ("var/lib/cutover/recall/snapshots/scratch.env", 0o600, True),
        ("srv/recall/deploy/.env.green", 0o600, False),
        ("srv/recall/deploy/.env.green~", 0o600, True),
        ("tmp/cutover-1/left", 0o600, True),
    ],
)
def test_finds_a_canary_in_every_file_that_need_not_hold_it(
    tmp_path: Path, name: str, mode: int, found: bool
) -> None:
    """Only an env file and a rendered release may hold a secret, and only in private."""
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"postgresql://recall:{CANARY}@db/recall".encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    file.chmod(mode)
    assert told(tmp_path, CANARY) == ([name] if found else [])


def test_finds_a_canary_in_a_command_line() -> None:
    """A process that was given a secret as a word is seen."""
    seen = Processes((CANARY,))
    argv = (sys.executable, "-c", "print(flush=True); input()", CANARY)
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # right after its start a process has no words yet
        seen.look()
        process.stdin.close()
    assert any(CANARY in argv for argv in seen.found)
