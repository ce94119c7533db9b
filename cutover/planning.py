"""The plan: what would be done and undone, with the differences; nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cutover import scene
from cutover.core.config import Settings
from cutover.core.masking import STARS
from cutover.show import timetable
from cutover.system import compose, docker
from cutover.system.compose import Rendered
from cutover.walk import Walk

LEAD = timedelta(minutes=15)


def lines(walk: Walk) -> Iterator[str]:
    """One line for each thing that would be done, and for each difference to what runs."""
    request, color = walk.request, walk.target.color or ""
    if request.switch:
        # As if the session began now; each moment comes as soon as the one before it is done.
        yield from timetable(walk.settings.approval, datetime.now(UTC) + LEAD)
    if request.deploy is not None:
        yield from _deploy(walk, color, request.deploy)
    if request.switch:
        yield f"would switch {walk.before} → {color}; undo: make sure {walk.before} runs, then switch back"
    if request.rollback:
        yield "would revert everything unless every check says yes"


def _deploy(walk: Walk, color: str, tag: str) -> Iterator[str]:
    settings = walk.settings
    new = walk.planned.rendered if walk.planned else compose.render(settings, color, tag)
    old = docker.the_container(settings.compose_project(color), settings.service)
    previous = walk.planned.previous if walk.planned else None
    now = old.image_name if old else "nothing"
    yield f"would deploy {new.image(settings.service)} on {color} (port {new.port(settings.service)}); runs now: {now}"
    if settings.migrate:
        yield f"would migrate with: {' '.join(settings.migrate.command)}; no undo, the schema stays"
    if previous is not None:
        yield from differences(_before(walk, color, previous.file, now), new, settings)
    yield f"undo: put back {previous.file.name}" if previous else "undo: remove it, nothing ran there before"


def _before(walk: Walk, color: str, file: Path, image: str) -> Rendered:
    """The release that runs now, from its own file: today's env file may say something else."""
    if not file.is_file():  # it would be adopted, and equals today's env file with the running tag
        return compose.render(walk.settings, color, scene.tag_of(image))
    text = file.read_text(encoding="utf-8")
    return Rendered(color, walk.settings.compose_project(color), text, json.loads(text), {})


def differences(before: Rendered, after: Rendered, settings: Settings) -> Iterator[str]:
    """One line for each image, port and variable that changes; values that are not public are stars."""
    for service in settings.services:
        if service not in before.model["services"]:
            yield f"{service} is new: {after.image(service)}"
            continue
        name = "" if service == settings.service else f" of {service}"
        if before.image(service) != after.image(service):
            yield f"image{name}: {before.image(service)} → {after.image(service)}"
        ports = [", ".join(str(port) for _, port in each.published(service)) for each in (before, after)]
        if ports[0] != ports[1]:
            yield f"ports{name}: {ports[0] or '(none)'} → {ports[1] or '(none)'}"
        yield from _variables(
            before.environment(service), after.environment(service), {*settings.env_keys.unmasked}, name
        )


def _variables(before: dict[str, str], after: dict[str, str], public: set[str], name: str) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield (f"environment{name} {key}: {_shown(before, key, public)} → {_shown(after, key, public)}")


def _shown(values: dict[str, str], key: str, public: set[str]) -> str:
    if key not in values:
        return "(none)"
    return values[key] if key in public else STARS
