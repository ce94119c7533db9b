"""Rehearse: switch and switch back on the running system, and measure the time to roll back."""

from __future__ import annotations

import time

import click

from cutover import preflight, switching
from cutover.commands.common import common, settings_of, tell
from cutover.errors import Failed, NeedsPerson
from cutover.evidence import Evidence
from cutover.state import State, now
from cutover.walk import Walk
from cutover.wish import Wish


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Switch to the idle colour with proof, then take that back as a bad release would be, and say how long it took."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    with state.locked({"who": preflight.who(), "what": "a rehearsal", "since": now()}):
        walk = Walk(settings, Wish(("idle",), switch=True), Evidence(), lambda *_: None)
        walk.begin_here()
        switching.check(walk)
        switching.require_warm(walk)
        try:
            switching.switch(walk)
        finally:
            begun = time.monotonic()
            done = state.take_back(walk.release_id or "")
            seconds = time.monotonic() - begun
        live = switching.settled(walk, walk.before)
        if not done.ok or live.colour != walk.before:
            why = done.last_line if not done.ok else live.how
            raise NeedsPerson(f"the rehearsal could not be taken back: {why}; run: {state.take_back_command}")
        state.journal("rehearsed", seconds=round(seconds, 4), who=preflight.who())
    proof = walk.evidence.facts.get("proof") or {}
    if not proof:
        raise Failed("the rehearsal ended without a proof")
    facts = {"there": walk.target.colour, "back": walk.before, "seconds_back": seconds, "proof": proof}
    tell(
        as_json,
        facts,
        [
            f"switched to {walk.target.colour} and back to {walk.before}: the way back took {1000 * seconds:.0f} ms"
        ],
    )
    return 0
