"""Files that survive a crash, a full disk and a power failure; file locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path

from cutover.core.errors import ConfigError

PARENT_MODE = 0o711  # nginx looks for its marker below it
HELD_LOCKS: set[int] = set()
"""Descriptors of the locks that this process holds."""


def write_atomically(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Replace the content of *path* by *content*, durably. If the write fails, it raises and *path* is unchanged.

    A symbolic link stays a link, and the owner of the file is kept if the user may do that.
    """
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        # Whatever another user puts there meanwhile, also a link, is an error and not written to.
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.fchown(out.fileno(), path.stat().st_uid, path.stat().st_gid)
            os.fchmod(out.fileno(), mode)  # independent of the umask
            out.write(content.encode() if isinstance(content, str) else content)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush *folder* to disk, so that a rename in it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private(folder: Path, *, mode: int = 0o700) -> None:
    """Create *folder* with *mode*, and missing parents with 0711, whatever the umask; raises OSError."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        each.chmod(mode if each == folder else PARENT_MODE)


def unsafe_parent(folder: Path) -> Path | None:
    """The nearest parent of *folder* in which other users can replace what is below it; None if there is none."""
    for each in folder.resolve().parents:
        status = each.stat()
        ours = status.st_gid in {0, os.getegid()}
        if status.st_mode & (0o002 if ours else 0o022) and not status.st_mode & stat.S_ISVTX:
            return each
    return None


def is_private(path: Path) -> bool:
    """Whether only its owner can read *path*, and the owner is this user or root."""
    status = path.stat()
    return not status.st_mode & 0o077 and status.st_uid in {os.geteuid(), 0}


def flock(handle: int, deadline: float) -> bool:
    """Lock *handle* exclusively until `close_lock`; False if it is still locked at *deadline* (monotonic).

    Raises ConfigError, with *handle* closed, where files cannot be locked.
    """
    while not _lock(handle, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)  # flock(2) has no timeout
    HELD_LOCKS.add(handle)
    return True


def is_locked(handle: int) -> bool:
    """Whether another process holds the lock of *handle*, which is closed; raises ConfigError as `flock` does."""
    locked = not _lock(handle, fcntl.LOCK_SH)
    os.close(handle)
    return locked


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        os.close(handle)
        way_out = "choose a local folder, as some network file systems have no locks"
        raise ConfigError(f"{path} cannot be locked: {error.strerror}; {way_out} (state_dir)") from error
    return True


def close_lock(handle: int) -> None:
    """Release the lock by closing *handle*."""
    HELD_LOCKS.discard(handle)
    os.close(handle)


def _close_inherited_locks() -> None:
    # A forked child that outlives the session would keep the release locked.
    for handle in HELD_LOCKS:
        with contextlib.suppress(OSError):
            os.close(handle)
    HELD_LOCKS.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)
