"""Pin the images of the last releases, and delete what older ones left: images can be pruned, files go."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.release.changes import images_of_file
from cutover.release.history import ADOPTED
from cutover.release.state import State
from cutover.system import docker, process, swarm

PIN_PREFIX = "cutover-keep-"
KEPT_RELEASES = 3


def pin_image(project: str, image: str) -> None:
    """Keep *image* from `docker image prune` by a container that is never started; raises ConfigError.

    Without the image the release that runs it could not be restored.
    """
    name = _pin_name(project, image)
    flags = ("--name", name, "--label", f"cutover.keep={project}", "--entrypoint", "true")
    done = process.run(("docker", "create", *flags, image), deadline_s=30)
    if not done.ok and not process.run(("docker", "container", "inspect", name), deadline_s=15).ok:
        raise ConfigError(f"the image {image[7:19]} cannot be pinned for a rollback: {done.last_line}")


def _pin_name(project: str, image: str) -> str:
    return f"{PIN_PREFIX}{project}-{image.removeprefix('sha256:')[:12]}"


def prune_releases(settings: Settings, state: State) -> None:
    """Unpin the images and delete the release files of all but the last three releases of each color."""
    unpin_images(settings, state)
    for color in settings.colors:
        files = {row.file for row in state.records(color)}
        rendered = sorted(state.release_folder(color).glob("2*-*.yml"))[:-KEPT_RELEASES]
        adopted = state.release_folder(color).glob(f"{ADOPTED}*.yml")
        for path in (each for each in (*rendered, *adopted) if each.name not in files):
            path.unlink(missing_ok=True)
    if settings.platform.kind == "swarm":
        written = state.root.glob("releases/*/*.yml")
        kept = "".join(each.read_text(encoding="utf-8", errors="replace") for each in written)
        swarm.remove_contents(settings.project, lambda name: f'"{name}"' in kept)


def unpin_images(settings: Settings, state: State) -> None:
    """Unpin what neither one of the last three releases of a color nor a container that runs needs."""
    services, needed = (*settings.services, *settings.workers), set[str]()
    for color in settings.colors:
        for row in state.records(color)[-KEPT_RELEASES:]:
            needed |= {row.image, *_images_in(state.release_path(color, row.file), services)}
        there = docker.by_service(settings.compose_project(color), services)
        needed |= {each.image for each in there.values() if each is not None}
    names = {_pin_name(settings.project, each) for each in needed}
    shown = ("--filter", f"label=cutover.keep={settings.project}", "--format", "{{.Names}}")
    pins = process.run(("docker", "ps", "--all", *shown), deadline_s=15).out.split()
    for name in (each for each in pins if each.startswith(PIN_PREFIX) and each not in names):
        process.run(("docker", "rm", name), deadline_s=15)


def _images_in(file: Path, services: Collection[str]) -> Iterator[str]:
    """The IDs of the images of *services* in a release file, as far as their names are known now."""
    named = (name for service, name in images_of_file(file).items() if service in services)
    yield from (found for name in named if (found := docker.image_id(name)))
