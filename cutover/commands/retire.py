"""Stop the idle colour after a good watch."""

from __future__ import annotations

import click

from cutover import preflight, scene
from cutover.commands.common import common, settings_of, tell
from cutover.core.errors import Failed, UsageProblem
from cutover.proxy.base import other
from cutover.retiring import retire
from cutover.state import State, now


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Drain and stop the idle colour; refused while a release is open, or when the live one cannot be told."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    with state.locked({"who": preflight.who(), "what": "retire", "since": now()}):
        if state.open_release():
            raise UsageProblem(
                f"release {state.open_release()} is open, its way back needs the idle colour: `cutover recover` first"
            )
        here = scene.look(settings)
        live = here.live
        if live.colour is None:
            raise UsageProblem(f"which colour is idle is unknown: {live.how}")
        idle = other(live.colour)
        if idle not in here.rendered:
            raise UsageProblem(f"{idle} has no env file, so nothing of ours runs there")
        done = retire(settings, here.proxy, idle, here.port(idle))
    if not done.ok:
        raise Failed(done.reason)
    facts = {"retired": idle, "live": live.colour}
    tell(as_json, facts, [f"{done.reason}; {live.colour} is live"])
    return 0
