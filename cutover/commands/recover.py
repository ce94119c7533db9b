"""Revert what a dead session left open."""

from __future__ import annotations

from typing import Any

import click

from cutover import preflight, scene
from cutover.commands.common import common, settings_of, tell
from cutover.core.config import Settings
from cutover.core.errors import CutoverError, EngineUnavailable, Locked, OperatorNeeded
from cutover.core.evidence import Evidence
from cutover.state import State, now
from cutover.system import docker
from cutover.system.container import Container
from cutover.walk import Walk
from cutover.wish import ReleaseRequest


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Revert the release of a session that died; a living one is left alone (exit 12)."""
    settings = settings_of(config)
    state = State(settings.state)
    first = state.open_release() if settings.state.is_dir() else None
    if first is None:
        tell(as_json, {"recovered": None}, ["nothing is open: nothing to recover"])
        return 0
    state.prepare()
    if state.is_held():
        raise Locked(state.told())
    with state.locked({"who": preflight.who(), "what": "recover", "since": now()}):
        left = state.open_release()
        if left is None:
            said = serves_again(settings, state, first)
            tell(
                as_json,
                {"recovered": None, "serves": said},
                [f"the guard has reverted it meanwhile: {said}"],
            )
            return 0
        done = state.revert(left)
        if not done.ok:
            raise OperatorNeeded(
                f"release {left} could not be reverted: {done.last_line}; run: {state.revert_command}"
            )
        state.journal("recovered", release=left, who=preflight.who())
        said = serves_again(settings, state, left)
    tell(as_json, {"recovered": left, "serves": said}, [f"release {left} was reverted: {said}"])
    return 0


def serves_again(settings: Settings, state: State, release: str) -> str:
    """What serves after *release* was reverted, asked now; raises OperatorNeeded when it is not what served before."""
    from cutover import switching

    was = next(
        (row for row in state.history() if (row.get("event"), row.get("release")) == ("open", release)), {}
    )
    walk = Walk(settings, ReleaseRequest(("live",)), Evidence(), lambda *_: None)
    try:
        walk.scene = scene.look(settings)
        live = switching.settled(walk, was["live"]) if "live" in was else walk.scene.live
        color = live.color or was.get("color")
        found = docker.the_container(settings.compose_project(color), settings.service) if color else None
    except (CutoverError, EngineUnavailable) as error:
        raise OperatorNeeded(_unseen(release, f"what serves now could not be asked: {error}")) from error
    trouble = not_as_before(was, live.color, found, proxied=settings.proxy is not None)
    if trouble:
        raise OperatorNeeded(_unseen(release, f"{trouble} ({live.how})"))
    if found is None or not found.running:
        return f"nothing runs on {color}, as before"
    tag = scene.tag_of(found.image_name) or found.image[7:19]
    return f"{color} {'serves' if live.color else 'runs'} {tag}, as before"


def _unseen(release: str, what: str) -> str:
    return f"release {release} was reverted, but {what}; run: cutover status"


def not_as_before(was: dict[str, Any], live: str | None, found: Container | None, *, proxied: bool) -> str:
    """What differs from *was*, the journal's word on what users had before; empty when nothing does."""
    if "live" not in was:
        known = live and found and found.running
        return (
            "" if known else "the journal does not say what served before, and nothing is known to serve now"
        )
    if live is None and proxied:
        return "who gets the traffic is unknown"
    if was["live"] and live != was["live"]:
        return f"traffic goes to {live or 'nobody known'}, it went to {was['live']}"
    runs = scene.tag_of(found.image_name) if found and found.running else None
    if runs != was.get("tag"):
        return f"{was.get('color')} runs {runs or 'nothing'}, it ran {was.get('tag') or 'nothing'}"
    return ""
