"""`cutover recover`: revert what a dead session left open."""

from __future__ import annotations

import click

from cutover.commands.common import common, settings_of, tell
from cutover.core.errors import Locked
from cutover.release.state import State, lock_owner
from cutover.release.verify import require_reverted


@click.command
@common
def command(config: str | None, as_json: bool) -> int:  # click passes flags so
    """Revert the release of a session that died; a living one is left alone (exit 12)."""
    settings = settings_of(config)
    state = State(settings.state)
    first = state.open_release() if settings.state.is_dir() else None
    if first is None:
        tell(as_json, {"recovered": None}, ["nothing is open: nothing to recover"])
        return 0
    state.prepare()
    if state.is_held():
        raise Locked(state.lock_line())
    with state.locked(lock_owner("recover")):
        left = state.open_release()
        if left is not None:
            state.recover(left)
        said = require_reverted(settings, state, left or first)
    what = f"release {left} was reverted" if left else "the guard has reverted it meanwhile"
    tell(as_json, {"recovered": left, "serves": said}, [f"{what}: {said}"])
    return 0
