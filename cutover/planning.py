"""The plan: what would be done and undone, with the differences; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cutover import compose, engine, preflight, scene
from cutover.secret import STARS
from cutover.show import timetable
from cutover.walk import Walk

LEAD = timedelta(minutes=15)


def lines(walk: Walk) -> Iterator[str]:
    """One line for each thing that would be done, and for each difference to what runs."""
    wish, colour = walk.wish, walk.target.colour or ""
    if wish.switch:
        # As if the session began now; each moment comes as soon as the one before it is done.
        yield from timetable(walk.settings.show, datetime.now(UTC) + LEAD)
    if wish.deploy is not None:
        yield from _deploy(walk, colour, wish.deploy)
    if wish.switch:
        yield f"would switch {walk.before} → {colour}; undo: make sure {walk.before} runs, then switch back"
    if wish.rollback:
        yield "would take everything back unless every check says yes"


def _deploy(walk: Walk, colour: str, tag: str) -> Iterator[str]:
    settings = walk.settings
    new = compose.render(settings, colour, tag)
    old = engine.the_container(settings.compose_project(colour), settings.service)
    previous, _ = preflight.previous_of(walk.state, walk.scene, colour)
    now = old.image_name if old else "nothing"
    yield f"would deploy {new.image(settings.service)} on {colour} (port {new.port(settings.service)}); runs now: {now}"
    if settings.migrate:
        yield f"would migrate with: {' '.join(settings.migrate.command)}; no undo, the schema stays"
    if old is not None:
        before = compose.render(settings, colour, scene.tag_of(old.image_name))
        yield from _differences(
            before.environment(settings.service), new.environment(settings.service), set(settings.public_keys)
        )
    yield f"undo: put back {previous.file.name}" if previous else "undo: remove it, nothing ran there before"


def _differences(before: dict[str, str], after: dict[str, str], public: set[str]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            shown = (before.get(key, "(none)"), after.get(key, "(none)")) if key in public else (STARS, STARS)
            yield f"environment {key}: {shown[0]} → {shown[1]}"
