"""`python -m cutover.database.advisory_lock CONFIG RELEASE SECONDS COMMAND...`: run COMMAND under a PostgreSQL lock.

The lock belongs to a psql session that reads from a pipe. COMMAND and its children inherit the other end, so the lock
is held until the last of them has ended, however it ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from cutover.core.config import load_config
from cutover.core.errors import ConfigError, CutoverError, Failed
from cutover.database.base import ServiceDatabase
from cutover.database.postgres import PostgresStore, load_query
from cutover.system.compose import Rendered

LOCK_KEY = 0x6375746F766572  # "cutover": the same in each database, whichever project migrates it


def acquire_advisory_lock(store: PostgresStore, wait_s: float) -> int:
    """Take the lock within *wait_s* seconds; returns the descriptor that holds it. Raises Failed if it is taken."""
    session, timeout_ms = store.tools.open_session(), max(1, round(wait_s * 1000))
    sql = load_query("advisory lock", timeout_ms=timeout_ms, key=LOCK_KEY)
    try:
        session.query(sql, deadline_s=wait_s + 30)
    except Failed as error:
        if "lock timeout" not in str(error):
            raise
        found = store.tools.query(load_query("lock holder", high=LOCK_KEY >> 32, low=LOCK_KEY & 0xFFFFFFFF))
        holder = found[0] if found else "by a session that has just ended"
        what = f"another migration of {store.name} holds the lock, {holder}"
        raise Failed(f"{what}; waited {wait_s:g} s, nothing was changed") from error
    return session.stdin_fileno()


def run_under_lock(arguments: list[str]) -> NoReturn:
    """Take the lock, then execute the command; exits with the code of the error if there is one."""
    config, release, wait_s, *command = arguments
    try:
        settings = load_config(Path(config), os.environ)
        text = Path(release).read_text(encoding="utf-8")
        rendered = Rendered(Path(release).parent.name, "", text, json.loads(text), {})
        store = ServiceDatabase(settings, rendered, settings.state).store
        if not isinstance(store, PostgresStore):
            raise ConfigError("only PostgreSQL has session locks")
        os.set_inheritable(acquire_advisory_lock(store, float(wait_s)), True)  # noqa: FBT003  positional-only
    except CutoverError as error:
        sys.stderr.write(f"migrate: {error}\n")
        sys.exit(error.exit_code)
    os.execvp(command[0], command)  # noqa: S606  argv, never a shell string


if __name__ == "__main__":
    run_under_lock(sys.argv[1:])
