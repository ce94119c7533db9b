"""A PostgreSQL database: dumped in one consistent moment, restored beside itself, swapped by a rename."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cutover.core.errors import Failed, UsageProblem
from cutover.data import contents, files, reading
from cutover.data.contents import Contents
from cutover.data.location import PostgresUrl
from cutover.data.psql import Tools, refused
from cutover.system import process

LONGEST_NAME = 63
SCRATCH = "_cutover_scratch_"
TRIES = 5


@dataclass(frozen=True, slots=True)
class Postgres:
    """One database of a server, and the programs that reach it."""

    tools: Tools
    schema_table: str
    kind: str = "postgres"
    suffix: str = ".dump"

    @property
    def url(self) -> PostgresUrl:
        """The database as the env file names it."""
        return self.tools.database

    @property
    def name(self) -> str:
        """The database's name."""
        return self.url.name

    def exists(self) -> bool:
        """Whether it is there: a server that cannot be reached is told by its first question."""
        return True

    def size(self) -> int:
        """Its size on the server's disk, in bytes."""
        return int(self.tools.ask("select pg_database_size(current_database());")[0])

    def head(self, name: str | None = None) -> str:
        """The schema's revision; empty where no table says one."""
        return contents.read(self.tools.ask(reading.revision(self.schema_table), name=name)).head

    def mount(self, name: str) -> tuple[Path, str]:
        """A server's database has no folder that a service mounts."""
        raise ValueError(name)

    def contents(self, name: str | None = None) -> Contents:
        """What this database, or *name* on the same server, holds now."""
        sql = (
            reading.STEADY
            + "begin isolation level repeatable read, read only;\n"
            + reading.everything(self.schema_table)
        )
        return contents.read(self.tools.ask(sql, name=name, deadline_s=3600))

    # --- dumping and restoring -----------------------------------------------------------------------------------
    def dump(self, path: Path, budget_s: float) -> tuple[int, str, Contents]:
        """Write a dump to *path*: its size, its checksum, and what the database held in exactly that moment.

        The numbers and the dump come from one exported snapshot, so that writes going on meanwhile make no difference.
        """
        with self.tools.session() as session:
            snapshot = session.ask(reading.BEGIN)[-1]
            held = contents.read(session.ask(reading.everything(self.schema_table), deadline_s=budget_s))
            wait = f"--lock-wait-timeout={reading.DUMP_WAITS_S}s"
            words = self.tools.words("pg_dump", "--format=custom", f"--snapshot={snapshot}", wait)
            try:
                size, checksum, _ = files.stream(words, self.tools.environment(), path, budget_s)
            except Failed as error:
                raise refused(str(error)) if "permission denied" in str(error) else error from error
            later = contents.read(session.ask(reading.SEQUENCES))
        return size, checksum, contents.widened(held, later)

    def scratch_name(self, tail: str) -> str:
        """The name of a scratch database of ours: at most 63 bytes, or PostgreSQL would cut it silently."""
        return short(self.name, SCRATCH + tail)

    def restore(self, path: Path, name: str, budget_s: float) -> None:
        """Restore *path* into a new database *name*, stopping at the first error; raises Failed or UsageProblem."""
        self.create(name)
        words = self.tools.words("pg_restore", "--exit-on-error", f"--dbname={name}")
        if not self.tools.container:  # parallel workers need a file that they can open
            words = (*words, "--jobs=2", str(path))
        done = files.feed(words, self.tools.environment(), path, budget_s)
        if not done.ok:
            raise Failed(f"pg_restore: {_first_error(done)}")

    def create(self, name: str) -> None:
        """An empty database *name* with this one's encoding, locale, owner and limit."""
        try:
            self.tools.ask(CREATE.format(name=_literal(name)))
        except UsageProblem as error:
            raise UsageProblem(
                f"{error}: a restore needs a new database, so let {self.url.user} CREATEDB"
            ) from error

    def drop(self, name: str) -> None:
        """Remove a database of ours, whoever is connected to it; nothing if it is gone."""
        if SCRATCH not in name and "_cutover_new_" not in name:
            raise ValueError(f"{name} is not a database of ours")
        self.tools.ask(
            f"set client_min_messages = error; drop database if exists {_identifier(name)} with (force);"
        )

    def drop_words(self, name: str, env_file: Path) -> tuple[str, ...]:
        """The words that drop a scratch database without us; where the programs run here, the next snapshot does."""
        if not self.tools.container:
            return ()
        drop = ("dropdb", "--if-exists", "--force", name)
        return ("docker", "exec", "--env-file", str(env_file), self.tools.container, *drop)

    def environment(self) -> dict[str, str]:
        """What those words must know."""
        return self.tools.environment()

    def scratches(self) -> list[str]:
        """The scratch databases of ours that are there."""
        start = self.scratch_name("")
        return [name for name in self.tools.ask("select datname from pg_database;") if name.startswith(start)]

    def need_room(self) -> None:
        """Raise UsageProblem where the server's own disk, if it can be asked, would not hold a copy of the database."""
        size, folder = self.tools.ask(SIZE_AND_FOLDER)[0].split("\t")
        free, needed = self._free_in(folder), int(files.NEEDED * int(size))
        if free is not None and free < needed:
            there = f"the database's disk has {files.megabytes(free)} free"
            raise UsageProblem(f"{there}: a restored copy beside it needs {files.megabytes(needed)}")

    def _free_in(self, folder: str) -> int | None:
        """The free bytes where the server keeps its data; None where it does not say, or is not on this host."""
        if not folder:
            return None
        if not self.tools.container:
            here = self.url.host in {"localhost", "127.0.0.1", "::1"} and Path(folder).is_dir()
            return shutil.disk_usage(folder).free if here else None
        words = ("docker", "exec", self.tools.container, "df", "-Pk", folder)
        return free_of(process.run(words, deadline_s=files.QUICK_S, mask=False).out)

    def swap(self, new: str, aside: str) -> None:
        """Rename *new* into place and this database to *aside*, both in one transaction.

        The rename locks the name while it waits for others to leave, and newcomers wait behind it: they find the
        restored database. One who slips in before is told to leave at the next try.
        """
        name = self.name
        sql = (
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = {_literal(name)};\n"
            f"begin; alter database {_identifier(name)} rename to {_identifier(aside)};\n"
            f"alter database {_identifier(new)} rename to {_identifier(name)}; commit;"
        )
        for left in reversed(range(TRIES)):
            try:
                self.tools.ask(sql, name=self.maintenance())
            except Failed as error:
                if "being accessed by other users" not in str(error) or not left:
                    raise
            else:
                return

    def carry(self, new: str) -> None:
        """Give *new* the settings and the access rights of this database: a dump holds what is inside it only."""
        self.tools.ask(CARRY.format(new=_literal(new)))

    def identity(self, name: str) -> str:
        """What stays with a database through a rename."""
        found = self.tools.ask(
            f"select oid from pg_database where datname = {_literal(name)};", name=self.maintenance()
        )
        return found[0] if found else ""

    def maintenance(self) -> str:
        """A database to be connected to while this one is renamed."""
        return "postgres" if self.name != "postgres" else "template1"

    def has(self, name: str) -> bool:
        """Whether the server has a database of that name."""
        return name in self.tools.ask("select datname from pg_database;", name=self.maintenance())


