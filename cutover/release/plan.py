"""What a release will do, and how it is undone; `--plan` prints it with the differences to what runs now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cutover.core.config import Settings
from cutover.core.masking import STARS
from cutover.release.approval import timetable
from cutover.release.changes import PreviousRelease
from cutover.release.colors import Situation, main_container
from cutover.system import compose
from cutover.system.compose import Rendered

LEAD = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What a deploy will run, and how what runs on the color now is restored."""

    tag: str
    rendered: Rendered
    images: Mapping[str, str]
    """Service -> the ID of its image."""
    previous: PreviousRelease | None
    """None if nothing runs there, or if it cannot be restored."""
    unrestorable: str = ""
    """Why what runs there cannot be restored, with --allow-no-rollback; a failed release then stays."""

    @property
    def undo(self) -> str:
        """What a revert does if there is no previous release."""
        if self.unrestorable:
            return f"none, a failed release stays: {self.unrestorable}"
        return "remove it, nothing ran there before"


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """The result of the preflight."""

    deploy: DeployPlan | None
    """None without --deploy."""
    old: PreviousRelease | None
    """How the live color is started again before traffic goes back to it; None without --switch."""


def plan_lines(situation: Situation, plan: ReleasePlan) -> Iterator[str]:
    """One line for each thing that would be done or undone, and for each difference to what runs now."""
    request, live = situation.request, situation.before.live
    if request.switch:
        # Counted from now; each moment comes as soon as the one before it is done.
        yield from timetable(situation.settings.approval, datetime.now(UTC) + LEAD)
    if plan.deploy is not None:
        yield from _deploy_lines(situation.settings, plan.deploy)
    if request.switch:
        yield f"would switch {live} → {situation.color}; undo: make sure {live} runs, then switch back"
    if request.rollback:
        yield "would revert everything unless every check says yes"


def _deploy_lines(settings: Settings, plan: DeployPlan) -> Iterator[str]:
    new, service = plan.rendered, settings.service
    found = main_container(settings, new.color)
    now = found.image_name if found else "nothing"
    yield f"would deploy {new.image(service)} on {new.color} (port {new.port(service)}); runs now: {now}"
    if settings.migrate:
        yield f"would migrate with: {' '.join(settings.migrate.command)}; no undo, the schema stays"
    if first := compose.one_shots_of(settings, new):
        yield f"would run {', '.join(first)} to the end first; no undo for what they change"
    if plan.previous is None:
        yield f"undo: {plan.undo}"
        return
    # From the release file, because the env file may have been edited since; a plan writes no adopted file.
    text = plan.previous.text or plan.previous.file.read_text(encoding="utf-8")
    before = Rendered(new.color, new.project, text, json.loads(text), {})
    yield from release_differences(before, new, settings)
    yield f"undo: put back {plan.previous.file.name}{without(plan.previous)}"


def without(previous: PreviousRelease) -> str:
    """What of *previous* is lost when it is restored; empty for nothing."""
    return f", without {', '.join(previous.lost)}" if previous.lost else ""


def release_differences(before: Rendered, after: Rendered, settings: Settings) -> Iterator[str]:
    """One line for each image, port and variable that changes; values are masked unless the key is unmasked."""
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
        old, new = before.environment(service), after.environment(service)
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                was, becomes = (
                    STARS
                    if key in each and key not in settings.env_keys.unmasked
                    else each.get(key, "(none)")
                    for each in (old, new)
                )
                yield f"environment{name} {key}: {was} → {becomes}"
