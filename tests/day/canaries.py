"""Looks for planted secrets: in what a release leaves behind, and in the command lines while it runs."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 0.1
# What must hold the values to be of any use, each 0600 in a folder of mode 0700: a release is what Compose rendered,
# a dump is the data, and the last is read by the undo while a scratch database exists.
MAY = ("releases", "snapshots")


@dataclass(slots=True)
class Processes:
    """Command lines of this host in which a canary stood, of containers too."""

    canaries: tuple[str, ...]
    found: set[str] = field(default_factory=set)
    samples: int = 0

    def look(self) -> None:
        """One look at every process."""
        self.samples += 1
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
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


def told(folders: Iterable[Path], *canaries: str) -> list[str]:
    """The files below *folders* that tell a canary, packed ones too, and those that may hold one but are not private."""
    bad = []
    for folder in folders:
        for path in sorted(each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()):
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            if not any(each.encode() in content for each in canaries):
                continue
            private = path.stat().st_mode & 0o077 == 0
            if not private or not set(MAY) & set(path.relative_to(folder).parts):
                bad.append(str(path.relative_to(folder)))
    return bad