# Who may not see the folder finds no row, and no error.
SIZE_AND_FOLDER = """\
select pg_database_size(current_database()), (select setting from pg_settings where name = 'data_directory');
"""
CREATE = """\
select format('create database %I template template0 encoding %L lc_collate %L lc_ctype %L connection limit %s%s%s',
  {name}, pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
  case when pg_has_role(datdba, 'MEMBER') then format(' owner %I', pg_get_userbyid(datdba)) end,
  case when to_jsonb(d) ->> 'datlocprovider' = 'i' then
    format(' locale_provider icu icu_locale %L',
      coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale')) end)
from pg_database d where datname = current_database()
\\gexec
"""

# Who connects to a database has its settings, so "from current" copies them without quoting them again.
CARRY = """\
select format('alter database %I set %s from current', {new}, split_part(one, '=', 1))
from pg_db_role_setting s, unnest(s.setconfig) one, pg_database d
where d.datname = current_database() and s.setdatabase = d.oid and s.setrole = 0
\\gexec
select format('revoke all on database %I from public', {new}) from pg_database
where datname = current_database() and datacl is not null
\\gexec
select format('grant %s on database %I to %s%s', privilege_type, {new},
  case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
  case when is_grantable then ' with grant option' end)
from pg_database, aclexplode(datacl) where datname = current_database() and grantee <> datdba
\\gexec
"""


def short(name: str, tail: str) -> str:
    """*name* and *tail* within PostgreSQL's 63 bytes, the tail whole."""
    room = LONGEST_NAME - len(tail.encode())
    return name.encode()[:room].decode(errors="ignore") + tail


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _first_error(done: process.Done) -> str:
    """The line that names the reason: pg_restore goes on talking after it."""
    lines = [line.strip() for line in done.err.splitlines() if "error:" in line]
    return lines[0].removeprefix("pg_restore: ") if lines else done.last_line


def free_of(table: str) -> int | None:
    """The free bytes of `df -Pk`, None for anything else."""
    rows = [line.split() for line in table.splitlines()[1:]]
    available = rows[0][3:4] if rows else []
    return int(available[0]) * 1024 if available and available[0].isdigit() else None


def find_container(networks: Sequence[str], name: str) -> str:
    """The id of the running container that answers to *name* on one of *networks*; empty if there is none."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from cutover.core.errors import EngineSilent
    from cutover.system import docker

    try:
        api = docker.client().api
        for row in api.containers(filters={"network": list(networks)}) if networks else ():
            attached = api.inspect_container(row["Id"])["NetworkSettings"]["Networks"]
            names = [row["Names"][0].lstrip("/")]
            for network in set(networks) & set(attached):
                names += [
                    *(attached[network].get("Aliases") or ()),
                    *(attached[network].get("DNSNames") or ()),
                    attached[network]["IPAddress"],
                ]
            if name in names:
                return str(row["Id"])[:12]
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error
    return ""
