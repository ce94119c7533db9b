"""Which Python runs the rest. Old ones read this file too: nothing newer than Python 3.7 in here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")
PROBE = "import sys; sys.exit(sys.version_info < (3, 11))"
MISSING = (
    f"Python 3.11 or newer is missing: looked for {', '.join(NAMES)} in PATH\n"
    "on Debian 12, Ubuntu 24.04 and newer: apt-get install python3 python3-venv"
)


def is_new_enough(version: Sequence[object]) -> bool:
    """Whether *version* has what the project is written in."""
    return tuple(version[:2]) >= (3, 11)


def runs(path: str) -> bool:
    """Whether the Python at *path* starts, and is new enough: a name may be a shim of nothing."""
    return subprocess.call([path, "-c", PROBE], stderr=subprocess.DEVNULL) == 0


def find(which: Callable[[str], str | None] = shutil.which, good: Callable[[str], bool] = runs) -> str | None:
    """The first good Python in PATH, or None."""
    for name in NAMES:
        path = which(name)
        if path and good(path):
            return path
    return None


def choose() -> str:
    """The Python to go on with: this one if it will do; ends with a message when there is none."""
    if is_new_enough(sys.version_info):
        return sys.executable
    found = find()
    if found is None:
        sys.exit(MISSING)
    return found
