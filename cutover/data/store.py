"""What a snapshot needs of a database, whichever kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cutover.data.contents import Contents


class Store(Protocol):
    """A database that can be dumped, restored under another name beside itself, and read."""

    @property
    def kind(self) -> str:
        """`postgres` or `sqlite`."""

    @property
    def name(self) -> str:
        """What people call the database."""

    @property
    def suffix(self) -> str:
        """How its snapshots' names end."""

    def exists(self) -> bool:
        """Whether it is there yet."""

    def size(self) -> int:
        """Bytes on its disk."""

    def head(self, name: str | None = None) -> str:
        """The schema's revision, of it or of its copy *name*."""

    def mount(self, name: str) -> tuple[Path, str]:
        """The folder that holds the copy *name*, and where the service mounts it; only for files."""

    def contents(self, name: str | None = None) -> Contents:
        """What it, or its copy *name*, holds."""

    def dump(self, path: Path, budget_s: float) -> tuple[int, str, Contents]:
        """Write a dump: its size, checksum, and what was in it."""

    def scratch_name(self, tail: str) -> str:
        """The name of a scratch copy."""

    def need_room(self) -> None:
        """Raise UsageProblem where there is no room for a copy."""

    def restore(self, path: Path, name: str, budget_s: float) -> None:
        """Restore a dump as *name*."""

    def drop(self, name: str) -> None:
        """Remove the copy *name*."""

    def drop_words(self, name: str, env_file: Path) -> tuple[str, ...]:
        """The words that remove the copy *name* without us, secrets read from *env_file*; empty: not needed."""

    def environment(self) -> dict[str, str]:
        """What those words must know."""

    def scratches(self) -> list[str]:
        """The scratch copies that are there."""
