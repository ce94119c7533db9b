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

from cutover import again, consuming, preflight, scene, switching, way_back
from cutover.changes.up import up
from cutover.commands.common import common, settings_of, tell
from cutover.commands.recover import serves_again
from cutover.core import result
from cutover.core.config import Settings
from cutover.core.errors import (
    ConfigError,
    CutoverError,
    EngineUnavailable,
    Failed,
    Inconclusive,
    Locked,
    OperatorNeeded,
)
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome
from cutover.scene import Scene
from cutover.state import Record, State, did_revert, now
from cutover.system import docker
from cutover.system.compose import Compose
from cutover.walk import Walk
from cutover.way_back import Way
from cutover.wish import ReleaseRequest

START_S = 60.0


@click.command
@common
@click.option(
    "--to-tag",
    metavar="TAG",
    help="Deploy this tag to the live color; it is gated and reported, never undone.",
)
def command(config: str | None, as_json: bool, to_tag: str | None) -> int:  # click passes flags so
    """Revert the open release; else go back to what users had before: flip to it, or deploy it."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    if to_tag:
        with state.locked(_owner()):
            if state.open_release() is None:  # else what runs is a dead session's, which the next one reverts
                _expect(settings, state, scene.look(settings).live.color, to_tag)
        return _deploy(settings, state, to_tag)
    return _until_free(state, settings.release_timeout, lambda: _go_back(settings, state, as_json))


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
    """Never answered "locked": who holds the lock with nothing open is waited for, and reverted once it opens."""
    began, told = clock(), False
    while True:
        try:
            return go_back()
        except Locked:
            if clock() - began > patience_s:
                raise
            if not told:
                said = state.told().removesuffix("; nothing was changed")
                click.echo(f"waiting: {said}, with nothing open yet; what it opens is reverted", err=True)
                told = True


def _go_back(settings: Settings, state: State, as_json: bool) -> int:  # click's flag passed on
    """Once: raises Locked while somebody else holds the lock with nothing open."""
    left = state.open_release()
    if left is not None:
        return _revert(settings, state, left, as_json)
    with state.locked(_owner()):
        left = state.open_release()
        if left is not None:  # opened after we looked, by a session that is gone: the lock is ours
            return _revert(settings, state, left, as_json)
        here = scene.look(settings)
        try:
            way = way_back.plan(state, here)
        except way_back.AlreadyRolledBack as done:
            tell(as_json, {"live": here.live.color, "already": str(done)}, [str(done)])
            return result.OK
        if way.how != "deploy":
            return _flip(_walk(here), way, as_json)
        _expect(settings, state, here.live.color, way.to.tag)
    code = _deploy(settings, state, way.to.tag)
    if code == result.LOCKED:
        raise Locked(state.told())
    return code


def _revert(settings: Settings, state: State, left: str, as_json: bool) -> int:  # click's flag passed on
    """A living session learns it from the step lock: its next step answers 75, and it ends with 1."""
    # Before, because that session may ask who it was in the very moment in which it is done.
    state.journal("reverting", release=left, who=preflight.who(), why="cutover rollback")
    done = state.revert(left)
    if not done.ok:
        raise OperatorNeeded(
            f"release {left} could not be reverted: {done.last_line}; run: {state.revert_command}"
        )
    if not did_revert(done, left):
        raise Failed(f"release {left} ended by itself while it was to be reverted; see `cutover status`")
    state.journal("reverted", release=left, who=preflight.who(), why="cutover rollback")
    said = serves_again(settings, state, left)
    tell(as_json, {"reverted": left, "serves": said}, [f"release {left} was reverted: {said}"])
    return 0


# --- to the other color --------------------------------------------------------------------------------------------
def _walk(here: Scene) -> Walk:
    """A session of ours whose target is the idle color."""
    walk = Walk(here.settings, ReleaseRequest(("idle",), switch=True), Evidence(), lambda *_: None)
    walk.scene, walk.before = here, here.live.color
    walk.target = scene.target_named(here, "idle")
    walk.from_tag = scene.running_tag(here.settings, walk.before or "")
    return walk


def _flip(walk: Walk, way: Way, as_json: bool) -> int:  # click's flag passed on
    """Switch to the color that users had before, started if need be; asked from the proxy afterwards."""
    to, state = way.to.color, walk.state
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
    except (CutoverError, EngineUnavailable) as error:
        raise _undone(walk, error) from error
    if not state.close(walk.release_id or ""):
        raise Failed(f"the flip to {to} was reverted by {walk.taken_by()}")
    state.journal("rolled back", release=walk.release_id, color=to, tag=way.to.tag, who=preflight.who())
    return _told(walk, way.to, seconds, as_json)


def _may_switch(walk: Walk) -> None:
    """The proxy is as we know it; how the bad release would be started again need not be known."""
    agreed = walk.scene.proxy.agreed() if walk.scene.proxy else None
    if agreed is None or not agreed.ok:
        raise ConfigError(f"the proxy is not as we know it: {agreed.reason if agreed else 'there is none'}")
    with contextlib.suppress(ConfigError):
        walk.old = preflight.previous_of(walk.state, walk.scene, walk.before or "")[0]


def _start(walk: Walk, to: Record) -> None:
    """Start what was retired, from the file that nobody edits; raises Failed."""
    settings = walk.settings
    project = Compose(settings.compose_project(to.color), scene.release_path(settings, to.color, to.file))
    wait, text = settings.gate.start_timeout or START_S, f"{to.tag} on {to.color}, which was stopped"
    done = walk.apply(up(walk.state.root, project, settings.services, text=text, wait_s=wait, previous=None))
    found = way_back.running(settings, walk.state, to.color)
    if not done.ok or found is None or not way_back.same(to, found):
        raise Failed(f"{to.tag} did not start on {to.color}: {done.last_line or 'something else runs there'}")


def _undone(walk: Walk, error: Exception) -> CutoverError:
    """The error of a flip, with what became of its revert."""
    release_id = walk.release_id
    if release_id is None:
        return ConfigError(f"{error}; nothing was changed")
    kind = Inconclusive if isinstance(error, (Inconclusive, EngineUnavailable)) else Failed
    done = walk.state.revert(release_id)
    if done.ok:
        return kind(f"{error}; it was reverted: {serves_again(walk.settings, walk.state, release_id)}")
    return OperatorNeeded(
        f"{error}; nor could it be reverted: {done.last_line}; run: {walk.state.revert_command}"
    )


def _told(walk: Walk, to: Record, seconds: float, as_json: bool) -> int:  # click's flag passed on
    """The gate once more, and what users have now; raises OperatorNeeded when that does not pass."""
    settings, color = walk.settings, to.color
    seen = again.gate(walk, again.shipped())
    found = docker.the_container(settings.compose_project(color), settings.service)
    if seen.ok and found is not None and to.file:
        walk.state.keep_record(replace(to, container=found.id, proven=True, at=now()))
    facts = {"live": color, "tag": to.tag, "seconds": seconds, "gate": seen.reason}
    line = f"{settings.project} runs {to.tag} on {color} again (flipped in {1000 * seconds:.0f} ms); {seen.reason}"
    tell(as_json, facts, [line])
    if seen.outcome is Outcome.NO:
        raise OperatorNeeded(
            f"{color} is live and does not pass the gate: {seen.reason}; see `cutover status`"
        )
    return result.OK


# --- to a tag -------------------------------------------------------------------------------------------------------
def _expect(settings: Settings, state: State, live: str | None, tag: str) -> None:
    """Write down that users go back to *tag*; the session that deploys it fills that in."""
    if live is not None:
        way_back.note(settings, state, live, lambda rows, running: way_back.going_back(rows, running, tag))


def _deploy(settings: Settings, state: State, tag: str) -> int:
    """A session of its own, which never undoes: gate not passed is exit 11, naming what runs."""
    argv = (
        sys.executable,
        "-m",
        "pytest",
        *again.shipped(),
        "--target=live",
        f"--deploy={tag}",
        "--keep-on-failure",
        "--skip-migrations",
        f"--cutover-config={settings.source}",
        *again.ALL_PLUGINS,
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"} | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"
    }
    code = subprocess.run(argv, check=False, env=environment).returncode
    if code in {result.FAILED, result.INCONCLUSIVE}:
        raise OperatorNeeded(
            f"{tag} runs, not proven: the gate did not pass; see reports/latest, and `cutover status`"
        )
    if code == result.OK:
        state.journal("rolled back", tag=tag, who=preflight.who())
    if code != result.LOCKED:
        with contextlib.suppress(OSError):
            way_back.keep(state, way_back.settled(way_back.lived(state)))
    return code
