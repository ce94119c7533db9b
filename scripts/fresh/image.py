"""The base image: the one that is there, else pulled, else built from this machine's own mirror."""

from __future__ import annotations

import platform
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.fresh import apt
from scripts.fresh.run import Words, ask, must, which
from scripts.fresh.steps import StopError, say, step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IMAGE = "debian:bookworm-slim"
SUITE = "bookworm"
PULL_SECONDS = 60
# What lets apt reach a mirror from here; the rest of the machine's configuration is its own business.
REACH = re.compile(
    r"^Acquire::(?:https?|ftp)::(?:Proxy\b|Verify-\w+|CaInfo)|^Acquire::Check-(?:Valid-Until|Date)\b",
    re.IGNORECASE,
)
SLIM = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)


def reach(dump: str) -> Iterator[str]:
    """The lines of `apt-config dump` that a container needs too to reach the mirror."""
    for line in dump.splitlines():
        name, _, value = line.partition(" ")
        if REACH.fullmatch(name) and value not in ('"";', ""):
            yield line


def sources(release: dict[str, str], folder: Path) -> tuple[str, ...]:
    """The machine's own source lists, if it is what the image will be; else none, and the default is used."""
    if (release.get("ID"), release.get("VERSION_CODENAME")) != ("debian", SUITE):
        return ()
    lists = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.sources"))]
    return tuple(
        str(path) for path in lists if path.is_file() and "debian" in path.read_text(encoding="utf-8")
    )


def build_words(target: Path, lists: Iterable[str], options: Iterable[str]) -> Words:
    """What builds the file system of the image into the archive *target*."""
    apt_options = [f"--aptopt={line}" for line in options]
    slim = [f"--dpkgopt={line}" for line in SLIM]
    return ("mmdebstrap", "--quiet", "--variant=minbase", *apt_options, *slim, SUITE, str(target), *lists)


def import_words(archive: Path) -> Words:
    """What makes the archive an image."""
    return ("docker", "import", "--change", 'CMD ["bash"]', str(archive), IMAGE)


def ensure() -> None:
    """The base image is there when this returns."""
    if ask(("docker", "image", "inspect", IMAGE), seconds=30).ok:
        say(f"base image: {IMAGE} is there")
        return
    with step(f"base image: pulling {IMAGE}"):
        pulled = ask(("docker", "pull", "--quiet", IMAGE), seconds=PULL_SECONDS).ok
    if not pulled:
        say("base image: no registry gives it; building it from this machine's own mirror")
        _build()


def _build() -> None:
    if which("mmdebstrap") is None:
        if not apt.can_install():
            raise StopError(f"{IMAGE} is missing: docker pull {IMAGE}, or {apt.by_hand(apt.BOOTSTRAP)}")
        apt.install(apt.BOOTSTRAP)
    lists = sources(platform.freedesktop_os_release(), Path("/etc/apt"))
    options = tuple(reach(must(("apt-config", "dump"), seconds=60)))
    with (
        step(f"base image: building {IMAGE}"),
        tempfile.TemporaryDirectory(prefix="cutover-image-") as folder,
    ):
        archive = Path(folder, "root.tar")
        must(build_words(archive, lists, options), seconds=900)
        must(import_words(archive), seconds=300)
