"""The way back: which releases users had, in order, and where a rollback goes. It never goes forward."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cutover import preflight, scene
from cutover.core.config import Settings
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable
from cutover.proxy.base import other
from cutover.scene import Scene
from cutover.state import Record, State, now, write_atomically
from cutover.system import docker
from cutover.walk import Walk

FILE = "live-history.json"
"""What users had, the newest last; below the newest also what a rollback went back to."""
KEPT = 20


class AlreadyRolledBack(ConfigError):
    """The release before is live again already, so a second rollback changes nothing."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to get back to *to*: flip to it, start it and flip, or deploy its tag to the live color."""

    how: Literal["flip", "start", "deploy"]
    to: Record


# --- deciding: pure -------------------------------------------------------------------------------------------------
def same(row: Record, running: Record) -> bool:
    """Whether *running* is that release; its container may be another one, for a put back makes a new one."""
    if row.color != running.color:
        return False
    return row.tag == running.tag if _expected(row) else _key(row) == _key(running)


def _key(row: Record) -> tuple[str, str]:
    return row.image, row.config_hash


def _expected(row: Record) -> bool:
    """Whether *row* only says that a rollback deploys this tag to this color: what that becomes is not known yet."""
    return not row.image


def on_top(rows: Sequence[Record], running: Record) -> list[Record]:
    """*rows* with what users have now as the newest."""
    return [*rows] if rows and same(rows[-1], running) else [*rows, running]


def released(rows: Sequence[Record], old: Record | None, new: Record) -> list[Record]:
    """*rows* after users got *new* in place of *old*; what a rollback deployed stays below what it went back from."""
    if any(_expected(row) and same(row, new) for row in rows):
        return [new if _expected(row) else row for row in rows]
    return on_top(settled(rows) if old is None else on_top(settled(rows), old), new)


def settled(rows: Sequence[Record]) -> list[Record]:
    """*rows* without what was expected and never came."""
    return [row for row in rows if not _expected(row)]


def going_back(rows: Sequence[Record], running: Record, tag: str) -> list[Record]:
    """*rows* before *tag* is deployed to the color of *running*, so that a second rollback sees the first one."""
    *below, top = on_top(settled(rows), running)
    expected = replace(top, tag=tag, image="", config_hash="", container="", file="", proven=False)
    return [*below, expected, top]


def before(rows: Sequence[Record], running: Record, *, to_deploy: bool = False) -> Record:
    """The release that users had before *running*: the newest proven one, else the newest; raises ConfigError.

    *to_deploy*: it would be deployed by its tag, so only a proven one with another tag is of use.
    """
    at = next((n for n in reversed(range(len(rows))) if same(rows[n], running)), len(rows))
    if at < len(rows) - 1:
        was = f"{running.tag} runs on {running.color} again, {rows[-1].tag} was live after it"
        raise AlreadyRolledBack(
            f"already rolled back: {was}; nothing was changed; name another release with --to-tag"
        )
    below = settled(rows[:at])
    good = [row for row in below if row.proven and (row.tag != running.tag or not to_deploy)]
    if not good and (to_deploy or not below):
        what = "is recorded as proven and live" if below else "is recorded as live"
        raise ConfigError(f"no other release than {running.tag} {what} before, so say which one: --to-tag")
    return (good or below)[-1]


# --- asking ---------------------------------------------------------------------------------------------------------
def plan(state: State, here: Scene) -> Way:
    """Where a rollback goes from what is live now, and how; changes nothing, raises ConfigError."""
    settings, live = here.settings, here.live.color
    if live is None:
        raise ConfigError(f"which color is live is unknown, so there is no way back from it: {here.live.how}")
    rows = lived(state)
    now_there = running(settings, state, live)
    if now_there is None:
        now_there = next((row for row in rows[-1:] if row.color == live), _nothing(live))
    to = before(rows, now_there)
    # A port swap has a gap either way, and what it stopped was started for the port that users know.
    if here.proxy is not None and here.proxy.keeps_old_color and to.color == other(live):
        found = docker.the_container(settings.compose_project(to.color), settings.service)
        if found is not None and found.running:
            warm = found.health_status in {"healthy", "none"} and _key(to) == (found.image, found.config_hash)
            if warm:
                return Way("flip", to)
        elif to.proven and _can_start(settings, to):
            return Way("start", to)
    return Way("deploy", before(rows, now_there, to_deploy=True))


