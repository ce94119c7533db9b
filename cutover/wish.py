"""What a session is asked for; a module of its own, for every pytest session of an environment imports it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from cutover.core.text import now


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What a session was asked for."""

    targets: tuple[str, ...]
    paths: tuple[str, ...] = ()
    """The checklists that were named, to ask the gate again."""
    deploy: str | None = None
    switch: bool = False
    watch_s: float | None = None
    rollback: bool = True
    allow_no_rollback: bool = False
    migrate: bool = True
    allow_breaking_migration: bool = False
    plan: bool = False
    """Say what would be done, and change nothing: not a file, not an image, not an old release."""
    asked_at: float | None = None
    """When the session was started (monotonic): its patience with the lock begins then."""

    @property
    def changes_something(self) -> bool:
        """Whether it may change anything by itself."""
        return self.deploy is not None or self.switch

    def owner(self) -> dict[str, object]:
        """Who asks for it, for those whom its lock turns away."""
        what = f"{self.deploy or 'a switch'} to {self.targets[0]}"
        return {
            "who": who(),
            "what": what,
            "since": now(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }


def who() -> str:
    """`ana@runner-7`: from `CUTOVER_WHO`, the CI's actor, or the login."""
    name = (
        os.environ.get("CUTOVER_WHO")
        or os.environ.get("GITHUB_ACTOR")
        or os.environ.get("SUDO_USER")
        or os.environ.get("USER")
        or f"uid{os.geteuid()}"
    )
    return f"{name}@{socket.gethostname()}"
