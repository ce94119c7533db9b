"""Wheels of the project and its dependencies in the pinned versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def checkout() -> bytes:
    """A tar archive of all tracked files in their current state."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True).stdout
    pack = ("tar", "--null", "--files-from=-", "--create", "--file=-")
    return subprocess.run(pack, cwd=ROOT, input=listed, check=True, capture_output=True).stdout


def fill(folder: Path) -> Path:
    """Put the wheels of requirements.txt and of the project into *folder*, and return it."""
    wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder))
    pinned = ("--require-hashes", "--requirement", str(ROOT / "requirements.txt"))
    itself = ("--no-deps", "--no-build-isolation", str(ROOT))
    for what in (pinned, itself):
        subprocess.run((*wheel, *what), check=True, timeout=500, stdin=subprocess.DEVNULL)
    return folder
