"""A small file system that a test can fill."""

from __future__ import annotations

import contextlib
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """*folder* as a tmpfs with *size* as a mount option; skips the test if not run as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    argv = ("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder))
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def fill(folder: Path) -> None:
    """Leave no page and no name."""
    with contextlib.suppress(OSError), (folder / "full").open("wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))
    with contextlib.suppress(OSError):
        for number in range(1000):
            (folder / f"full{number}").touch()
