"""Stop the idle colour after a good watch."""

from __future__ import annotations

import click

from cutover import preflight, scene, switching
from cutover.commands.common import common, settings_of, tell
from cutover.errors import Failed, UsageProblem
from cutover.evidence import Evidence
from cutover.proxies import other
from cutover.state import State, now
from cutover.walk import Walk
from cutover.wish import Wish


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Stop the idle colour; refused while a release is open, or when the live one cannot be told."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    with state.locked({"who": preflight.who(), "what": "retire", "since": now()}):
        if state.open_release():
            raise UsageProblem(
                f"release {state.open_release()} is open, its way back needs the idle colour: `cutover recover` first"
            )
        here = scene.look(settings)
        if here.live.colour is None:
            raise UsageProblem(f"which colour is idle is unknown: {here.live.how}")
        walk = Walk(settings, Wish(("idle",)), Evidence(), lambda *_: None)
        said = switching.retire(walk, other(here.live.colour))
    if "could not" in said:
        raise Failed(said)
    tell(
        as_json,
        {"retired": other(here.live.colour), "live": here.live.colour},
        [f"{said}; {here.live.colour} is live"],
    )
    return 0
