"""What a session is asked for; a module of its own, for every pytest session of an environment imports it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """What a session was asked for."""

    targets: tuple[str, ...]
    paths: tuple[str, ...] = ()
    """The checklists that were named, to ask the gate again."""
    deploy: str | None = None
    switch: bool = False
    watch_s: float | None = None
    rollback: bool = True
    no_way_back: bool = False
    migrate: bool = True
    accept_contract: bool = False
    asked_at: float | None = None
    """When the session was started (monotonic): its patience with the lock begins then."""

    @property
    def armed(self) -> bool:
        """Whether it may change anything by itself."""
        return self.deploy is not None or self.switch
