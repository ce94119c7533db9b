"""`python -m cutover.data.locked CONFIG RELEASE SECONDS WORDS...`: become WORDS while a lock is held in the database.

The lock is a session's of PostgreSQL. Its psql reads from a pipe whose other end WORDS and their children inherit,
so it is held exactly as long as one of them lives, and let go when the last one is gone, however it died.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from cutover.core.config import load_config
from cutover.core.errors import CutoverError, Failed, UsageProblem
from cutover.data import Data
from cutover.data.postgres import Postgres
from cutover.system.compose import Rendered

KEY = 0x6375746F766572  # "cutover": one for each database, whichever project migrates it
HOLDER = f"""\
select format('since %s from %s', date_trunc('second', a.backend_start), coalesce(a.client_addr::text, 'itself'))
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.classid = {KEY >> 32} and l.objid = {KEY & 0xFFFFFFFF}
and l.database = (select oid from pg_database where datname = current_database()) limit 1;
"""
NO_LIMITS = """\
select set_config(name, '0', false) from pg_settings
where name in ('statement_timeout', 'idle_session_timeout', 'transaction_timeout') \\g /dev/null
"""


def hold(store: Postgres, wait_s: float) -> int:
    """Take the lock within *wait_s*: the descriptor that keeps it; raises Failed when somebody else has it."""
    tools = store.tools
    session = tools.open()
    try:
        session.ask(
            f"{NO_LIMITS}set lock_timeout = {max(1, round(wait_s * 1000))}; select pg_advisory_lock({KEY});",
            deadline_s=wait_s + 30,
        )
    except Failed as error:
        if "lock timeout" not in str(error):
            raise
        holder = (tools.ask(HOLDER) or ["by somebody who has just finished"])[0]
        raise Failed(
            f"another migration of {store.name} holds the lock, {holder}; waited {wait_s:g} s, nothing was changed"
        ) from error
    return session.hand_over()


def main(words: list[str]) -> NoReturn:
    """Take the lock, then become the words; ends with the error's exit code when that failed."""
    config, release, wait_s, *rest = words
    try:
        settings = load_config(Path(config), os.environ)
        text = Path(release).read_text(encoding="utf-8")
        data = Data(
            settings, Rendered(Path(release).parent.name, "", text, json.loads(text), {}), settings.state
        )
        store = data.store
        if not isinstance(store, Postgres):
            raise UsageProblem("only PostgreSQL has session locks")
        os.set_inheritable(hold(store, float(wait_s)), True)  # noqa: FBT003  the standard library calls it so
    except CutoverError as error:
        sys.stderr.write(f"migrate: {error}\n")
        sys.exit(error.exit_code)
    os.execvp(rest[0], rest)  # noqa: S606  words, never a shell string


if __name__ == "__main__":
    main(sys.argv[1:])
