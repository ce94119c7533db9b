"""`cutover retire`: stop the idle color after a good watch."""

from __future__ import annotations

import click

from cutover.commands.common import common, settings_of, tell
from cutover.core.errors import ConfigError, Failed
from cutover.proxy.base import other
from cutover.release.colors import inspect_colors
from cutover.release.state import State, lock_owner
from cutover.release.switch import retire


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Drain and stop the idle color; refused while a release is open, or when the live one cannot be told."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    with state.locked(lock_owner("retire")):
        left = state.open_release()
        if left:
            raise ConfigError(
                f"release {left} is open, its way back needs the idle color: `cutover recover` first"
            )
        colors = inspect_colors(settings)
        if colors.live.color is None:
            raise ConfigError(f"which color is idle is unknown: {colors.live.how}")
        idle = other(colors.live.color)
        if idle not in colors.rendered:
            raise ConfigError(f"{idle} has no env file, so nothing of ours runs there")
        done = retire(colors, idle)
    if not done.ok:
        raise Failed(done.reason)
    facts = {"retired": idle, "live": colors.live.color}
    tell(as_json, facts, [f"{done.reason}; {colors.live.color} is live"])
    return 0
