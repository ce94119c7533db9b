"""Migrate: upgrade the schema by the new image, once, under a lock. It has no undo: the schema stays."""

from __future__ import annotations

import shlex
from pathlib import Path

from cutover.changes import Change, Words
from cutover.core.config_schema import Migrate
from cutover.system.compose import Compose

MARGIN_S = 60.0
GRACE_S = 10


def container_name(project: str) -> str:
    """The one-off container's name, the same for both colours: whoever has it migrates, nobody else on this engine."""
    return f"{project}-migrate"


def migrate(
    state: Path, compose: Compose, settings: Migrate, name: str, *, lock: Words = (), options: str = ""
) -> Change:
    """The change that runs `[migrate] command` in a one-off container of the release that *compose* names.

    *lock* are words that take a lock in the database and then become the words behind them. *options* is
    `PGOPTIONS` for the command: a migration must not queue behind a long query, and everybody else behind it.
    """
    variables = ("--env", f"PGOPTIONS={options}") if options else ()
    # A foreground `run` outlives its client and nobody bounds it: the time limit is inside.
    command = ("timeout", "-k", str(GRACE_S), f"{settings.budget:g}", *settings.command)
    flags = ("--detach", "--no-deps", "--name", name, *variables, "-T")
    start = compose.words("run", *flags, settings.service, *command)
    words = (*lock, "sh", str(state / "migrate.sh"), name, *start)
    text = f"{shlex.join(settings.command)} in the new image"
    return Change("migrate", text, words, (), settings.budget + settings.lock_timeout + MARGIN_S)
