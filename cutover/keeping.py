"""Keeps the images and files that the way back needs, and lets older ones go."""

from __future__ import annotations

from cutover.system import process
from cutover.walk import Walk

KEEP = "cutover-keep-"
KEPT_RELEASES = 3


def pin_image(project: str, image: str) -> None:
    """Keep *image* from being pruned: by a container of ours that is created and never started."""
    flags = ("--name", _keeper(project, image), "--label", f"cutover.keep={project}", "--entrypoint", "true")
    process.run(("docker", "create", *flags, image), deadline_s=30)


def _keeper(project: str, image: str) -> str:
    return f"{KEEP}{project}-{image.removeprefix('sha256:')[:12]}"


def prune(walk: Walk) -> None:
    """Let the images and files of old releases go: the last ones of each color stay, for the way back."""
    settings, state = walk.settings, walk.state
    kept = {color: state.records(color)[-KEPT_RELEASES:] for color in settings.colors}
    names = {_keeper(settings.project, row.image) for rows in kept.values() for row in rows}
    shown = ("--filter", f"label=cutover.keep={settings.project}", "--format", "{{.Names}}")
    there = process.run(("docker", "ps", "--all", *shown), deadline_s=15).out.split()
    for name in (each for each in there if each.startswith(KEEP) and each not in names):
        process.run(("docker", "rm", name), deadline_s=15)
    for color in settings.colors:
        files = {row.file for row in state.records(color)}
        rendered = sorted(state.release_folder(color).glob("2*-*.yml"))[:-KEPT_RELEASES]
        for path in (each for each in rendered if each.name not in files):
            path.unlink(missing_ok=True)
