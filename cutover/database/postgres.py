"""PostgreSQL: dump, restore, read and swap a database with its own programs."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from cutover.core.errors import ConfigError, Failed
from cutover.core.masking import MASK, Secret
from cutover.database.snapshot import (
    FREE_SPACE_FACTOR,
    QUERY_TIMEOUT_S,
    DatabaseContents,
    end_process,
    feed_file,
    format_size,
    parse_contents,
    start_process,
    stream_to_file,
    widen_sequences,
)
from cutover.system import docker, process
from cutover.system.process import Argv

CONNECT_TIMEOUT_S = "10"
READ_TIMEOUT_S = 3600.0
MAX_NAME_BYTES = 63
SCRATCH_INFIX = "_cutover_scratch_"
RESTORE_INFIX = "_cutover_new_"
SCRATCH = re.compile(rf"{SCRATCH_INFIX}[0-9]+\Z")
DROPPED = re.compile(rf"({SCRATCH_INFIX}[0-9]+|{RESTORE_INFIX}[0-9]{{8}}_[0-9]{{6}})\Z")
PUT_ASIDE = re.compile(r"_(before|restored)_[0-9]{8}_[0-9]{6}\Z")
SWAP_ATTEMPTS = 5
DUMP_LOCK_TIMEOUT_S = 30
DIGEST_MAX_BYTES = 64 << 20  # larger tables are compared by their row counts, not by their rows
PSQL = (
    "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t", "--set=ON_ERROR_STOP=1",
)  # fmt: skip
END_MARK = "cutover:end"
CONTENTS = ("tables", "sequences", "objects", "revision")
CONNECTION_ERRORS = (
    "connection to server", "could not translate host name", "No such container", "executable file not found",
)  # fmt: skip


# --- location ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A PostgreSQL database as a URL names it."""

    url: Secret
    host: str
    port: int
    user: str
    password: Secret
    name: str
    sslmode: str = ""

    def environment(self, name: str | None = None) -> dict[str, str]:
        """libpq's environment variables for this database, or for *name* on the same server."""
        variables = {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password.reveal(),
            "PGDATABASE": name or self.name,
            "PGSSLMODE": self.sslmode,
            "PGCONNECT_TIMEOUT": CONNECT_TIMEOUT_S,
            "PGAPPNAME": "cutover",
            "PGCLIENTENCODING": "UTF8",
            "LC_MESSAGES": "C",  # error messages are parsed below
        }
        return {key: value for key, value in variables.items() if value}

    def url_of(self, name: str) -> Secret:
        """The same URL with the database *name*."""
        parts = urlsplit(self.url.reveal())
        return Secret(urlunsplit(parts._replace(path="/" + quote(name, safe=""))))


