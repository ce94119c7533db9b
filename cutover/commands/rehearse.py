"""Rehearse: deploy, switch and switch back on the running system, and measure the time to roll back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import click

from cutover import again, preflight, switching
from cutover.commands.common import common, settings_of, tell
from cutover.core.config import Settings
from cutover.core.errors import (
    ConfigError,
    CutoverError,
    EngineUnavailable,
    Failed,
    Inconclusive,
    OperatorNeeded,
)
from cutover.core.evidence import Evidence
from cutover.proxy.base import Live
from cutover.state import State, now
from cutover.walk import Walk
from cutover.wish import ReleaseRequest


@click.command
@common
@click.option(
    "--deploy",
    metavar="TAG",
    help="Deploy this tag to the idle color first; it stays there, proven, and what was warm there is gone.",
)
def command(config: str | None, as_json: bool, deploy: str | None) -> int:  # click passes flags so
    """Switch to the idle color with proof, revert that as a bad release would be, and say how long that took."""
    settings = settings_of(config)
    state = State(settings.state)
    state.prepare()
    code = _deploy(settings, deploy) if deploy else 0
    if code:
        return code
    with state.locked({"who": preflight.who(), "what": "a rehearsal", "since": now()}):
        walk = Walk(settings, ReleaseRequest(("idle",), switch=True), Evidence(), lambda *_: None)
        walk.begin_here()
        switching.check(walk)
        switching.require_warm(walk)
        seconds = there_and_back(walk)
        state.journal("rehearsed", seconds=round(seconds, 4), who=preflight.who(), host=os.uname().nodename)
    proof = walk.evidence.facts.get("proof") or {}
    if not proof:
        raise Failed("the rehearsal ended without a proof")
    facts = {"there": walk.target.color, "back": walk.before, "seconds_back": seconds, "proof": proof}
    line = f"switched to {walk.target.color} and back to {walk.before}: the way back took {1000 * seconds:.0f} ms"
    tell(as_json, facts, [line])
    return 0


def there_and_back(
    walk: Walk,
    switch: Callable[[Walk], None] = switching.switch,
    settled: Callable[[Walk, str | None], Live] = switching.settled,
) -> float:
    """Switch, revert it, ask the proxy: seconds until users were back; raises OperatorNeeded when they are not."""
    trouble: BaseException | None = None
    try:
        switch(walk)
    except BaseException as error:  # noqa: BLE001  # reverted first, whatever it is, then raised
        trouble = error
    if walk.release_id is None:
        raise trouble or Failed("nothing was switched")
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(walk.state.revert, walk.release_id)
        settled(walk, walk.before)  # users are back before the revert has cleared up behind them
        seconds = time.monotonic() - begun
        done = taking.result()
    live = settled(walk, walk.before)
    if not done.ok or live.color != walk.before:
        why = done.last_line if not done.ok else f"traffic goes to {live.color or 'nobody known'}: {live.how}"
        first = f"{trouble}; " if trouble else ""
        run = walk.state.revert_command if walk.state.open_release() else "cutover status"
        raise OperatorNeeded(f"{first}the rehearsal could not be reverted: {why}; run: {run}")
    if isinstance(trouble, (CutoverError, EngineUnavailable)):
        kind = Failed if isinstance(trouble, (Failed, ConfigError)) else Inconclusive
        raise kind(f"{trouble}; the rehearsal was reverted: {walk.before} serves, as before") from trouble
    if trouble is not None:
        raise trouble
    return seconds


def _deploy(settings: Settings, tag: str) -> int:
    """A session of its own, which reverts itself when the gate does not pass; its exit code."""
    words = (sys.executable, "-m", "pytest", *again.shipped(), "--target=idle", f"--deploy={tag}")
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    flags = (f"--cutover-config={settings.source}", *again.ALL_PLUGINS)
    return subprocess.run((*words, *flags), check=False, env=environment).returncode
