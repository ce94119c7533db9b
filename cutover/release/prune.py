"""Pin the images of the last releases, and delete what older ones left: images can be pruned, files go."""

from __future__ import annotations

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.release.state import State
from cutover.system import process

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
    kept = {color: state.records(color)[-KEPT_RELEASES:] for color in settings.colors}
    names = {_pin_name(settings.project, row.image) for rows in kept.values() for row in rows}
    shown = ("--filter", f"label=cutover.keep={settings.project}", "--format", "{{.Names}}")
    there = process.run(("docker", "ps", "--all", *shown), deadline_s=15).out.split()
    for name in (each for each in there if each.startswith(PIN_PREFIX) and each not in names):
        process.run(("docker", "rm", name), deadline_s=15)
    for color in settings.colors:
        files = {row.file for row in state.records(color)}
        rendered = sorted(state.release_folder(color).glob("2*-*.yml"))[:-KEPT_RELEASES]
        for path in (each for each in rendered if each.name not in files):
            path.unlink(missing_ok=True)
