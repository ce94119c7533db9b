"""`cutover lease`: the claim of a coordinator on a host."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from cutover.cli.main import common, settings_of, tell
from cutover.release.lease import Lease, end_lease, take_lease
from cutover.release.state import State, who

SECONDS = 120


@click.command("lease")
@common
@click.argument("lease_id", metavar="ID")
@click.option(
    "--what", metavar="TEXT", default="", help="What is released, for a session that finds the host taken."
)
@click.option("--end", is_flag=True, help="Give the host back.")
def lease_command(config: str | None, as_json: bool, lease_id: str, what: str, end: bool) -> int:
    """Claim this host for the release ID on several hosts, for two minutes; `cutover release --hosts` does it.

    Exit 12 if another release has it; `cutover status` says which.
    """
    state, now = State(settings_of(config).state).prepare(), time.time()
    if end:
        end_lease(state, lease_id)
        tell(as_json, {"lease": None}, ["given back"])
        return 0
    lease = Lease(lease_id, who(), what, now + SECONDS)
    take_lease(state, lease, now)
    tell(as_json, {"lease": asdict(lease)}, [f"claimed for {SECONDS} s"])
    return 0
