"""Looks for planted secrets: in what a release leaves behind, and in the command lines while it runs."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 0.1
# The only files that may hold a secret, each 0600: the env files, and what Compose rendered.
MAY = re.compile(
    r"(.*/)?(\.env\.(blue|green|deploy)|releases/(blue|green)/(\d{8}T\d{6}-[0-9a-f]{8}|adopted-[0-9a-f]{12})\.yml)"
)


@dataclass(slots=True)
class Processes:
    """Command lines of this host in which a canary stood, of containers too."""

    canaries: tuple[str, ...]
    found: set[str] = field(default_factory=set)
    samples: int = 0

    def look(self) -> None:
        """One look at every process."""
        self.samples += 1
        for path in Path("/proc").iterdir():  # a glob looks again, and dies with a process
            if not path.name.isdigit():
                continue
            try:
                words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(each in words for each in self.canaries):
                self.found.add(words[:300])


@contextmanager
def sampled(*canaries: str) -> Iterator[Processes]:
    """Look at the process list ten times a second until the block ends."""
    seen, over = Processes(canaries), threading.Event()

    def sample() -> None:
        while not over.wait(EVERY_S):
            seen.look()

    thread = threading.Thread(target=sample, name="processes", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def told(root: Path, *canaries: str) -> list[str]:
    """The files below *root* that tell a canary and are none of MAY, or are not private; packed ones too."""
    bad = []
    for path in sorted(each for each in root.rglob("*") if each.is_file() and not each.is_symlink()):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if any(each.encode() in content for each in canaries):
            name = str(path.relative_to(root))
            if path.stat().st_mode & 0o077 or not MAY.fullmatch(name):
                bad.append(name)
    return bad
