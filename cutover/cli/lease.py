"""`cutover lease`: what a coordinator asks a host before it releases there, and its claim on the host."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict

import click

from cutover import __version__
from cutover.cli.main import common, settings_of, tell
from cutover.core.errors import Locked
from cutover.release.lease import Lease, current_lease, end_lease, take_lease
from cutover.release.state import State, who

SECONDS = 120


@click.command("lease")
@common
@click.argument("lease_id", metavar="[ID]", default="")
@click.option(
    "--what", metavar="TEXT", default="", help="What is released, for a session that finds the host taken."
)
@click.option("--end", is_flag=True, help="Give the host back.")
def lease_command(config: str | None, as_json: bool, lease_id: str, what: str, end: bool) -> int:
    """Claim this host for the release ID on several hosts, for two minutes; `cutover release --hosts` does it.

    Without ID it only says who has it. Exit 12 if another release has it.
    """
    settings = settings_of(config)
    state, now = State(settings.state), time.time()
    facts = {
        "version": __version__,
        "project": settings.project,
        "config": hashlib.sha256(settings.source.read_bytes()).hexdigest(),
        "state": str(state.root),
    }
    if not lease_id:
        found = current_lease(state, now)
        said = found.line if found else "no release on several hosts"
        tell(as_json, {**facts, "lease": asdict(found) if found else None}, [said])
        return 0
    state.prepare()
    if end:
        end_lease(state, lease_id)
        tell(as_json, {**facts, "lease": None}, ["given back"])
        return 0
    lease = Lease(lease_id, who(), what, now + SECONDS)
    try:
        take_lease(state, lease, now)
    except Locked as taken:
        tell(as_json, {**facts, "lease": None, "taken": str(taken)}, [str(taken)])
        return taken.exit_code
    tell(as_json, {**facts, "lease": asdict(lease)}, [f"claimed for {SECONDS} s"])
    return 0
