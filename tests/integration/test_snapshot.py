"""Snapshots and restores of a real PostgreSQL, through its own container."""

from __future__ import annotations

import re
import shlex
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from cutover.core.change import undo_script
from cutover.core.errors import ConfigError
from cutover.core.verdict import Outcome
from cutover.database.restore import restore_snapshot, undo_restore
from cutover.database.snapshot import feed_file, list_snapshots, sha256_of, stream_to_file
from cutover.system import process
from tests.helpers.databases import DEADLINE_S, PASSWORD, Server, docker, eventually, service_database

pytestmark = pytest.mark.engine


def test_every_acknowledged_row_is_there_after_a_restore(
    server: Server, database: str, tmp_path: Path
) -> None:
    """With writes during snapshot and restore, every row acknowledged before the snapshot is restored."""
    psycopg = pytest.importorskip("psycopg")
    address = docker(
        "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", server.name
    )
    acknowledged: list[int] = []

    def write() -> None:
        login = {
            "host": address,
            "user": "recall",
            "password": PASSWORD,
            "dbname": database,
            "autocommit": True,
        }
        with closing(psycopg.connect(**login)) as connection:
            for _ in range(2000):
                row = connection.execute("insert into memories (text) values ('x') returning id").fetchone()
                acknowledged.append(row[0])

    source, writer = service_database(server, database, tmp_path), threading.Thread(target=write)
    writer.start()
    eventually(lambda: len(acknowledged) >= 200)
    before = set(acknowledged)
    snapshot = source.take()
    writer.join(DEADLINE_S)
    assert len(acknowledged) == 2000
    verdict = source.verify(snapshot)
    assert verdict.ok, verdict.reason
    source.drop_scratch()

    done = restore_snapshot(source, snapshot)
    restored = {int(row) for row in server.sql("select id from memories", database).split()}
    assert before <= restored
    assert len(restored) == snapshot.contents.tables["public.memories"].rows
    assert server.sql("select count(*) from memories", done.aside) == "2000"
    next_id = int(server.sql("insert into memories (text) values ('y') returning id", database))
    assert next_id > max(restored)
    assert source.store.scratches() == []


def test_restore_and_its_undo_keep_names_settings_and_rights(
    server: Server, database: str, tmp_path: Path
) -> None:
    """The restored database has the name, settings and rights of the old one; the undo restores the old one."""
    server.sql(f'alter database {database} set search_path to public, "odd one"')
    # A session that restores has another one, and a role may have its own in this database.
    server.sql(f"alter database {database} set client_encoding to 'LATIN1'")
    server.sql(f"alter role recall in database {database} set work_mem to '7MB'")
    server.sql(f"grant create on database {database} to pg_monitor")
    source = service_database(server, database, tmp_path)
    snapshot = source.take()
    server.sql("insert into memories (text) values ('later')", database)
    server.sql(f"alter database {database} set default_transaction_read_only to on")  # nobody writes any more
    done = restore_snapshot(source, snapshot)
    settings = (
        "select setrole, one from pg_db_role_setting, unnest(setconfig) one where setdatabase ="
        " (select oid from pg_database where datname = current_database()) order by 1, 2"
    )
    assert server.sql(settings, database) == server.sql(settings, done.aside) != ""
    rights = "select datacl::text like '%pg_monitor=C/%' from pg_database where datname = current_database()"
    assert server.sql(rights, database) == "t"
    assert server.sql("show search_path", database) == 'public, "odd one"'
    assert server.sql("select count(*) from memories", database) == "0"
    assert shlex.split(done.undo)[-3:] == ["--back", done.aside, "--yes"]
    undo_restore(source, done.aside)
    assert server.sql("select count(*) from memories", database) == "1"


def _variant(server: Server, database: str, sql: str) -> str:
    name = f"{database}_variant"
    server.sql(f"drop database if exists {name}; create database {name} template {database}")
    server.sql(sql, name)
    return name


def _dump(server: Server, database: str, path: Path, *flags: str) -> None:
    argv = (
        "docker",
        "exec",
        "--env",
        "PGPASSWORD",
        server.name,
        "pg_dump",
        "-h",
        "127.0.0.1",
        "-U",
        "recall",
        "-Fc",
    )
    stream_to_file((*argv, *flags, database), {"PGPASSWORD": PASSWORD}, path, DEADLINE_S)


def _cut(path: Path, share: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])


