"""Take back what a dead session left open."""

from __future__ import annotations

import click

from cutover import preflight
from cutover.commands.common import common, settings_of, tell
from cutover.errors import Locked, NeedsPerson
from cutover.state import State, now


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Take back the release of a session that died; a living one is left alone (exit 12)."""
    settings = settings_of(config)
    state = State(settings.state)
    if not settings.state.is_dir() or state.open_release() is None:
        tell(as_json, {"recovered": None}, ["nothing is open: nothing to recover"])
        return 0
    state.prepare()
    if state.is_held():
        raise Locked(state.told())
    with state.locked({"who": preflight.who(), "what": "recover", "since": now()}):
        left = state.open_release()
        if left is None:
            tell(as_json, {"recovered": None}, ["the guard has taken it back meanwhile"])
            return 0
        done = state.take_back(left)
        if not done.ok:
            raise NeedsPerson(
                f"release {left} could not be taken back: {done.last_line}; run: {state.take_back_command}"
            )
        state.journal("recovered", release=left, who=preflight.who())
    tell(as_json, {"recovered": left}, [f"release {left} was taken back; see `cutover status`"])
    return 0
