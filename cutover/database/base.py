"""The database of a service: where it is, its snapshots, its migration, and the changes of a release to it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cutover.core.change import Argv, Change, line
from cutover.core.config import Settings
from cutover.core.config_schema import Database, Migrate
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable, Failed, Inconclusive, Locked
from cutover.core.verdict import Outcome, Verdict, no, yes
from cutover.database.postgres import (
    PostgresStore,
    PostgresTools,
    PostgresUrl,
    find_database_container,
    parse_postgres_url,
)
from cutover.database.snapshot import (
    CHECK_NAME,
    PARTIAL,
    Dump,
    SnapshotFile,
    creation_time,
    delete_snapshot,
    format_size,
    judge_restored,
    list_snapshots,
    mark_verified,
    open_private,
    require_disk_space,
    select_expired,
    sha256_of,
    write_description,
)
from cutover.system import process
from cutover.system.compose import Compose, Rendered, colors_with_file, render
from cutover.system.files import close_lock, flock, make_private

if TYPE_CHECKING:
    from cutover.database.sqlite import SqliteStore

SCRATCH_ENV = "scratch.env"
SNAPSHOT_BUDGET_S = 30.0
CLEANUP_TIMEOUT_S = 60.0
MIGRATION_MARGIN_S = 60.0
KILL_AFTER_S = 10
ONE_SHOT_BUDGET_S = 660.0


# --- changes -------------------------------------------------------------------------------------------------------
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
    make = ("mkdir", "-p", "-m", "700", str(folder))
    return Change("snapshot", text, make, tuple(lines), SNAPSHOT_BUDGET_S)


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
    undo = (f"{remove} >/dev/null 2>&1 || :",)
    return Change("run", f"{service} to its end", argv, undo, ONE_SHOT_BUDGET_S)


def module_argv(module: str, *arguments: str) -> Argv:
    """Command line that runs *module* of this package with this Python, whatever folder it is started in."""
    spec = find_spec(__name__.partition(".")[0])
    if spec is None or spec.origin is None:
        raise ImportError(f"{module}: the package has no location")
    folder = Path(spec.origin).parent.parent  # it may be a checkout that is not installed
    # -P: a module of the current folder must not shadow one of ours or of the standard library.
    return ("env", f"PYTHONPATH={folder}", sys.executable, "-P", "-m", module, *arguments)


# --- location ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A SQLite database: a path inside the service's container."""

    path: str


Location = PostgresUrl | SqliteFile


def _scheme_of(url: str) -> str:
    """Kind of database that *url* names, without a driver; PostgreSQL has one spelling."""
    scheme = url.partition("://")[0].split("+", 1)[0].lower()
    return "postgresql" if scheme == "postgres" else scheme


def locate(database: Database | None, environment: Mapping[str, str], source: str) -> Location | None:
    """Database of a service with this *environment*, None if none is configured; raises ConfigError.

    *source* is the env file that errors name.
    """
    config = database or Database()
    url = environment.get(config.url_key, "").strip()
    if not url:
        return SqliteFile(config.sqlite) if config.sqlite else None
    scheme = _scheme_of(url)
    if scheme == "postgresql":
        return parse_postgres_url(url, f"{source}: {config.url_key}")
    if scheme == "sqlite":
        path = urlsplit(url).path[1:]  # sqlite:////data/recall.db: three slashes of the URL, then the path
        return SqliteFile(path if path.startswith("/") else config.sqlite or path)
    kind = f"a {scheme} URL" if "://" in url else "no URL"
    raise ConfigError(f"{source}: {config.url_key} is {kind}; snapshots support postgresql and sqlite")


# --- store ---------------------------------------------------------------------------------------------------------
def open_store(
    settings: Settings, rendered: Rendered, location: Location | None, folder: Path
) -> PostgresStore | SqliteStore:
    """Store for *location*; raises ConfigError if it cannot be reached, Inconclusive if Docker does not answer."""
    config = settings.database or Database()
    if location is None:
        missing = f"{rendered.color} has no {config.url_key}, and {settings.source} no [database] sqlite"
        raise ConfigError(f"no database to take a snapshot of: {missing}")
    try:
        if isinstance(location, SqliteFile):
            from cutover.database.sqlite import open_sqlite

            return open_sqlite(rendered, settings.service, location.path, folder, config.schema_table)
        networks = service_networks(rendered, settings.service, config.network)
        # The programs in the database's own container have its version; those on this host may not.
        container = config.container or find_database_container(networks, location.host)
    except EngineUnavailable as error:
        raise Inconclusive(str(error)) from error
    if not container and not process.run(("pg_dump", "--version"), deadline_s=10).ok:
        missing = f"no container here on the service's networks is called {location.host!r}, and there is no pg_dump"
        raise ConfigError(f"{missing}: name one that has pg_dump in {settings.source}: [database] container")
    return PostgresStore(PostgresTools(location, container), config.schema_table)


