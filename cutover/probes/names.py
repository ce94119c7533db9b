"""What the questions of the watch are called: known from `cutover.toml` alone, before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass

from cutover.core.config import Settings
from cutover.core.verdict import Verdict, not_asked
from cutover.probes import endpoint_watch


def names_for(settings: Settings) -> list[str]:
    """The names of the questions that `watched_for` gives, in its order."""
    return [name for name, wanted in _wanted(settings).items() if wanted]


def _wanted(settings: Settings) -> dict[str, bool]:
    """Each question, and whether `cutover.toml` has what it needs."""
    proxy = settings.proxy
    return {
        "availability": True,
        "colour": bool(proxy and proxy.url),
        "endpoints": bool(endpoint_watch.readable(settings.endpoints)),
        "5xx": bool(proxy and proxy.access_log),
        "latency": bool(proxy and proxy.access_log),
        "restarts": True,
        "health": True,
        "way back": len(settings.colours) > 1,
        "log errors": True,
        "new errors": True,
        "cpu": True,
        "memory": True,
        "oom": True,
        "leak": True,
        **{f"dependency {each.name}": True for each in settings.dependencies},
        "alerts": settings.alerts is not None,
    }


@dataclass(slots=True)
class NotAsked:
    """A question that cannot be asked of this target; its name stays in the list, with the reason."""

    name: str
    reason: str
    every_s: float = 3600.0

    def tick(self, now: float) -> None:
        """Nothing."""

    def verdict(self) -> Verdict:
        """Not asked, and why."""
        return not_asked(self.name, self.reason)
