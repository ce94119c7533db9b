"""Write constraints.txt anew: the newest versions that fit together, with the hash of each wheel that fits.

Run in the virtual environment: python -m scripts.lock
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# pip tries these in order; wheels name the oldest glibc that they run with.
MACHINES = {
    "x86_64": (
        "manylinux_2_34",
        "manylinux_2_28",
        "manylinux_2_17",
        "manylinux2014",
        "manylinux_2_5",
        "linux",
    ),
    "aarch64": ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "linux"),
}
HEADER = """\
# Every package of `.[dev]` and of the build, pinned, with the hashes of its wheels: python -m scripts.lock
# pip in hash mode refuses the project itself, so an installation is two commands:
#   pip install --require-hashes -r constraints.txt
#   pip install --no-deps --no-build-isolation -e .
"""

Pins = dict[tuple[str, str], set[str]]


def report_words(python: str, report: Path, *wanted: str) -> tuple[str, ...]:
    """The pip command that resolves *wanted*, installs nothing, and writes what it found to *report*."""
    words = (python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed")
    return (*words, "--report", str(report), *wanted)


def foreign_words(version: str, machine: str, requirements: Path, target: Path) -> tuple[str, ...]:
    """What makes pip answer for another Python and processor: wheels only, exactly these versions."""
    platforms = [word for tag in MACHINES[machine] for word in ("--platform", f"{tag}_{machine}")]
    only = ("--only-binary=:all:", "--no-deps", "--target", str(target))
    return ("--python-version", version, *platforms, *only, "-r", str(requirements))


def hashes(report: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Name, version and sha256 of each file that came from an index; the project itself has none."""
    for item in report["install"]:
        found = item["download_info"].get("archive_info", {}).get("hashes", {})
        if "sha256" in found:
            meta = item["metadata"]
            yield (meta["name"].lower().replace("_", "-"), meta["version"]), found["sha256"]


def lines(pins: Pins) -> Iterable[str]:
    """The requirement lines, by name; one hash a line, so that a diff shows what moved."""
    for (name, version), known in sorted(pins.items()):
        yield " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{value}" for value in sorted(known))])


def _ask(words: tuple[str, ...], report: Path) -> dict[str, Any]:
    subprocess.run(words, check=True, cwd=ROOT)
    answer: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return answer


def _add(pins: Pins, report: dict[str, Any]) -> None:
    for pin, value in hashes(report):
        pins.setdefault(pin, set()).add(value)


def _add_foreign(pins: Pins, folder: Path, version: str, machine: str) -> None:
    # One package a call: a wheel that is not made for this processor must not hide the others.
    wanted, report = folder / "wanted.txt", folder / "report.json"
    for name, pin in list(pins):
        wanted.write_text(f"{name}=={pin}\n", encoding="utf-8")
        words = foreign_words(version, machine, wanted, folder / "target")
        try:
            _add(pins, _ask(report_words(sys.executable, report, *words), report))
        except subprocess.CalledProcessError:
            print(f"{name}: no wheel for Python {version} on {machine}")


def main() -> int:
    """Resolve once here, then ask for the wheels of the same versions elsewhere."""
    pins: Pins = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = folder / "report.json"
        _add(pins, _ask(report_words(sys.executable, report, "hatchling", ".[dev]"), report))
        for machine in MACHINES:
            for version in PYTHONS:
                _add_foreign(pins, folder, version, machine)
    Path(ROOT, "constraints.txt").write_text(HEADER + "\n".join(lines(pins)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
