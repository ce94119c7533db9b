"""`cutover rehearse`: switch to the idle color and back on the running system, and measure the way back."""

from __future__ import annotations

from dataclasses import asdict

import click

from cutover.commands.common import common, settings_of, tell
from cutover.release.gate_run import pytest_child
from cutover.release.rollback import rehearse_rollback
from cutover.release.state import State, lock_owner


@click.command
@common
@click.option(
    "--deploy",
    metavar="TAG",
    help="Deploy this tag to the idle color first; it stays there, proven, and what was warm there is gone.",
)
def command(config: str | None, as_json: bool, deploy: str | None) -> int:  # click passes flags so
    """Switch to the idle color with proof, revert that as a bad release would be, and say how long that took."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    if deploy and (code := pytest_child(settings, "--target=idle", f"--deploy={deploy}")):
        return code
    with state.locked(lock_owner("a rehearsal")):
        done = rehearse_rollback(settings, state)
    facts = asdict(done)
    facts["seconds_back"] = facts.pop("seconds")
    took = f"the way back took {1000 * done.seconds:.0f} ms"
    tell(as_json, facts, [f"switched to {done.there} and back to {done.back}: {took}"])
    return 0
