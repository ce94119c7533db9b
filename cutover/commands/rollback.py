"""Roll back: an open release, a switch, or the last proven release."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click

from cutover import again, consuming, engine, host, preflight, scene, switching
from cutover.commands.common import common, settings_of, tell
from cutover.errors import CutoverError, Failed, Inconclusive, NeedsPerson, UsageProblem
from cutover.evidence import Evidence
from cutover.proxies import other
from cutover.settings import Settings
from cutover.state import State, did_take_back, now
from cutover.walk import Walk
from cutover.wish import Wish


@click.command
@common
@click.option(
    "--to-tag",
    metavar="TAG",
    help="Deploy this tag to the live colour; it is gated and reported, never undone.",
)
def command(config: str | None, as_json: bool, to_tag: str | None) -> int:  # click passes flags so
    """Take the open release back; else flip to the warm old colour; else deploy the last proven release."""
    settings = settings_of(config)
    if to_tag:
        return _deploy(settings, to_tag)
    state = State(settings.state)
    state.prepare()
    left = state.open_release()
    if left is not None:
        return _take_back(state, left, as_json)
    here = scene.look(settings)
    if here.proxy is not None and here.live.colour is not None and _warm(settings, other(here.live.colour)):
        return _flip(settings, state, as_json)
    return _deploy(settings, _last_proven(settings, state, here.live.colour))


def _take_back(state: State, left: str, as_json: bool) -> int:  # click's flag passed on
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
    tell(as_json, {"taken_back": left}, [f"release {left} was taken back; see `cutover status`"])
    return 0


def _warm(settings: Settings, colour: str) -> bool:
    found = engine.the_container(settings.compose_project(colour), settings.service)
    return found is not None and found.running and found.health_status in {"healthy", "none"}


def _flip(settings: Settings, state: State, as_json: bool) -> int:  # click's flag passed on
    """Switch to the other colour, which runs; asked from the proxy afterwards."""
    with state.locked({"who": preflight.who(), "what": "a rollback", "since": now()}):
        left = state.open_release()
        if left is not None:  # opened after we looked, by a session that is gone: the lock is ours
            return _take_back(state, left, as_json)
        walk = Walk(settings, Wish(("idle",), switch=True), Evidence(), lambda *_: None)
        walk.begin_here()
        to, begun = walk.target.colour or "", time.monotonic()
        switching.check(walk)
        done = walk.apply(switching.switch_change(walk, to, walk.old))
        if not done.ok:
            raise _undone(state, walk.release_id or "", Failed(f"the flip to {to} failed: {done.last_line}"))
        try:
            switching.seen_live(walk, to)
            seconds = time.monotonic() - begun
            consuming.move(walk, to)
        except (Failed, Inconclusive) as error:
            raise _undone(state, walk.release_id or "", error) from error
        if not state.close(walk.release_id or ""):
            raise Failed(f"the flip to {to} was taken back by {walk.taken_by()}")
        state.journal(
            "rolled back", release=walk.release_id, colour=to, tag=walk.target.tag, who=preflight.who()
        )
    seen = again.gate(walk, again.shipped())
    line = f"{settings.project} runs {walk.target.tag} on {to} again (flipped in {1000 * seconds:.0f} ms); {seen}"
    tell(as_json, {"live": to, "tag": walk.target.tag, "seconds": seconds, "gate": seen}, [line])
    if seen.startswith("no"):
        raise NeedsPerson(f"{to} is live and does not pass the gate: {seen}")
    return 0


def _undone(state: State, release_id: str, error: CutoverError) -> CutoverError:
    """The error of a flip, with what became of its take-back."""
    done = state.take_back(release_id)
    if done.ok:
        return type(error)(f"{error}; it was taken back")
    return NeedsPerson(
        f"{error}; nor could it be taken back: {done.last_line}; run: {state.take_back_command}"
    )


def _last_proven(settings: Settings, state: State, live: str | None) -> str:
    """The tag of the newest proven release that is not what runs on the live colour now."""
    if live is None:
        raise UsageProblem(
            "which colour is live is unknown, so there is nothing to roll back to; see `cutover status`"
        )
    running = scene.running_tag(settings, live)
    good = [
        row
        for colour in settings.colours
        for row in state.records(colour)
        if row.proven and row.tag != running
    ]
    if not good:
        known = f"no other release than {running}, which runs, is" if running else "no release is"
        raise UsageProblem(f"{known} recorded as proven, so there is none to roll back to; say --to-tag")
    return max(good, key=lambda row: row.at).tag


def _deploy(settings: Settings, tag: str) -> int:
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
    if code in {1, 10}:
        raise NeedsPerson(
            f"{tag} runs, not proven: the gate did not pass; see reports/latest, and `cutover status`"
        )
    return code


__all__ = ["command", "host"]
