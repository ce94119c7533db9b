"""Changes to a database as values: announce a snapshot, run a migration."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from cutover.core.change import Argv, Change, line
from cutover.core.config_schema import Migrate
from cutover.system.compose import Compose

SNAPSHOT_BUDGET_S = 30.0
CLEANUP_TIMEOUT_S = 60.0
MIGRATION_MARGIN_S = 60.0
KILL_AFTER_S = 10
ONE_SHOT_BUDGET_S = 660.0


def migration_container(project: str) -> str:
    """Name of the one-off container; it is the same for both colors, so that one migration runs at a time."""
    return f"{project}-migrate"


def rehearsal_containers(project: str) -> tuple[str, str]:
    """Names of the containers of a rehearsal: the migration, and the live release."""
    return f"{project}-rehearsal-migrate", f"{project}-rehearsal-live"


def snapshot_change(
    folder: Path, text: str, containers: Argv, drop: Argv = (), env_file: Path | None = None
) -> Change:
    """Change that creates the snapshot *folder*; its undo removes drafts, scratch copies and *containers*.

    *drop* removes the scratch database; it runs while *env_file*, which holds its password, exists.
    """
    # A line that fails must not stop the rest of the undo: nothing depends on what these remove.
    lines = [
        f"{line('docker', 'rm', '--force', '--volumes', *containers, within_s=CLEANUP_TIMEOUT_S)} >/dev/null 2>&1 || :",
        line("find", str(folder), "-name", "*.partial", "-delete") + " || :",
        line("find", str(folder), "-maxdepth", "1", "-name", "scratch-*", "-exec", "rm", "-rf", "{}", "+")
        + " || :",
    ]
    if drop and env_file is not None:
        lines.append(f"[ ! -e {line(str(env_file))} ] || {line(*drop, within_s=CLEANUP_TIMEOUT_S)} || :")
        lines.append(line("rm", "-f", str(env_file)))
    return Change(
        "snapshot", text, ("mkdir", "-p", "-m", "700", str(folder)), tuple(lines), SNAPSHOT_BUDGET_S
    )


def migration_change(
    state_dir: Path, compose: Compose, migrate: Migrate, name: str, *, lock: Argv = (), options: str = ""
) -> Change:
    """Change that runs `[migrate] command` in a one-off container *name*; it has no undo, the schema stays.

    *lock* is a command that takes a lock and then executes the rest of the line; *options* is `PGOPTIONS`.
    """
    variables = ("--env", f"PGOPTIONS={options}") if options else ()
    # The container outlives a `docker compose run` that is killed, so the time limit is inside it.
    command = ("timeout", "-k", str(KILL_AFTER_S), f"{migrate.budget:g}", *migrate.command)
    flags = ("--detach", "--no-deps", "--name", name, *variables, "-T")
    start = compose.words("run", *flags, migrate.service, *command)
    argv = (*lock, "sh", str(state_dir / "migrate.sh"), name, *start)
    text = f"{shlex.join(migrate.command)} in the new image"
    return Change("migrate", text, argv, (), migrate.budget + migrate.lock_timeout + MIGRATION_MARGIN_S)


def one_shot_change(state_dir: Path, compose: Compose, service: str) -> Change:
    """Change that runs *service* to its end in a one-off container; its undo removes only the container."""
    name = f"{compose.project}-run-{service}"
    start = compose.words("run", "--detach", "--no-deps", "--name", name, "-T", service)
    argv = ("sh", str(state_dir / "migrate.sh"), name, *start)
    remove = line("docker", "rm", "--force", "--volumes", name, within_s=CLEANUP_TIMEOUT_S)
    return Change(
        "run", f"{service} to its end", argv, (f"{remove} >/dev/null 2>&1 || :",), ONE_SHOT_BUDGET_S
    )


def module_argv(module: str, *arguments: str) -> Argv:
    """Command line that runs *module* of this package with this Python, whatever folder it is started in."""
    spec = find_spec(__name__.partition(".")[0])
    if spec is None or spec.origin is None:
        raise ImportError(f"{module}: the package has no location")
    folder = Path(spec.origin).parent.parent  # it may be a checkout that is not installed
    # -P: a module of the current folder must not shadow one of ours or of the standard library.
    return ("env", f"PYTHONPATH={folder}", sys.executable, "-P", "-m", module, *arguments)
