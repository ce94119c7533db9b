"""Stop the idle color after a good watch."""

from __future__ import annotations

import click

from cutover import preflight, scene
from cutover.commands.common import common, settings_of, tell
from cutover.core.errors import ConfigError, Failed
from cutover.proxy.base import other
from cutover.retiring import retire
from cutover.state import State, now


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Drain and stop the idle color; refused while a release is open, or when the live one cannot be told."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    with state.locked({"who": preflight.who(), "what": "retire", "since": now()}):
        if state.open_release():
            raise ConfigError(
                f"release {state.open_release()} is open, its way back needs the idle color: `cutover recover` first"
            )
        here = scene.look(settings)
        live = here.live
        if live.color is None:
            raise ConfigError(f"which color is idle is unknown: {live.how}")
        idle = other(live.color)
        if idle not in here.rendered:
            raise ConfigError(f"{idle} has no env file, so nothing of ours runs there")
        done = retire(settings, here.proxy, idle, here.port(idle))
    if not done.ok:
        raise Failed(done.reason)
    facts = {"retired": idle, "live": live.color}
    tell(as_json, facts, [f"{done.reason}; {live.color} is live"])
    return 0
