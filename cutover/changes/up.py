"""Up: put a release on a color. Its undo puts the previous one back from a file that nobody edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cutover.changes import Change, line
from cutover.system.compose import Compose
from cutover.system.container import GRACE_S

MARGIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Previous:
    """What ran on a color before: how it is put back.

    `containers` maps each service that ran to its container id; `images` maps each image name of the file to its
    ID. `wait_s` is 0 where it was not healthy before: then nobody waits for it to become so.
    """

    file: Path
    containers: Mapping[str, str]
    images: Mapping[str, str]
    wait_s: float


def up(  # noqa: PLR0913 - all of them are facts that only the caller knows
    state: Path,
    compose: Compose,
    services: tuple[str, ...],
    *,
    text: str,
    wait_s: float,
    previous: Previous | None,
    grace_s: float = GRACE_S,
) -> Change:
    """The change that runs *services* of a rendered release, healthy within *wait_s*.

    *grace_s* is the longest that a container of either release may take to stop.
    """
    undo = put_back(state, compose.project, services, previous, grace_s)
    return Change("up", text, compose.up(*services, wait_s=wait_s), undo, grace_s + wait_s + MARGIN_S)


def stop(
    state: Path, compose: Compose, services: tuple[str, ...], color: str, previous: Previous, grace_s: float
) -> Change:
    """The change that stops *services* of *color*, which the other color takes over, each by its own grace period."""
    undo = put_back(state, compose.project, services, previous, grace_s)
    return Change(
        "stop", f"{', '.join(services)} on {color}", compose.stop(*services), undo, grace_s + MARGIN_S
    )


def put_back(
    state: Path, project: str, services: tuple[str, ...], previous: Previous | None, grace_s: float = GRACE_S
) -> tuple[str, ...]:
    """The lines that restore *previous*: a service that did not run before is taken away."""
    script, bound = str(state / "restore-service.sh"), grace_s + 110
    # The tag may have moved, and the file names the image by its tag.
    images = previous.images.items() if previous else ()
    lines = [line("docker", "tag", image, name, within_s=30) for name, image in images]
    for service in services:
        ran = previous.containers.get(service) if previous else None
        if previous is None or ran is None:
            lines.append(line("sh", script, project, service, "", "true", within_s=bound))
            continue
        words = Compose(project, previous.file).up(service, wait_s=previous.wait_s)
        lines.append(line("sh", script, project, service, ran, *words, within_s=bound + previous.wait_s))
    return tuple(lines)


def ensure(state: Path, project: str, service: str, old: Previous) -> str:
    """The line that makes sure that *service* of *project* runs as *old* says; a no-op where it does."""
    words = Compose(project, old.file).up(service, wait_s=old.wait_s)
    script = str(state / "ensure-running.sh")
    return line("sh", script, project, service, *words, within_s=old.wait_s + 60)
