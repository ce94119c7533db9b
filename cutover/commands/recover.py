"""Take back what a dead session left open."""

from __future__ import annotations

from typing import Any

import click

from cutover import preflight, scene
from cutover.commands.common import common, settings_of, tell
from cutover.core.config import Settings
from cutover.core.errors import CutoverError, EngineSilent, Locked, NeedsPerson
from cutover.evidence import Evidence
from cutover.state import State, now
from cutover.system import docker
from cutover.system.container import Container
from cutover.walk import Walk
from cutover.wish import Wish


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Take back the release of a session that died; a living one is left alone (exit 12)."""
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
                [f"the guard has taken it back meanwhile: {said}"],
            )
            return 0
        done = state.take_back(left)
        if not done.ok:
            raise NeedsPerson(
                f"release {left} could not be taken back: {done.last_line}; run: {state.take_back_command}"
            )
        state.journal("recovered", release=left, who=preflight.who())
        said = serves_again(settings, state, left)
    tell(as_json, {"recovered": left, "serves": said}, [f"release {left} was taken back: {said}"])
    return 0


def serves_again(settings: Settings, state: State, release: str) -> str:
    """What serves after *release* was taken back, asked now; raises NeedsPerson when it is not what served before."""
    from cutover import switching

    was = next(
        (row for row in state.history() if (row.get("event"), row.get("release")) == ("open", release)), {}
    )
    walk = Walk(settings, Wish(("live",)), Evidence(), lambda *_: None)
    try:
        walk.scene = scene.look(settings)
        live = switching.settled(walk, was["live"]) if "live" in was else walk.scene.live
        colour = live.colour or was.get("colour")
        found = docker.the_container(settings.compose_project(colour), settings.service) if colour else None
    except (CutoverError, EngineSilent) as error:
        raise NeedsPerson(_unseen(release, f"what serves now could not be asked: {error}")) from error
    trouble = not_as_before(was, live.colour, found, proxied=settings.proxy is not None)
    if trouble:
        raise NeedsPerson(_unseen(release, f"{trouble} ({live.how})"))
    if found is None or not found.running:
        return f"nothing runs on {colour}, as before"
    tag = scene.tag_of(found.image_name) or found.image[7:19]
    return f"{colour} {'serves' if live.colour else 'runs'} {tag}, as before"


def _unseen(release: str, what: str) -> str:
    return f"release {release} was taken back, but {what}; run: cutover status"


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
        return f"{was.get('colour')} runs {runs or 'nothing'}, it ran {was.get('tag') or 'nothing'}"
    return ""
