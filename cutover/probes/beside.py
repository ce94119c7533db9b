"""What is one release with the container that takes the traffic: other services, and replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cutover.core.config import Settings
from cutover.core.errors import EngineSilent
from cutover.system import docker
from cutover.target import Target


def others(settings: Settings, live: Target) -> dict[str, tuple[str, int | None]]:
    """Name -> service and replica of all that is one release with the container which takes the traffic of *live*.

    The consumers belong to it where the traffic is. A replica of None is the only one.
    """
    consumers = settings.after_switch if live.kind == "live" else ()
    numbers = _numbers(live.project)
    found = dict(_named(live.service, numbers.get(live.service, ())[1:]))
    for service in (*settings.services[1:], *consumers) if live.project else ():
        there = numbers.get(service, ())
        found |= dict(_named(service, there) if there[1:] else [(service, (service, None))])
    return found


def _named(service: str, numbers: Sequence[int]) -> Iterator[tuple[str, tuple[str, int | None]]]:
    for number in numbers:
        yield f"{service} {number}", (service, number)


def _numbers(project: str | None) -> Mapping[str, Sequence[int]]:
    """Service -> its replicas; nothing while the engine is silent: what is watched then says so itself."""
    try:
        return docker.numbers(project) if project else {}
    except EngineSilent:
        return {}
