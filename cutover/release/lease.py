"""The lease of a host: one coordinator at a time, which renews it; a coordinator that died loses it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cutover.core.errors import Locked
from cutover.release.state import State
from cutover.system.files import close_lock, flock, write_atomically

LEASE_FILE = "coordinator.json"
LOCK_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Which release on several hosts has this one, and until when (seconds since 1970)."""

    id: str
    who: str
    what: str
    until: float

    @property
    def line(self) -> str:
        """One line for a session that finds the host taken."""
        return f"{self.who} is releasing {self.what} on several hosts"


def current_lease(state: State, now: float) -> Lease | None:
    """The lease that is valid at *now*."""
    try:
        found = Lease(**json.loads((state.root / LEASE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.until > now else None


def take_lease(state: State, lease: Lease, now: float) -> None:
    """Take or renew a lease; raises Locked if another one is valid, ConfigError if the disk is full."""
    with _locked(state):
        found = current_lease(state, now)
        if found is not None and found.id != lease.id:
            raise Locked(f"{found.line}; nothing was changed")
        try:
            write_atomically(state.root / LEASE_FILE, json.dumps(asdict(lease)))
        except OSError as error:
            raise state.unwritable(error) from error


def end_lease(state: State, lease_id: str) -> None:
    """End the lease with that id, if it is the valid one."""
    with _locked(state):
        found = current_lease(state, 0.0)
        if found is not None and found.id == lease_id:
            (state.root / LEASE_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(state: State) -> Iterator[None]:
    try:
        handle = os.open(state.root / "coordinator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise state.unwritable(error) from error
    if not flock(handle, time.monotonic() + LOCK_PATIENCE_S):
        close_lock(handle)
        raise Locked("another coordinator is taking this host; nothing was changed")
    try:
        yield
    finally:
        close_lock(handle)