def _flip(path: Path) -> None:
    """Flip one bit in the middle of the file, in the compressed rows of the largest table."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DOCUMENT = Path(__file__).parents[2] / "docs/data.md"
OTHER = (
    "drop table memories, tags; create table orders (id int); update alembic_version set version_num = 'ffff'"
)
FROM_OTHER_DATA = {
    "empty table": "truncate tags",
    "wrong database": OTHER,
    "stale": "delete from memories where id > 2990",
    "missing sequence": "alter table memories alter id drop default; drop sequence memories_id_seq",
    "older revision": "update alembic_version set version_num = 'b771'",
    "missing index": "drop index by_length",
    "other contents": "update memories set text = 'y' where id = 7",
}


def test_broken_dumps_are_caught_where_a_listing_is_content(
    server: Server, database: str, tmp_path: Path
) -> None:
    """Restore and comparison detect ten kinds of broken dumps, `pg_restore --list` none (table in docs/data.md)."""
    server.sql("insert into memories (text) select md5(n::text) from generate_series(1, 3000) n", database)
    server.sql("insert into tags values ('a')", database)
    source = service_database(server, database, tmp_path)
    original = source.take()
    assert source.verify(original).ok
    seen: dict[str, tuple[Outcome, bool, str]] = {}

    def broken(kind: str, path: Path) -> None:
        trusted = replace(original, path=path, sha256=sha256_of(path))
        verdict = source.verify(trusted)
        argv = ("docker", "exec", "--interactive", server.name, "pg_restore", "--list")
        seen[kind] = (verdict.outcome, feed_file(argv, {}, path, DEADLINE_S).ok, verdict.reason)

    for kind, sql in FROM_OTHER_DATA.items():
        path = tmp_path / kind
        _dump(server, _variant(server, database, sql), path)
        broken(kind, path)
    _dump(server, database, tmp_path / "schema only", "--schema-only")
    broken("schema only", tmp_path / "schema only")
    for kind, breaking in (("truncated", lambda path: _cut(path, 0.5)), ("bit flip", _flip)):
        path = tmp_path / kind
        path.write_bytes(original.path.read_bytes())
        breaking(path)
        assert "checksum differs" in source.verify(replace(original, path=path)).reason
        broken(kind, path)

    assert {kind: outcome for kind, (outcome, _, _) in seen.items()} == dict.fromkeys(seen, Outcome.NO)
    assert len(seen) == 10
    rows = re.findall(
        r"^\| ([a-z ]+) \| .+ \| (caught) \| ((?:not )?caught) \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    assert {kind: (ours, theirs) for kind, ours, theirs in rows} == {
        kind: ("caught" if outcome is Outcome.NO else "not caught", "not caught" if listed else "caught")
        for kind, (outcome, listed, _) in seen.items()
    }
    assert source.store.scratches() == []


def test_missing_rights_are_reported(server: Server, database: str, tmp_path: Path) -> None:
    """The error names a role that may not create databases and never contains a password."""
    server.sql("drop role if exists poor; create role poor login password 'poorpoor'")
    for kind in ("tables", "sequences"):
        server.sql(f"grant select on all {kind} in schema public to poor", database)
    source = service_database(server, database, tmp_path)
    poor = server.url(database).replace(f"recall:{quote(PASSWORD, safe='')}", "poor:poorpoor")
    source.rendered.model["services"]["api"]["environment"]["DATABASE_URL"] = poor
    snapshot = source.take()
    with pytest.raises(ConfigError, match="let poor CREATEDB"):
        source.verify(snapshot)
    source.rendered.model["services"]["api"]["environment"]["DATABASE_URL"] = poor.replace(
        "poorpoor", "wrongwrong"
    )
    del source.store
    with pytest.raises(ConfigError, match="cannot be reached") as error:
        source.take()
    assert "wrongwrong" not in str(error.value)


def test_the_undo_drops_the_scratch_database_of_a_dead_session(
    server: Server, database: str, tmp_path: Path
) -> None:
    """The undo script needs no Python and contains no secret; it can run twice."""
    source = service_database(server, database, tmp_path)
    change = source.snapshot_change()
    assert PASSWORD not in "".join(change.undo)
    assert process.run(change.do, deadline_s=DEADLINE_S).ok
    assert source.verify(source.take()).ok
    assert source.store.scratches() == [source.scratch]
    for _ in range(2):
        done = process.run(("sh", "-eu", "-c", undo_script([change])), deadline_s=DEADLINE_S)
        assert done.ok, done.err
    assert source.store.scratches() == []
    assert len(list_snapshots(source.folder)) == 1
    assert not list(tmp_path.rglob("*.env"))