def parse_postgres_url(url: str, source: str) -> PostgresUrl:
    """Parse *url* and mask its password from now on; ConfigError names *source*, never the value."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError as error:
        raise ConfigError(f"{source} is not a URL that can be read") from error
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    name, server = unquote(parts.path.lstrip("/")), parts.hostname or query.get("host", "")
    if not name or not server:
        lacking = "host" if name else "database"
        raise ConfigError(f"{source} names no {lacking}: postgresql://USER:PASSWORD@HOST:5432/DATABASE")
    password = unquote(parts.password or query.get("password", ""))
    MASK.learn([url, password])
    user = unquote(parts.username or query.get("user", "postgres"))
    return PostgresUrl(Secret(url), server, port, user, Secret(password), name, query.get("sslmode", ""))


# --- programs ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PostgresTools:
    """Where psql, pg_dump and pg_restore run: in *container*, or on this host if it is empty."""

    database: PostgresUrl
    container: str = ""

    def argv(self, *argv: str, name: str | None = None) -> Argv:
        """Command line of one program; passwords are passed as names of variables (`--env PGPASSWORD`)."""
        if not self.container:
            return argv
        variables = [word for key in self.database.environment(name) for word in ("--env", key)]
        return ("docker", "exec", "--interactive", *variables, self.container, *argv)

    def psql_command(self, name: str) -> str:
        """Shell line for an operator: an interactive psql on the database *name*, which prompts for the password."""
        server = self.database
        address = ("--host", server.host, "--port", str(server.port), "--username", server.user)
        prefix = ("docker", "exec", "--interactive", "--tty", self.container) if self.container else ()
        return shlex.join((*prefix, "psql", *address, "--dbname", name))

    def query(self, sql: str, *, name: str | None = None, deadline_s: float = QUERY_TIMEOUT_S) -> list[str]:
        """Run *sql* and return its rows, fields separated by tabs; raises Failed or ConfigError."""
        argv, given = self.argv(*PSQL, name=name), self.database.environment(name)
        done = process.run(argv, deadline_s=deadline_s, environment=given, stdin=sql.encode(), mask=False)
        if not done.ok:
            raise postgres_error(done.err or done.last_line)
        return [line for line in done.out.splitlines() if line]

    def open_session(self) -> PsqlSession:
        """A psql session that stays open until `close` or the end of this process."""
        return PsqlSession(self.argv(*PSQL), self.database.environment())


def postgres_error(stderr: str) -> Failed | ConfigError:
    """Error for the output of a PostgreSQL program: ConfigError if it was not reached or access was denied."""
    lines = [line.strip() for line in MASK(stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error:" in line or "FATAL" in line]
    text = (errors or lines or ["the program ended without output"])[0]
    if "executable file not found" in text:
        return ConfigError(f"{text}: name a container that has PostgreSQL's programs in [database] container")
    if any(sign in text for sign in CONNECTION_ERRORS):
        return ConfigError(f"the database cannot be reached: {text}")
    if "permission denied" in text or "server version mismatch" in stderr:
        return ConfigError(f"the database refuses access: {text}")
    return Failed(f"PostgreSQL: {text}")


class PsqlSession:
    """One psql process that runs several queries; its locks and snapshots end with it or with this process."""

    def __init__(self, argv: Argv, environment: dict[str, str]) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._process = start_process(argv, environment, subprocess.PIPE, subprocess.PIPE, self._stderr)
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)

    def query(self, sql: str, *, deadline_s: float = QUERY_TIMEOUT_S) -> list[str]:
        """Run *sql* and return its rows; raises Failed if PostgreSQL refuses or the deadline passes."""
        with contextlib.suppress(BrokenPipeError):  # psql has ended: reading its output tells why
            self._stdin.write(f"{sql}\n\\echo {END_MARK}\n".encode())
            self._stdin.flush()
        end, mark, output = time.monotonic() + deadline_s, f"{END_MARK}\n".encode(), b""
        while not (output == mark or output.endswith(b"\n" + mark)):
            if not select.select([self._stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                said = self._errors() or "no output"
                raise Failed(f"PostgreSQL did not answer within {deadline_s:g} s ({said})")
            chunk = os.read(self._stdout.fileno(), 1 << 16)
            if not chunk:
                self._process.wait()
                raise postgres_error(self._errors())
            output += chunk
        return [line for line in output.decode().splitlines()[:-1] if line]

    def _errors(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def stdin_fileno(self) -> int:
        """The descriptor that keeps psql alive, for a process that inherits it through exec."""
        return self._stdin.fileno()

    def close(self) -> None:
        """End psql; never raises."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._stdin.close()
            self._process.wait(timeout=5)
        end_process(self._process)
        self._stdout.close()
        self._stderr.close()


def find_database_container(networks: Sequence[str], name: str) -> str:
    """ID of the running container that has the host name *name* on one of *networks*; empty if there is none."""
    with docker.engine_errors():
        api = docker.client().api
        for row in api.containers(filters={"network": list(networks)}) if networks else ():
            attached = api.inspect_container(row["Id"])["NetworkSettings"]["Networks"]
            task_of = (row.get("Labels") or {}).get("com.docker.swarm.service.name", "")
            names = [row["Names"][0].lstrip("/"), task_of, f"tasks.{task_of}"]
            for network in (attached[each] for each in attached if each in networks):
                given = (*(network.get("Aliases") or ()), *(network.get("DNSNames") or ()))
                names += [*given, network["IPAddress"]]
            if name in names:
                return str(row["Id"])[:12]
    return ""


