"""`cutover confirm`, `recover`, `rehearse`, `retire` and `rollback`: commands that act on what is released."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import click

from cutover.cli.main import common, settings_of, tell
from cutover.core.errors import ConfigError, Failed, Locked
from cutover.core.masking import printable
from cutover.core.target import tag_fault
from cutover.proxy.base import other
from cutover.release.colors import inspect_colors, main_container
from cutover.release.confirm import confirm
from cutover.release.gate_run import pytest_child
from cutover.release.history import Moment, unresolved
from cutover.release.rollback import (
    finish_record,
    keep_as_it_is,
    rehearse_rollback,
    require_gate_of_old,
    roll_back,
    roll_back_to,
    say_what_runs,
    wait_until_free,
)
from cutover.release.state import State, lock_owner, who
from cutover.release.switch import retire
from cutover.release.verify import journaled, require_reverted


@click.command("confirm")
@common
@click.argument("release", required=False, metavar="[ID]")
@click.option("--check", is_flag=True, help="Only ask whether it can be confirmed now; it stays held.")
def confirm_command(config: str | None, as_json: bool, release: str | None, check: bool) -> int:
    """Keep the release that is held (`--hold`), before its guard reverts it at the deadline.

    A release that is confirmed already stays so. Exit 1: it was reverted, or it does not serve any more.
    """
    settings = settings_of(config)
    state = State(settings.state).prepare()
    with journaled(state):
        done = confirm(settings, state, release, check=check)
    tell(as_json, dict(done.facts), [done.sentence, *(f"note   {each}" for each in done.notes)])
    return 0


@click.command("recover")
@common
@click.option(
    "--give-up",
    is_flag=True,
    help="Keep what runs now: end the guard that retries the revert, and write down who accepted it.",
)
def recover_command(config: str | None, as_json: bool, give_up: bool) -> int:
    """Revert the release of a session that died, or complete its record; after exit 11 ask again how users are served.

    A living session is left alone (exit 12). A held release whose time is not over gets its guard again.
    """
    settings = settings_of(config)
    state = State(settings.state)
    first, trouble = state.open_release(), unresolved(state.history())
    nothing = "nothing is open: nothing to recover"
    # Also of a session that has nothing open: it may open a release, or still write its report.
    if state.session_runs():
        raise Locked(state.lock_line())
    if first is None and trouble is None and state.unrecorded() is not None:
        with state.locked(lock_owner("recover")):
            completed = finish_record(settings, state)
        tell(as_json, {"recovered": None, "completed": completed}, [completed or nothing])
        return 0
    if first is None and trouble is None:
        tell(as_json, {"recovered": None}, [nothing])
        return 0
    state.prepare()
    of: str | None = first or (trouble["release"] if trouble and trouble.get("release") else None)
    only_recover = bool(trouble and trouble.get("only_recover"))
    with state.locked(lock_owner("recover")), journaled(state, of, only_recover=only_recover):
        left, held, now_is = state.open_release(), state.held(), Moment.now()
        if not give_up and held is not None and held.left_s(now_is) > 0:
            started = "its guard was started again" if state.ensure_guard(held.release) else "its guard runs"
            said = f"{held.line(now_is)}; {started}: {held.way_out}"
            tell(as_json, {"recovered": None, "held": held.release, "guard": started}, [said])
            return 0
        if give_up:
            said = keep_as_it_is(settings, state)
            tell(as_json, {"recovered": None, "given_up": left, "runs": said}, [f"given up: {said}"])
            return 0
        if left is not None:
            state.recover(left)
        release = left or of
        said = require_reverted(settings, state, release) if release else say_what_runs(settings)
        if trouble is not None:
            require_gate_of_old(settings, state, trouble)
            state.journal("recovered", release=trouble.get("release"), who=who())
    meanwhile = "the guard has reverted it meanwhile" if first else "resolved"
    what = f"release {left} was reverted" if left else meanwhile
    tell(as_json, {"recovered": left, "serves": said}, [f"{what}: {said}"])
    return 0


@click.command("rehearse")
@common
@click.option(
    "--deploy",
    metavar="TAG",
    help="Deploy this tag to the idle color first; it stays there, verified, and what was warm there is gone.",
)
def rehearse_command(config: str | None, as_json: bool, deploy: str | None) -> int:
    """Switch to the idle color with proof, revert that as a bad release would be, and say how long that took."""
    settings = settings_of(config)
    if deploy is not None:
        require_tag("--deploy", deploy)
    state = State(settings.state).prepare()
    if deploy is not None and (code := pytest_child(settings, "--target=idle", f"--deploy={deploy}")):
        return code
    with state.locked(lock_owner("a rehearsal")), journaled(state):
        done = rehearse_rollback(settings, state)
    facts = asdict(done)
    facts["seconds_back"] = facts.pop("seconds")
    took = f"the rollback took {1000 * done.seconds:.0f} ms"
    tell(as_json, facts, [f"switched to {done.there} and back to {done.back}: {took}"])
    return 0


@click.command("retire")
@common
def retire_command(config: str | None, as_json: bool) -> int:
    """Drain and stop the idle color; refused while a release is open, or when the live one cannot be told."""
    settings = settings_of(config)
    state = State(settings.state).prepare()
    with state.locked(lock_owner("retire")):
        left = state.open_release()
        if left:
            state.require_not_held()
            why = f"release {left} is open, its revert needs the idle color"
            raise ConfigError(f"{why}: `cutover recover` first")
        colors = inspect_colors(settings)
        if colors.live.color is None:
            raise ConfigError(f"which color is idle is unknown: {colors.live.how}")
        idle = other(colors.live.color)
        serving = main_container(settings, colors.live.color)
        if settings.proxy is not None and (serving is None or not serving.running):
            there = "nothing runs" if serving is None else f"the container is {serving.status}"
            raise ConfigError(f"traffic goes to {colors.live.color}, where {there}: {idle} is not stopped")
        if idle not in colors.rendered:
            raise ConfigError(f"{idle} has no env file, so nothing of ours runs there")
        done = retire(colors, idle)
    if not done.ok:
        raise Failed(done.reason)
    facts = {"retired": idle, "live": colors.live.color}
    tell(as_json, facts, [f"{done.reason}; {colors.live.color} is live"])
    return 0


@click.command("rollback")
@common
@click.argument("release", required=False, metavar="[ID]")
@click.option(
    "--to-tag",
    metavar="TAG",
    help="Deploy this tag to the live color; it is gated and reported, never undone.",
)
def rollback_command(config: str | None, as_json: bool, release: str | None, to_tag: str | None) -> int:
    """Revert the open release; else go back to what users had before: flip to it, or deploy it.

    With ID only that release is reverted: nothing is done if it is not open any more.
    """
    settings = settings_of(config)
    if to_tag is not None:
        require_tag("--to-tag", to_tag)
        if release is not None:
            both = f"--to-tag={to_tag} with {release}"
            raise ConfigError(f"{both}: the one deploys, the other reverts; choose one")
    state = State(settings.state).prepare()
    with journaled(state):
        if to_tag is not None:
            done = roll_back_to(settings, state, to_tag)
        else:
            wait_s, act = settings.release_timeout, partial(roll_back, settings, state, release)
            done = wait_until_free(state, wait_s, act, lambda text: click.echo(printable(text), err=True))
        if done.sentence:
            tell(as_json, dict(done.facts), [done.sentence])
        if done.trouble is not None:
            raise done.trouble
    return done.code


def require_tag(option: str, tag: str) -> None:
    """Raise ConfigError if *tag*, given by *option*, is no image tag."""
    if fault := tag_fault(tag):
        raise ConfigError(f"{option}: {fault}")
