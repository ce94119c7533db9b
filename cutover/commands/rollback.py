"""Roll back: an open release, a switch, or the last proven release."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import click

from cutover import again, consuming, preflight, result, scene, switching, way_back
from cutover.changes.up import up
from cutover.commands.common import common, settings_of, tell
from cutover.commands.recover import serves_again
from cutover.core.config import Settings
from cutover.core.errors import (
    CutoverError,
    EngineSilent,
    Failed,
    Inconclusive,
    Locked,
    NeedsPerson,
    UsageProblem,
)
from cutover.core.verdict import Outcome
from cutover.evidence import Evidence
from cutover.scene import Scene
from cutover.state import Record, State, did_take_back, now
from cutover.system import docker
from cutover.system.compose import Compose
from cutover.walk import Walk
from cutover.way_back import Way
from cutover.wish import Wish

START_S = 60.0


@click.command
@common
@click.option(
    "--to-tag",
    metavar="TAG",
    help="Deploy this tag to the live colour; it is gated and reported, never undone.",
)
def command(config: str | None, as_json: bool, to_tag: str | None) -> int:  # click passes flags so
    """Take the open release back; else go back to what users had before: flip to it, or deploy it."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    if to_tag:
        with state.locked(_owner()):
            if (
                state.open_release() is None
            ):  # else what runs is a dead session's, which the next one takes back
                _expect(settings, state, scene.look(settings).live.colour, to_tag)
        return _deploy(settings, state, to_tag)
    return _until_free(state, settings.max_release, lambda: _go_back(settings, state, as_json))


def _owner() -> dict[str, object]:
    return {
        "who": preflight.who(),
        "what": "a rollback",
        "since": now(),
        "pid": os.getpid(),
        "host": os.uname().nodename,
    }


def _until_free(
    state: State, patience_s: float, go_back: Callable[[], int], clock: Callable[[], float] = time.monotonic
) -> int:
    """Never answered "locked": who holds the lock with nothing open is waited for, and taken back once it opens."""
    began, told = clock(), False
    while True:
        try:
            return go_back()
        except Locked:
            if clock() - began > patience_s:
                raise
            if not told:
                said = state.told().removesuffix("; nothing was changed")
                click.echo(f"waiting: {said}, with nothing open yet; what it opens is taken back", err=True)
                told = True


def _go_back(settings: Settings, state: State, as_json: bool) -> int:  # click's flag passed on
    """Once: raises Locked while somebody else holds the lock with nothing open."""
    left = state.open_release()
    if left is not None:
        return _take_back(settings, state, left, as_json)
    with state.locked(_owner()):
        left = state.open_release()
        if left is not None:  # opened after we looked, by a session that is gone: the lock is ours
            return _take_back(settings, state, left, as_json)
        here = scene.look(settings)
        try:
            way = way_back.plan(state, here)
        except way_back.AlreadyRolledBack as done:
            tell(as_json, {"live": here.live.colour, "already": str(done)}, [str(done)])
            return result.OK
        if way.how != "deploy":
            return _flip(_walk(here), way, as_json)
        _expect(settings, state, here.live.colour, way.to.tag)
    code = _deploy(settings, state, way.to.tag)
    if code == result.LOCKED:
        raise Locked(state.told())
    return code


def _take_back(settings: Settings, state: State, left: str, as_json: bool) -> int:  # click's flag passed on
    """A living session learns it from the hand: its next step answers 75, and it ends with 1."""
    # Before, because that session may ask who it was in the very moment in which it is done.
    state.journal("taking back", release=left, who=preflight.who(), why="cutover rollback")
    done = state.take_back(left)
    if not done.ok:
        raise NeedsPerson(
            f"release {left} could not be taken back: {done.last_line}; run: {state.take_back_command}"
        )
    if not did_take_back(done, left):
        raise Failed(f"release {left} ended by itself while it was to be taken back; see `cutover status`")
    state.journal("taken back", release=left, who=preflight.who(), why="cutover rollback")
    said = serves_again(settings, state, left)
    tell(as_json, {"taken_back": left, "serves": said}, [f"release {left} was taken back: {said}"])
    return 0


# --- to the other colour --------------------------------------------------------------------------------------------
def _walk(here: Scene) -> Walk:
    """A session of ours whose target is the idle colour."""
    walk = Walk(here.settings, Wish(("idle",), switch=True), Evidence(), lambda *_: None)
    walk.scene, walk.before = here, here.live.colour
    walk.target = scene.target_named(here, "idle")
    walk.from_tag = scene.running_tag(here.settings, walk.before or "")
    return walk


