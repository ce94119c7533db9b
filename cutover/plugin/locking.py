"""The release lock, taken before there is a session: only what is light is imported here."""

from __future__ import annotations

import sys

import pytest

from cutover.core import result
from cutover.core.errors import ConfigError, Locked
from cutover.plugin.console import look
from cutover.plugin.opening import settings_for
from cutover.plugin.options import LOCK
from cutover.plugin.output import Lasting
from cutover.report.terminal import refused_lines
from cutover.state import State
from cutover.system.files import close_lock
from cutover.wish import ReleaseRequest


def lock(config: pytest.Config, request: ReleaseRequest) -> int | None:
    """Hold the lock for the session to come; where another one holds it, say so and give the exit code."""
    try:
        settings = settings_for(config, request)
        if settings is None:
            return None
        state = State(settings.state)
        state.prepare()
        config.stash[LOCK] = state.acquire(request.owner(), request.asked_at)
    except Locked as locked:
        out = Lasting(sys.stdout)  # pytest's own terminal is not there yet
        out.write("\n".join([*refused_lines("LOCKED", str(locked), result.LOCKED, look()), ""]))
        out.flush()
        return result.LOCKED
    except ConfigError as problem:
        raise pytest.UsageError(str(problem)) from problem
    config.add_cleanup(lambda: _let_go(config))
    return None


def _let_go(config: pytest.Config) -> None:
    """Let go of a lock that no session has taken over: one that broke before it began."""
    if LOCK in config.stash:
        close_lock(config.stash[LOCK])
