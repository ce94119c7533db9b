"""The project and all that it needs as a folder of wheels, in the pinned versions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def checkout() -> bytes:
    """The files that git keeps, as they lie here now, in a tar."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True).stdout
    pack = ("tar", "--null", "--files-from=-", "--create", "--file=-")
    return subprocess.run(pack, cwd=ROOT, input=listed, check=True, capture_output=True).stdout


def fill(folder: Path) -> Path:
    """Put the wheels into *folder*, those that build the project too, and answer it back."""
    pins = re.findall(r"^[\w.-]+==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    constraints = folder / "pins.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    words = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--wheel-dir")
    where = (str(folder), "--constraint", str(constraints), f"{ROOT}[vault]", "hatchling", "editables")
    subprocess.run((*words, *where), check=True, timeout=500, stdin=subprocess.DEVNULL)
    return folder