def before_a_person(state: State, here: Scene) -> Record | None:
    """What users had before a person sent them to the live color, where that runs, healthy and proven; else None.

    By what we left live: a release that was but staged on the other color, or one older than what the live color
    had, is nothing to go back to. Raises ConfigError or EngineUnavailable.
    """
    settings, live = here.settings, here.live.color
    if live is None or (here.proxy is not None and not here.proxy.keeps_old_color):
        return None
    there = running(settings, state, other(live))
    if there is None or not there.proven or left_live(state.history(), lived(state)) != there.color:
        return None
    found = docker.the_container(settings.compose_project(there.color), settings.service)
    return there if found is not None and found.well else None


def left_live(history: Sequence[Mapping[str, Any]], rows: Sequence[Record]) -> str:
    """The color that we last left live, by a flip back or by a release; empty for none."""
    ends = (row for row in reversed(history) if row.get("event") in {"released", "rolled back"})
    last: Mapping[str, Any] = next(ends, {})
    if last.get("event") == "rolled back" and last.get("color"):
        return str(last["color"])
    return rows[-1].color if rows else ""


def _nothing(color: str) -> Record:
    return Record(color, "nothing", "none", "", "", "", proven=False, by="", at="")


def _can_start(settings: Settings, to: Record) -> bool:
    """Whether its file is there and the file's image name still means its image."""
    path = scene.release_path(settings, to.color, to.file)
    if not path.is_file():
        return False
    model = json.loads(path.read_text(encoding="utf-8"))
    return docker.image_id(str(model["services"][settings.service]["image"])) == to.image


def running(settings: Settings, state: State, color: str) -> Record | None:
    """What is on *color* now, by its record if it has one."""
    found = docker.the_container(settings.compose_project(color), settings.service)
    if found is None:
        return None
    rows = [row for row in state.records(color) if _key(row) == (found.image, found.config_hash)]
    proven = [row for row in rows if row.proven]
    if rows:
        return (proven or rows)[-1]
    tag = scene.tag_of(found.image_name) or found.image[7:19]
    key = (found.image, found.config_hash)
    return Record(color, tag, *key, found.id, "", proven=False, by=preflight.who(), at=now())


# --- remembering ----------------------------------------------------------------------------------------------------
def lived(state: State) -> list[Record]:
    """What users had, the newest last; raises ConfigError for a damaged file."""
    try:
        return [Record(**row) for row in json.loads((state.root / FILE).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{state.root / FILE} is damaged: {error}; move it away") from error


def keep(state: State, rows: Sequence[Record]) -> None:
    """Write down what users had."""
    write_atomically(state.root / FILE, json.dumps([asdict(row) for row in rows[-KEPT:]], indent=1))


def note(
    settings: Settings, state: State, live: str, what: Callable[[Sequence[Record], Record], list[Record]]
) -> None:
    """Write down what users have now, above what they go back to: a second way back sees the first one by it."""
    there = running(settings, state, live)
    if there is not None:
        with contextlib.suppress(OSError):  # a full disk is no reason not to go back
            keep(state, what(lived(state), there))


def remember(walk: Walk) -> None:
    """What this session committed is what users have from here on, if it is live; it stays, also on a full disk."""
    to, settings = walk.target.color, walk.settings
    alone = walk.before is None and settings.proxy is None
    if to is None or not walk.changed or not (walk.switched or to == walk.before or alone):
        return
    try:
        new = running(settings, walk.state, to)
        if new is not None:
            keep(walk.state, released(lived(walk.state), _replaced(walk), new))
    except (CutoverError, EngineUnavailable, OSError) as error:
        walk.told("", "way back", f"not written: {error}", None, "unknown")


def _replaced(walk: Walk) -> Record | None:
    """What users had before: by the file that would have brought it back, or as it still runs beside the new one."""
    old = walk.old if walk.switched else walk.planned.previous if walk.planned else None
    if old is None or walk.before is None:
        return None
    rows = [row for row in walk.state.records(walk.before) if row.file == old.file.name]
    if rows:
        return ([row for row in rows if row.proven] or rows)[-1]
    return running(walk.settings, walk.state, walk.before) if walk.switched else None
