"""Up: put a release on a colour. Its undo puts the previous one back from a file that nobody edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cutover.changes import Change, line
from cutover.compose import Compose

MARGIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Previous:
    """What ran on a colour before: how it is put back.

    `containers` maps each service to its container id; `images` maps each image name of the file to its ID.
    """

    file: Path
    containers: Mapping[str, str]
    images: Mapping[str, str]
    wait_s: float


def up(
    state: Path,
    compose: Compose,
    services: tuple[str, ...],
    *,
    text: str,
    wait_s: float,
    previous: Previous | None,
) -> Change:
    """The change that runs *services* of a rendered release, healthy within *wait_s*."""
    undo = put_back(state, compose.project, services, previous)
    return Change("up", text, compose.up(*services, wait_s=wait_s), undo, wait_s + MARGIN_S)


def put_back(
    state: Path, project: str, services: tuple[str, ...], previous: Previous | None
) -> tuple[str, ...]:
    """The lines that restore *previous*, or nothing at all where nothing ran before."""
    script = str(state / "putback.sh")
    if previous is None:
        return tuple(line("sh", script, project, service, "", "true", within_s=120) for service in services)
    compose = Compose(project, previous.file)
    # The tag may have moved, and the file names the image by its tag.
    tags = [line("docker", "tag", image, name, within_s=30) for name, image in previous.images.items()]
    bound = previous.wait_s + 120
    script_of = (
        line(
            "sh", script, project, service, previous.containers.get(service, ""),
            *compose.up(service, wait_s=previous.wait_s), within_s=bound,
        )
        for service in services
    )  # fmt: skip
    return (*tags, *script_of)


def ensure(state: Path, compose: Compose, service: str, *, wait_s: float) -> str:
    """The line that makes sure that *service* runs before traffic goes back to it."""
    return line(
        "sh",
        str(state / "ensure.sh"),
        compose.project,
        service,
        *compose.up(service, wait_s=wait_s),
        within_s=wait_s + 60,
    )
