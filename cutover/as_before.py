"""Whether all is as before a release, asked from outside after its revert."""

from __future__ import annotations

from cutover import scene, switching
from cutover.saying import what_runs
from cutover.system import docker
from cutover.system.container import Container
from cutover.walk import Walk


def says(walk: Walk) -> str:
    """What the proxy and the engine say after the revert."""
    color = walk.before or walk.target.color
    there = next((each for each in what_runs(walk) if each.color == color), None)
    if there is None or not there.tag:
        return f"{color}: {there.state}" if there else "nothing runs there, as before"
    if there.state != "runs":
        return f"{color} has {there.tag}, {there.state}"
    return f"{color} {'serves' if there.live else 'runs'} {there.tag}"


def trouble(walk: Walk) -> str:
    """What differs from before, asked from outside; empty when nothing does."""
    live = switching.settled(walk, walk.before) if walk.before is not None else None
    if live is not None and live.color != walk.before:
        return f"traffic goes to {live.color or 'nobody known'} ({live.how}), it went to {walk.before}"
    for color, there in walk.there_before.items():
        found = docker.by_service(walk.settings.compose_project(color), tuple(there))
        for service, was in there.items():
            if differs(was, found[service]):
                return f"{service} of {color} was {told(was)}, now it is {told(found[service])}"
    record = walk.put_back
    if record is not None:
        found = docker.by_service(walk.settings.compose_project(record.color), walk.settings.services)
        for service, now_there in found.items():
            wanted = record.image if service == walk.settings.service else now_there and now_there.image
            if now_there is None or not now_there.running or now_there.image != wanted:
                return f"{service} of {record.color} is {told(now_there)}, not the last proven release"
    return ""


def differs(was: Container | None, now_there: Container | None) -> bool:
    """Whether a service is not as it was: what ran runs, from the same image, and what did not run does not."""
    if was is None or not was.in_use:
        return now_there is not None and now_there.in_use
    if now_there is None or now_there.image != was.image:
        return True
    return not (now_there.running or (now_there.in_use and not was.running))


def told(found: Container | None) -> str:
    """What became of a service, in words."""
    if found is None:
        return "not there"
    tag = scene.tag_of(found.image_name)
    return f"{found.status} ({f'{tag}, ' if tag else ''}{found.image[7:19]})"