# --- store ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PostgresStore:
    """One PostgreSQL database: dump, restore as a scratch copy on the same server, read, swap."""

    tools: PostgresTools
    schema_table: str
    kind: str = "postgres"
    suffix: str = ".dump"

    @property
    def name(self) -> str:
        """Name of the database."""
        return self.tools.database.name

    def size(self) -> int:
        """Bytes on the server's disk."""
        return int(self.tools.query("select pg_database_size(current_database());")[0])

    def head(self, name: str | None = None) -> str:
        """Schema revision; empty if no table records one."""
        return parse_contents(self.tools.query(self._query("revision"), name=name)).head

    def contents(self, name: str | None = None) -> DatabaseContents:
        """Contents of this database, or of *name* on the same server."""
        sql = self._query("begin reading", *CONTENTS)
        return parse_contents(self.tools.query(sql, name=name, deadline_s=READ_TIMEOUT_S))

    def _query(self, *names: str) -> str:
        return load_query(*names, schema_table=_literal(self.schema_table.rsplit(".", 1)[-1]))

    def dump(self, path: Path, budget_s: float) -> tuple[int, str, DatabaseContents]:
        """Write a dump to *path*; returns size, SHA-256 and the contents at exactly the moment of the dump."""
        with contextlib.closing(self.tools.open_session()) as session:
            # pg_dump and our queries read from one exported snapshot: writes going on meanwhile make no difference.
            snapshot = session.query(load_query("begin reading") + "select pg_export_snapshot();")[-1]
            lines = session.query(self._query(*CONTENTS), deadline_s=budget_s)
            wait = f"--lock-wait-timeout={DUMP_LOCK_TIMEOUT_S}s"
            argv = self.tools.argv("pg_dump", "--format=custom", f"--snapshot={snapshot}", wait)
            try:
                size, checksum, _ = stream_to_file(argv, self.environment(), path, budget_s)
            except Failed as error:
                raise postgres_error(str(error)) if "permission denied" in str(error) else error from error
            later = parse_contents(session.query(load_query("sequences")))
        return size, checksum, widen_sequences(parse_contents(lines), later)

    def scratch_name(self, suffix: str) -> str:
        """Name of a scratch database."""
        return shorten_name(self.name, SCRATCH_INFIX + suffix)

    def restore(self, path: Path, name: str, budget_s: float) -> None:
        """Restore *path* into a new database *name*, up to the first error; raises Failed or ConfigError.

        The new database has the encoding, locale, owner and connection limit of this one.
        """
        try:
            self.tools.query(load_query("create like current", name=_literal(name)))
        except ConfigError as error:
            user = self.tools.database.user
            raise ConfigError(f"{error}: a restore needs a new database, so let {user} CREATEDB") from error
        argv = self.tools.argv("pg_restore", "--exit-on-error", f"--dbname={name}")
        if not self.tools.container:  # parallel jobs need a file that they can open, not stdin
            argv = (*argv, "--jobs=2", str(path))
        done = feed_file(argv, self.environment(), path, budget_s)
        if not done.ok:
            # pg_restore prints more lines after the one that names the reason.
            errors = [line.strip() for line in done.err.splitlines() if "error:" in line]
            reason = errors[0].removeprefix("pg_restore: ") if errors else done.last_line
            raise Failed(f"pg_restore: {reason}")

    def drop(self, name: str) -> None:
        """Drop a database that cutover created, also while others are connected to it."""
        if not is_copy(name, self.name, DROPPED):
            raise ValueError(f"{name} was not created by cutover")
        quiet = "set client_min_messages = error; set default_transaction_read_only = off;"
        self.tools.query(f"{quiet} drop database if exists {_identifier(name)} with (force);")

    def drop_argv(self, name: str, env_file: Path) -> Argv:
        """Command that drops a scratch database from the undo script."""
        if not self.tools.container:
            return ()  # dropdb itself has no --env-file; the next snapshot drops the database
        drop = ("dropdb", "--if-exists", "--force", name)
        return ("docker", "exec", "--env-file", str(env_file), self.tools.container, *drop)

    def environment(self) -> dict[str, str]:
        """Variables of `drop_argv`."""
        return self.tools.database.environment()

    def scratches(self) -> list[str]:
        """Names of the scratch databases on the server."""
        names = self.tools.query("select datname from pg_database;")
        return [name for name in names if is_copy(name, self.name, SCRATCH)]

    def require_space(self) -> None:
        """Raise ConfigError if the server's disk is known and too full for a copy of the database."""
        size, folder = self.tools.query(load_query("size and folder"))[0].split("\t")
        free, needed = self._free_bytes(folder), int(FREE_SPACE_FACTOR * int(size))
        if free is not None and free < needed:
            disk = f"the database's disk has {format_size(free)} free"
            raise ConfigError(f"{disk}: a restored copy beside it needs {format_size(needed)}")

    def _free_bytes(self, folder: str) -> int | None:
        """Free bytes in the server's data folder; None if it is unknown or on another host."""
        if not folder:
            return None
        if not self.tools.container:
            is_local = self.tools.database.host in {"localhost", "127.0.0.1", "::1"}
            return shutil.disk_usage(folder).free if is_local and Path(folder).is_dir() else None
        argv = ("docker", "exec", self.tools.container, "df", "-Pk", folder)
        rows = process.run(argv, deadline_s=QUERY_TIMEOUT_S, mask=False).out.splitlines()[1:]
        available = rows[0].split()[3:4] if rows else []
        return int(available[0]) * 1024 if available and available[0].isdigit() else None

    def swap(self, new: str, aside: str) -> None:
        """Rename this database to *aside* and *new* to its name, in one transaction; raises Failed."""
        name = self.name
        # The rename locks the name while it waits for connections to end; new connections wait behind it and find
        # the restored database. One that connects before the lock is taken is terminated at the next attempt.
        sql = (
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = {_literal(name)};\n"
            f"begin; alter database {_identifier(name)} rename to {_identifier(aside)};\n"
            f"alter database {_identifier(new)} rename to {_identifier(name)}; commit;"
        )
        for left in reversed(range(SWAP_ATTEMPTS)):
            try:
                self.tools.query(sql, name=self._maintenance_database())
            except Failed as error:
                if "being accessed by other users" not in str(error) or not left:
                    raise
            else:
                return

    def copy_settings(self, new: str) -> None:
        """Copy settings and access rights of this database to *new*: a dump does not contain them."""
        self.tools.query(load_query("copy settings", new=_literal(new)))

    def oid(self, name: str) -> str:
        """OID of the database *name*, which does not change by a rename; empty if there is none."""
        sql = f"select oid from pg_database where datname = {_literal(name)};"
        return next(iter(self.tools.query(sql, name=self._maintenance_database())), "")

    def _maintenance_database(self) -> str:
        # A session cannot rename the database that it is connected to.
        return "postgres" if self.name != "postgres" else "template1"


def shorten_name(name: str, suffix: str) -> str:
    """*name* + *suffix* within PostgreSQL's 63 bytes: a longer name would be truncated without an error."""
    room = MAX_NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def is_copy(name: str, database: str, suffix: re.Pattern[str]) -> bool:
    """Whether *name* is one that cutover gives to a copy of *database*: shortened for what *suffix* matches."""
    found = suffix.search(name)
    return found is not None and name == shorten_name(database, found[0])


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def load_query(*names: str, **values: object) -> str:
    """The queries *names* of `postgres.sql`, one after the other, with *values* in place of their {names}."""
    text = resources.files(__package__).joinpath("postgres.sql").read_text(encoding="utf-8")
    queries = dict(part.split("\n", 1) for part in text.split("-- name: ")[1:])
    return "".join(queries[name] for name in names).format(
        lock_timeout_s=DUMP_LOCK_TIMEOUT_S,
        digest_max_bytes=DIGEST_MAX_BYTES,
        user_schemas="n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'",
        **values,
    )
