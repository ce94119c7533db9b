"""Snapshots and restores of a real PostgreSQL, asked through its own container."""

from __future__ import annotations

import re
import shlex
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from cutover.changes import undo_script
from cutover.core.errors import UsageProblem
from cutover.core.verdict import Outcome
from cutover.data import files, restoring
from cutover.system import process
from tests.engine.databases import DEADLINE_S, PASSWORD, Server, data_of, docker, eventually

pytestmark = pytest.mark.engine


def test_every_acknowledged_row_is_there_after_a_restore(
    server: Server, database: str, tmp_path: Path
) -> None:
    """2,000 rows are written while a snapshot is taken and restored: each that was acknowledged before it is in it."""
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

    data, writer = data_of(server, database, tmp_path), threading.Thread(target=write)
    writer.start()
    eventually(lambda: len(acknowledged) >= 200)
    before = set(acknowledged)
    taken = data.take()
    writer.join(DEADLINE_S)
    assert len(acknowledged) == 2000
    verdict = data.prove(taken)
    assert verdict.ok, verdict.reason
    data.drop_scratch()

    done = restoring.restore(data, taken)
    restored = {int(row) for row in server.sql("select id from memories", database).split()}
    assert before <= restored
    assert len(restored) == taken.contents.tables["public.memories"].rows
    assert server.sql("select count(*) from memories", done.aside) == "2000"
    next_id = int(server.sql("insert into memories (text) values ('y') returning id", database))
    assert next_id > max(restored)
    assert data.store.scratches() == []


def test_restore_and_its_undo_keep_names_settings_and_rights(
    server: Server, database: str, tmp_path: Path
) -> None:
    """The restored database has the name, settings and rights of the old one; its undo line brings that back."""
    server.sql(f'alter database {database} set search_path to public, "odd one"')
    server.sql(f"grant create on database {database} to pg_monitor")
    data = data_of(server, database, tmp_path)
    taken = data.take()
    server.sql("insert into memories (text) values ('later')", database)
    done = restoring.restore(data, taken)
    rights = "select datacl::text like '%pg_monitor=C/%' from pg_database where datname = current_database()"
    assert server.sql(rights, database) == "t"
    assert server.sql("show search_path", database) == 'public, "odd one"'
    assert server.sql("select count(*) from memories", database) == "0"
    assert shlex.split(done.undo)[-3:] == ["--back", done.aside, "--yes"]
    restoring.back(data, done.aside)
    assert server.sql("select count(*) from memories", database) == "1"


def _variant(server: Server, database: str, sql: str) -> str:
    name = f"{database}_variant"
    server.sql(f"drop database if exists {name}; create database {name} template {database}")
    server.sql(sql, name)
    return name


def _dump(server: Server, database: str, path: Path, *flags: str) -> None:
    words = (
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
    files.stream((*words, *flags, database), {"PGPASSWORD": PASSWORD}, path, DEADLINE_S)


def _cut(path: Path, share: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])


def _flip(path: Path) -> None:
    """One bit in the middle: in the compressed rows of the largest table."""
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
    """Ten kinds of broken dumps: restoring and comparing says no to each, `pg_restore --list` to none; docs/data.md says so."""
    server.sql("insert into memories (text) select md5(n::text) from generate_series(1, 3000) n", database)
    server.sql("insert into tags values ('a')", database)
    data = data_of(server, database, tmp_path)
    original = data.take()
    assert data.prove(original).ok
    seen: dict[str, tuple[Outcome, bool, str]] = {}

    def broken(kind: str, path: Path) -> None:
        trusted = replace(original, path=path, sha256=files.sha256_of(path))
        verdict = data.prove(trusted)
        words = ("docker", "exec", "--interactive", server.name, "pg_restore", "--list")
        seen[kind] = (verdict.outcome, files.feed(words, {}, path, DEADLINE_S).ok, verdict.reason)

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
        assert "checksum differs" in data.prove(replace(original, path=path)).reason
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
    assert data.store.scratches() == []


def test_says_who_may_not(server: Server, database: str, tmp_path: Path) -> None:
    """A role that may not create databases is told so before anything happens; a wrong password is never shown."""
    server.sql("drop role if exists poor; create role poor login password 'poorpoor'")
    for kind in ("tables", "sequences"):
        server.sql(f"grant select on all {kind} in schema public to poor", database)
    data = data_of(server, database, tmp_path)
    poor = server.url(database).replace(f"recall:{quote(PASSWORD, safe='')}", "poor:poorpoor")
    data.rendered.model["services"]["api"]["environment"]["DATABASE_URL"] = poor
    taken = data.take()
    with pytest.raises(UsageProblem, match="let poor CREATEDB"):
        data.prove(taken)
    data.rendered.model["services"]["api"]["environment"]["DATABASE_URL"] = poor.replace(
        "poorpoor", "wrongwrong"
    )
    data._store = None
    with pytest.raises(UsageProblem, match="cannot be reached") as error:
        data.take()
    assert "wrongwrong" not in str(error.value)


def test_what_a_dead_session_left_is_dropped_by_the_undo(
    server: Server, database: str, tmp_path: Path
) -> None:
    """The undo script needs no Python and no secret of its own: the scratch database is gone, and twice is as good."""
    data = data_of(server, database, tmp_path)
    change = data.snapshot_change()
    assert PASSWORD not in "".join(change.undo)
    assert process.run(change.do, deadline_s=DEADLINE_S).ok
    assert data.prove(data.take()).ok
    assert data.store.scratches() == [data.scratch]
    for _ in range(2):
        done = process.run(("sh", "-eu", "-c", undo_script([change])), deadline_s=DEADLINE_S)
        assert done.ok, done.err
    assert data.store.scratches() == []
    assert len(data.kept()) == 1
    assert not list(tmp_path.rglob("*.env"))
