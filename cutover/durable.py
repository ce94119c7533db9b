"""Files that survive a death, a full disk and a power cut, and locks that the kernel lets go of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from datetime import UTC, datetime
from pathlib import Path


def now() -> str:
    """UTC to the millisecond, as journals are read."""
    return stamp(time.time())


def stamp(at: float) -> str:
    """The moment *at* (epoch) as `now` has it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace *path* by *text*, durably, readable as *mode* says; on a full disk it raises and leaves *path* alone.

    A link stays a link, and what another user owns stays theirs where we may give it to them.
    """
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.fchown(out.fileno(), path.stat().st_uid, path.stat().st_gid)
            os.fchmod(out.fileno(), mode)  # whatever the umask is
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside *folder* survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flock(handle: int, deadline: float) -> bool:
    """Whether the lock could be had until *deadline* (monotonic); it is this process's until `let_go`."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)  # flock itself waits for ever or not at all
        else:
            HELD.add(handle)
            return True


HELD: set[int] = set()
"""The locks of this process."""


def let_go(handle: int) -> None:
    """Close the lock *handle*, which lets others have it."""
    HELD.discard(handle)
    os.close(handle)


def _hold_nothing() -> None:
    """What a test forks may outlive its session: it must not be what keeps the guard asleep and others out."""
    for handle in HELD:
        with contextlib.suppress(OSError):
            os.close(handle)
    HELD.clear()


os.register_at_fork(after_in_child=_hold_nothing)
