"""`cutover rollback`: revert the open release, else go back to what users had before."""

from __future__ import annotations

import click

from cutover.commands.common import common, settings_of, tell
from cutover.release.rollback import roll_back, roll_back_to, wait_until_free
from cutover.release.state import State


@click.command
@common
@click.option(
    "--to-tag",
    metavar="TAG",
    help="Deploy this tag to the live color; it is gated and reported, never undone.",
)
def command(config: str | None, as_json: bool, to_tag: str | None) -> int:  # click passes flags so
    """Revert the open release; else go back to what users had before: flip to it, or deploy it."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    if to_tag:
        done = roll_back_to(settings, state, to_tag)
    else:
        done = wait_until_free(
            state,
            settings.release_timeout,
            lambda: roll_back(settings, state),
            lambda text: click.echo(text, err=True),
        )
    if done.sentence:
        tell(as_json, dict(done.facts), [done.sentence])
    if done.trouble is not None:
        raise done.trouble
    return done.code