def _flip(walk: Walk, way: Way, as_json: bool) -> int:  # click's flag passed on
    """Switch to the colour that users had before, started if need be; asked from the proxy afterwards."""
    to, state = way.to.colour, walk.state
    _may_switch(walk)
    way_back.note(walk.settings, state, walk.before or "", way_back.on_top)
    walk.pending = way.to
    try:
        if way.how == "start":
            _start(walk, way.to)
        begun = time.monotonic()
        done = walk.apply(switching.switch_change(walk, to, walk.old))
        if not done.ok:
            raise Failed(f"the flip to {to} failed: {done.last_line}")
        switching.seen_live(walk, to)
        seconds = time.monotonic() - begun
        consuming.move(walk, to)
    except (CutoverError, EngineSilent) as error:
        raise _undone(walk, error) from error
    if not state.close(walk.release_id or ""):
        raise Failed(f"the flip to {to} was taken back by {walk.taken_by()}")
    state.journal("rolled back", release=walk.release_id, colour=to, tag=way.to.tag, who=preflight.who())
    return _told(walk, way.to, seconds, as_json)


def _may_switch(walk: Walk) -> None:
    """The proxy is as we know it; how the bad release would be started again need not be known."""
    agreed = walk.scene.proxy.agreed() if walk.scene.proxy else None
    if agreed is None or not agreed.ok:
        raise UsageProblem(f"the proxy is not as we know it: {agreed.reason if agreed else 'there is none'}")
    with contextlib.suppress(UsageProblem):
        walk.old = preflight.previous_of(walk.state, walk.scene, walk.before or "")[0]


def _start(walk: Walk, to: Record) -> None:
    """Start what was retired, from the file that nobody edits; raises Failed."""
    settings = walk.settings
    project = Compose(settings.compose_project(to.colour), scene.release_path(settings, to.colour, to.file))
    wait, text = settings.gate.up_budget or START_S, f"{to.tag} on {to.colour}, which was stopped"
    done = walk.apply(up(walk.state.root, project, settings.services, text=text, wait_s=wait, previous=None))
    found = way_back.running(settings, walk.state, to.colour)
    if not done.ok or found is None or not way_back.same(to, found):
        raise Failed(
            f"{to.tag} did not start on {to.colour}: {done.last_line or 'something else runs there'}"
        )


def _undone(walk: Walk, error: Exception) -> CutoverError:
    """The error of a flip, with what became of its take-back."""
    release_id = walk.release_id
    if release_id is None:
        return UsageProblem(f"{error}; nothing was changed")
    kind = Inconclusive if isinstance(error, (Inconclusive, EngineSilent)) else Failed
    done = walk.state.take_back(release_id)
    if done.ok:
        return kind(f"{error}; it was taken back: {serves_again(walk.settings, walk.state, release_id)}")
    return NeedsPerson(
        f"{error}; nor could it be taken back: {done.last_line}; run: {walk.state.take_back_command}"
    )


def _told(walk: Walk, to: Record, seconds: float, as_json: bool) -> int:  # click's flag passed on
    """The gate once more, and what users have now; raises NeedsPerson when that does not pass."""
    settings, colour = walk.settings, to.colour
    seen = again.gate(walk, again.shipped())
    found = docker.the_container(settings.compose_project(colour), settings.service)
    if seen.ok and found is not None and to.file:
        walk.state.keep_record(replace(to, container=found.id, proven=True, at=now()))
    facts = {"live": colour, "tag": to.tag, "seconds": seconds, "gate": seen.reason}
    line = f"{settings.project} runs {to.tag} on {colour} again (flipped in {1000 * seconds:.0f} ms); {seen.reason}"
    tell(as_json, facts, [line])
    if seen.outcome is Outcome.NO:
        raise NeedsPerson(f"{colour} is live and does not pass the gate: {seen.reason}; see `cutover status`")
    return result.OK


# --- to a tag -------------------------------------------------------------------------------------------------------
def _expect(settings: Settings, state: State, live: str | None, tag: str) -> None:
    """Write down that users go back to *tag*; the session that deploys it fills that in."""
    if live is not None:
        way_back.note(settings, state, live, lambda rows, running: way_back.going_back(rows, running, tag))


def _deploy(settings: Settings, state: State, tag: str) -> int:
    """A session of its own, which never undoes: gate not passed is exit 11, naming what runs."""
    words = (
        sys.executable,
        "-m",
        "pytest",
        *again.shipped(),
        "--target=live",
        f"--deploy={tag}",
        "--no-rollback",
        "--no-migrate",
        f"--cutover-config={settings.source}",
        *again.ALL_PLUGINS,
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"} | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"
    }
    code = subprocess.run(words, check=False, env=environment).returncode
    if code in {result.FAILED, result.INCONCLUSIVE}:
        raise NeedsPerson(
            f"{tag} runs, not proven: the gate did not pass; see reports/latest, and `cutover status`"
        )
    if code == result.OK:
        state.journal("rolled back", tag=tag, who=preflight.who())
    if code != result.LOCKED:
        with contextlib.suppress(OSError):
            way_back.keep(state, way_back.settled(way_back.lived(state)))
    return code
