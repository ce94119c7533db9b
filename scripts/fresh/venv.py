""".venv: made once, repaired when half made, left alone while what it was made from is the same."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, NamedTuple

from scripts.fresh import apt
from scripts.fresh.run import Words, ask, must
from scripts.fresh.steps import StopError, step

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ("constraints.txt", "pyproject.toml")


class Stamp(NamedTuple):
    """What a virtual environment was made from: where and by which Python, and the pins."""

    home: str
    pins: str


class Venv(NamedTuple):
    """The virtual environment of the checkout *root*."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.root / ".venv"

    @property
    def bin(self) -> Path:
        """Where its tools lie."""
        return self.folder / "bin"

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.bin / "python")

    @property
    def stamp(self) -> Path:
        """The file that is written last, so that a half-made environment has none."""
        return self.folder / "made-from"

    def make_words(self) -> Words:
        """What makes it, on top of nothing."""
        return (sys.executable, "-m", "venv", "--clear", str(self.folder))

    def install_words(self) -> tuple[Words, Words]:
        """What installs the pinned packages, then the project: pip in hash mode refuses the latter."""
        pip = (self.python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check")
        pinned = (*pip, "--require-hashes", "-r", str(self.root / "constraints.txt"))
        return pinned, (*pip, "--no-deps", "--no-build-isolation", "-e", str(self.root))


def wanted(root: Path) -> Stamp:
    """The stamp that an environment made here and now would have."""
    pins = hashlib.sha256()
    for name in SOURCES:
        pins.update((root / name).read_bytes())
    version = ".".join(map(str, sys.version_info[:3]))
    return Stamp(f"{root} Python {version}", pins.hexdigest())


def found(stamp: Path) -> Stamp:
    """The stamp that an environment has, empty when it has none."""
    try:
        home, pins = stamp.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return Stamp("", "")
    return Stamp(home, pins)


def ensure(root: Path) -> Venv:
    """The virtual environment of *root*, complete."""
    venv, stamp = Venv(root), wanted(root)
    has = found(venv.stamp)
    works = ask((venv.python, "-c", "import pip, pytest"), seconds=60).ok
    if works and has == stamp:
        return venv
    if not works or has.home != stamp.home:
        _make(venv)
    venv.stamp.unlink(missing_ok=True)
    with step("venv: installing the pinned packages"):
        for words in venv.install_words():
            must(words, seconds=1200)
    venv.stamp.write_text("\n".join(stamp) + "\n", encoding="utf-8")
    return venv


def _make(venv: Venv) -> None:
    if not ask((sys.executable, "-c", "import ensurepip, venv"), seconds=60).ok:
        if not apt.can_install():
            raise StopError(f"this Python cannot make a virtual environment: {apt.by_hand(apt.VENV)}")
        apt.install(apt.VENV)
    with step(f"venv: making {venv.folder.name} with {sys.executable}"):
        must(venv.make_words(), seconds=300)
