"""Retire a color: drain it, then stop it."""

from __future__ import annotations

from dataclasses import replace

from cutover.core.config import Settings
from cutover.core.verdict import Verdict, no, yes
from cutover.proxy.base import Proxy
from cutover.proxy.drain import Drained, drain
from cutover.state import State
from cutover.system import docker, process
from cutover.wish import who

STOP_DEADLINE_S = 60.0


def retire(settings: Settings, proxy: Proxy | None, color: str, port: int) -> Verdict:
    """Stop *color* once it has no request in flight; yes only if the engine says that its containers are stopped."""
    drained = None
    if settings.proxy is not None and proxy is not None:
        # Where the switch has stopped the old color, its requests had the grace period of the container.
        seen = drain(settings.proxy, color, port) if proxy.keeps_old_color else Drained(color, 0.0)
        drained = seen.verdict(settings.proxy.on_drain_timeout)
        if not drained.ok:
            return no("retire", f"{color} was not stopped: {drained.reason}")
    done = stop(settings, color, (*settings.services, *settings.workers))
    State(settings.state).journal("retired" if done.ok else "not retired", color=color, who=who())
    return replace(done, reason=f"{done.reason} ({drained.reason})") if drained else done


def stop(settings: Settings, color: str, services: tuple[str, ...]) -> Verdict:
    """Stop *services* of *color*; yes if the engine says that they are stopped."""
    project = settings.compose_project(color)
    running = [
        each
        for each in docker.containers(project)
        if each.running and each.labels.get("com.docker.compose.service") in services
    ]
    ids = [each.id for each in running]
    deadline_s = STOP_DEADLINE_S + max((each.grace_s for each in running), default=0.0)
    done = process.run(("docker", "stop", *ids), deadline_s=deadline_s) if ids else None
    left = [each for each in docker.containers(project) if each.running and each.id in ids]
    if left or (done is not None and not done.ok):
        why = done.last_line if done is not None and not done.ok else "it still runs"
        return no("stop", f"{color} could not be stopped: {why}")
    return yes("stop", f"{color} is stopped")