def service_networks(rendered: Rendered, service: str, extra: str) -> list[str]:
    """Docker's names of the networks that *service* joins, and *extra* if it is not empty."""
    joined = rendered.service(service).get("networks") or {}
    models = rendered.model.get("networks") or {}
    names = [str((models.get(name) or {}).get("name", name)) for name in joined]
    return [*names, *([extra] if extra else [])]


def folder_of(state_dir: Path) -> Path:
    """Folder of the snapshots in a state directory."""
    return state_dir / "snapshots"


# --- facade --------------------------------------------------------------------------------------------------------
@dataclass
class ServiceDatabase:
    """The database that the release *rendered* uses, and its snapshots below *state_dir*."""

    settings: Settings
    rendered: Rendered
    state_dir: Path
    scratch: str = ""
    """Name of the scratch copy that was restored and compared, while it exists."""
    _lock: int | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """Folder of the snapshots."""
        return folder_of(self.state_dir)

    @property
    def location(self) -> Location | None:
        """Location according to the release's environment; raises ConfigError for one of an unknown kind."""
        color = self.settings.colors.get(self.rendered.color)
        source = str(color.env_file if color else self.rendered.color)
        return locate(self.settings.database, self.rendered.environment(self.settings.service), source)

    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL; raises ConfigError only for a URL of PostgreSQL that cannot be read."""
        config = self.settings.database or Database()
        url = self.rendered.environment(self.settings.service).get(config.url_key, "").strip()
        return _scheme_of(url) == "postgresql" and isinstance(self.location, PostgresUrl)

    @cached_property
    def store(self) -> PostgresStore | SqliteStore:
        """Store of the location; raises ConfigError or Inconclusive."""
        return open_store(self.settings, self.rendered, self.location, self.folder)

    def available(self) -> bool:
        """Whether there is a database to take a snapshot of; raises ConfigError or Inconclusive."""
        location = self.location
        if not isinstance(location, SqliteFile):
            return location is not None
        from cutover.database.sqlite import SqliteStore, volume_is_missing

        # Before the first release there is neither a volume to read nor a container to ask.
        missing = volume_is_missing(self.rendered, self.settings.service, location.path)
        return not missing and isinstance(self.store, SqliteStore) and self.store.exists()

    def head(self) -> str:
        """Current schema revision; empty if no table records one."""
        return self.store.head()

    # --- snapshots -------------------------------------------------------------------------------------------------
    def snapshot_change(self) -> Change:
        """Change to apply before `take`: its undo removes what a session that dies leaves behind."""
        store, env_file = self.store, self.folder / SCRATCH_ENV
        text = f"{store.name}, restored beside itself"
        drop = store.drop_argv(self._scratch_name(), env_file) if isinstance(store, PostgresStore) else ()
        containers = rehearsal_containers(self.settings.project)
        return snapshot_change(self.folder, text, containers, drop, env_file)

    def take(self, dump: Dump | None = None) -> SnapshotFile:
        """Write a snapshot and its description, by *dump* or the store's; raises ConfigError, Failed or Locked."""
        self._acquire_lock()
        store, begun = self.store, time.monotonic()
        require_disk_space(self.folder, store.size(), store.name)
        at = creation_time(datetime.now(UTC), list_snapshots(self.folder))
        name = re.sub(r"[^\w.-]", "_", store.name.rpartition("/")[2]).lstrip(".")
        path = self.folder / f"{at}-{name}{store.suffix}"
        size, checksum, contents = (dump or store.dump)(path, self.settings.snapshot.budget)
        seconds = round(time.monotonic() - begun, 3)
        snapshot = SnapshotFile(path, store.kind, store.name, at, size, checksum, seconds, contents)
        write_description(snapshot)
        return snapshot

    def verify(self, snapshot: SnapshotFile) -> Verdict:
        """Restore *snapshot* as a scratch copy and compare it; the copy is kept unless the answer is no."""
        self._acquire_lock()
        self.drop_scratch()
        if isinstance(self.store, PostgresStore):
            self.store.require_space()
            # The undo script needs the password to drop the copy: a private file, not an argument.
            lines = [f"{key}={value}\n" for key, value in self.store.environment().items()]
            with open_private(self.folder / SCRATCH_ENV) as out:
                out.write("".join(lines).encode())
        verdict = self._restore_and_compare(snapshot)
        if verdict.outcome is Outcome.NO:
            self.drop_scratch()
        return verdict

    def _restore_and_compare(self, snapshot: SnapshotFile) -> Verdict:
        begun, name, file = time.monotonic(), self._scratch_name(), str(snapshot.path)
        if sha256_of(snapshot.path) != snapshot.sha256:
            text = f"{snapshot.name} is not the file that was written: its checksum differs"
            return no(CHECK_NAME, text, file=file)
        try:
            self.store.restore(snapshot.path, name, self.settings.snapshot.budget)
        except Failed as error:
            return no(CHECK_NAME, f"{snapshot.name} cannot be restored: {error}", file=file)
        seconds = time.monotonic() - begun
        self.scratch = name
        verdict = judge_restored(snapshot.contents, self.store.contents(name))
        if not verdict.ok:
            return verdict
        mark_verified(snapshot, seconds)
        size = f"{snapshot.database} {format_size(snapshot.size)}"
        text = f"{size}, {verdict.reason}; restore takes {seconds:.1f} s"
        facts = {"file": file, "sha256": snapshot.sha256, "restore_s": round(seconds, 3)}
        return yes(CHECK_NAME, text, **(dict(verdict.evidence) | facts))

    def rotate(self) -> list[SnapshotFile]:
        """Delete the snapshots beyond `[snapshot] keep`, never the last verified one; returns those deleted."""
        self._acquire_lock()
        expired = select_expired(list_snapshots(self.folder), self.settings.snapshot.keep)
        for each in expired:
            delete_snapshot(each)
        return expired

    def _scratch_name(self) -> str:
        return self.store.scratch_name(f"{os.getpid()}")

    def drop_scratch(self) -> None:
        """Remove all scratch copies, also those of sessions that died."""
        self._acquire_lock()
        for name in self.store.scratches():
            self.store.drop(name)
        self.scratch = ""
        (self.folder / SCRATCH_ENV).unlink(missing_ok=True)

    def restore_command(self, *arguments: str) -> str:
        """Shell line that restores a snapshot; *arguments* are its name, or `--back` and a database."""
        command = ("cutover", "snapshot", "restore", "--cutover-config", str(self.settings.source))
        return shlex.join((*command, *arguments, "--yes"))

    # --- migration -------------------------------------------------------------------------------------------------
    def migration_change(self, new: Rendered, release_file: Path) -> Change:
        """Change that runs `[migrate] command` of *new*, whose rendered Compose file is *release_file*."""
        migrate = self.settings.migrate
        if migrate is None:
            raise ConfigError(f"{self.settings.source} has no [migrate] command")
        lock: Argv = ()
        if self.is_postgres():
            arguments = (str(self.settings.source), str(release_file), f"{migrate.lock_timeout:g}")
            lock = module_argv("cutover.database.advisory_lock", *arguments)
        compose, name = Compose(new.project, release_file), migration_container(self.settings.project)
        options = self.migration_options(new)
        return migration_change(self.state_dir, compose, migrate, name, lock=lock, options=options)

    def migration_options(self, new: Rendered) -> str:
        """`PGOPTIONS` of the migration: a timeout for locks; empty if the release sets its own."""
        # A statement that waits for a lock makes every later query wait behind it.
        migrate = self.settings.migrate
        if migrate is None or not self.is_postgres() or "PGOPTIONS" in new.environment(migrate.service):
            return ""
        return f"-c lock_timeout={round(migrate.lock_timeout * 1000)}"

    # --- lock ------------------------------------------------------------------------------------------------------
    def _acquire_lock(self) -> None:
        """Lock the snapshot folder until `close` or the end of this process; raises Locked."""
        if self._lock is not None:
            return
        try:
            make_private(self.folder)
            handle = os.open(self.folder / "busy", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"{self.folder}: {error.strerror}") from error
        if not flock(handle, deadline=0.0):
            close_lock(handle)
            raise Locked(f"another snapshot or restore is running in {self.folder}; nothing was changed")
        self._lock = handle
        for draft in self.folder.glob(f"*{PARTIAL}"):  # of a session that died: nobody else writes now
            draft.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the scratch copy and release the lock; never raises."""
        if self.scratch:
            with contextlib.suppress(CutoverError):  # the next snapshot removes it
                self.drop_scratch()
        if self._lock is not None:
            close_lock(self._lock)
            self._lock = None


def open_database(settings: Settings) -> ServiceDatabase:
    """Database of the service according to the first color that has an env file; raises ConfigError."""
    first, *_ = colors_with_file(settings)
    return ServiceDatabase(settings, render(settings, first), settings.state)
