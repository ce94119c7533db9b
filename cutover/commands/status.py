"""What runs where, who releases, what is open."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click

from cutover import engine, scene
from cutover.commands.common import common, settings_of, tell
from cutover.proxies import other
from cutover.release import INCONCLUSIVE, NEEDS_PERSON, OK
from cutover.report.words import clock, duration
from cutover.scene import Scene
from cutover.secret import MASK
from cutover.settings import Settings
from cutover.state import State
from cutover.verdict import Outcome

SILENT = "could not be asked"


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Say what runs where, who releases, and what is open; exit 11 when a person is needed, 10 when nobody answered."""
    settings = settings_of(config)
    begun = time.monotonic()
    here = scene.look(settings)
    facts = _facts(settings, here)
    facts["asked_s"] = round(time.monotonic() - begun, 3)
    tell(as_json, facts, _lines(facts))
    if facts["needs_person"]:
        return NEEDS_PERSON
    silent = any(each["state"].startswith(SILENT) for each in facts["colours"].values())
    return INCONCLUSIVE if silent else OK


def _facts(settings: Settings, here: Scene) -> dict[str, Any]:
    state = State(settings.state)
    agreed = here.proxy.agreed() if here.proxy else None
    return {
        "project": settings.project,
        "live": here.live.colour,
        "live_how": here.live.how,
        "proxy": None if agreed is None or agreed.outcome is Outcome.YES else agreed.reason,
        "colours": {colour: _colour(settings, state, here, colour) for colour in settings.colours},
        "open": state.open_release(),
        "held_by": state.owner() if state.is_held() else None,
        "guard": state.guard_lives(state.open_release() or "-"),
        "guard_said": _guard_said(state),
        "needs_person": state.needs_person(),
        "run": state.take_back_command if state.open_release() else None,
        "last": _last(state),
    }


def _guard_said(state: State) -> str:
    """The last line that the guard of the open release wrote; empty before it has begun to take it back."""
    log, begun = state.root / "guard.log", state.root / "open"
    with contextlib.suppress(OSError):
        if log.stat().st_mtime >= begun.stat().st_mtime:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def _colour(settings: Settings, state: State, here: Scene, colour: str) -> dict[str, Any]:
    try:
        found = engine.the_container(settings.compose_project(colour), settings.service)
    except engine.EngineSilent as error:
        return {"tag": None, "state": f"{SILENT}: {error}"}
    if found is None:
        return {"tag": None, "state": "nothing runs" if colour in here.rendered else "no env file"}
    proven = (
        any(
            row.proven and row.is_running(found.id, found.image, found.config_hash)
            for row in state.records(colour)
        )
        if state.root.is_dir()
        else False
    )
    words = found.health_status if found.running and found.health else found.status
    return {
        "tag": scene.tag_of(found.image_name) or found.image[7:19],
        "state": words,
        "since": found.started_at,
        "proven": proven,
        "container": found.short,
    }


def _last(state: State) -> dict[str, Any] | None:
    ends = [
        row
        for row in state.history()
        if row.get("event")
        in {"released", "taken back", "left as it is", "recovered", "rolled back", "retired"}
    ]
    return ends[-1] if ends else None


def _lines(facts: dict[str, Any]) -> list[str]:
    live = facts["live"]
    first = (
        [f"A PERSON IS NEEDED: the take-back of {facts['needs_person']} was given up; run: {facts['run']}"]
        if facts["needs_person"]
        else []
    )
    head = f"{facts['project']}{'':<30} asked {duration(facts['asked_s'])} ago"
    rows = [head]
    if live is None:
        rows.append(f"  live   unknown: {facts['live_how']}")
    if facts["proxy"]:
        rows.append(f"  proxy  {facts['proxy']}")
    order = [live, other(live)] if live else sorted(facts["colours"])
    for colour in order:
        each = facts["colours"].get(colour)
        if each is not None:
            rows.append(_row("live" if colour == live else "idle" if live else "    ", colour, each))
    last = facts["last"]
    if last:
        said = [last["at"], last["event"], last.get("tag"), f"by {last['who']}" if last.get("who") else None]
        rows.append(f"  last   {' '.join(str(each) for each in said if each)}")
    return [*first, *rows, f"  open   {_open(facts)}"]


def _row(role: str, colour: str, each: dict[str, Any]) -> str:
    since = f" since {clock_of(each['since'])}" if each.get("since") else ""
    proven = "" if each.get("tag") is None else ", proven" if each["proven"] else ", not proven"
    return f"  {role:<5}  {colour:<6} {each['tag'] or '':<14} {each['state']}{since}{proven}"


def clock_of(stamp: str) -> str:
    """`14:02:11 UTC` of an RFC 3339 stamp."""
    return f"{stamp[11:19]} UTC"


def _open(facts: dict[str, Any]) -> str:
    if facts["held_by"]:
        held = facts["held_by"]
        who, what, since = held.get("who"), held.get("what"), held.get("since")
        return f"{who} is releasing {what} since {since} (pid {held.get('pid')}, alive)"
    if facts["open"]:
        guard = "its guard is taking it back" if facts["guard"] else "no guard lives: run `cutover recover`"
        said = (
            f"\n  guard  {MASK(facts['guard_said'])}\n  run    {facts['run']}" if facts["guard_said"] else ""
        )
        return f"release {facts['open']}, its session is gone; {guard}{said}"
    return "nothing · lock free · guard not needed"


__all__ = ["clock", "command"]
