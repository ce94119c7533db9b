"""Search for planted secrets (canaries) in files left by a release and in command lines while it runs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from examples.visitors import in_background

# The only files that may contain a secret, each with mode 0600: env files and rendered releases.
MAY = re.compile(
    r"(.*/)?(\.env\.(blue|green|deploy)|releases/(blue|green)/(\d{8}T\d{6}-[0-9a-f]{8}|adopted-[0-9a-f]{12})\.yml)"
)


@dataclass(slots=True)
class Processes:
    """Command lines on this host, including those of containers, that contained a canary."""

    canaries: tuple[str, ...]
    found: set[str] = field(default_factory=set)
    samples: int = 0

    def look(self) -> None:
        """Scan the command lines of all processes once."""
        self.samples += 1
        for path in Path("/proc").iterdir():  # glob fails if a process ends meanwhile
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
    """Scan the process list ten times per second until the block ends."""
    seen = Processes(canaries)
    with in_background(seen.look, "processes"):
        yield seen


def told(root: Path, *canaries: str) -> list[str]:
    """Files below *root* with a canary that are not allowed by MAY or not private; gzip files are decompressed."""
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
