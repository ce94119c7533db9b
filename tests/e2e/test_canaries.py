"""The canary search finds a planted secret in files and command lines."""

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
    """Only env files and rendered releases may contain a secret, and only with mode 0600."""
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"postgresql://recall:{CANARY}@db/recall".encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    file.chmod(mode)
    assert told(tmp_path, CANARY) == ([name] if found else [])


def test_finds_a_canary_in_a_command_line() -> None:
    """A secret in the arguments of a process is found."""
    seen = Processes((CANARY,))
    argv = (sys.executable, "-c", "print(flush=True); input()", CANARY)
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # the arguments are empty until the process has called exec
        seen.look()
        process.stdin.close()
    assert any(CANARY in argv for argv in seen.found)
