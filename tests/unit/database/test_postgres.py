"""PostgreSQL URLs and command lines."""

from __future__ import annotations

import pytest

from cutover.core.config_schema import Database
from cutover.database.base import locate
from cutover.database.postgres import PostgresStore, PostgresTools, PostgresUrl, shorten_name
from tests.unit.database.sqlite_files import COPIED_NAMES

PASSWORD = "p@ss/w%rd$1"
URL = "postgresql+psycopg2://recall:p%40ss%2Fw%25rd%241@db:5433/recall?sslmode=require"


def _located(url: str, **database: str) -> PostgresUrl:
    found = locate(Database(**database), {"DATABASE_URL": url}, ".env.blue")
    assert isinstance(found, PostgresUrl)
    return found


def test_reads_every_part_of_a_url() -> None:
    """User, password, host, port, name and TLS mode become libpq's environment variables."""
    expected = {
        "PGHOST": "db",
        "PGPORT": "5433",
        "PGUSER": "recall",
        "PGPASSWORD": PASSWORD,
        "PGDATABASE": "recall",
    }
    environment = _located(URL).environment()
    assert expected.items() <= environment.items()
    assert environment["PGSSLMODE"] == "require"


def test_another_database_of_the_same_server() -> None:
    """Only the name of the database changes: driver, password and options stay."""
    assert _located(URL).url_of("a b").reveal() == URL.replace("/recall?", "/a%20b?")


def test_no_secret_in_argv_or_repr() -> None:
    """The password is passed by the name of its variable: it is in no argument list and in no repr."""
    located = _located(URL)
    argv = PostgresTools(located, "abc").argv("pg_dump")
    assert argv[-2:] == ("abc", "pg_dump")
    assert "PGPASSWORD" in argv
    assert PASSWORD not in " ".join(argv) + repr(located)
    assert "p%40ss" not in repr(located)


def test_without_a_container_the_programs_run_here() -> None:
    """Without a container the programs of this host are called."""
    assert PostgresTools(_located(URL)).argv("pg_dump", "--format=custom") == ("pg_dump", "--format=custom")


@pytest.mark.parametrize("name", COPIED_NAMES)
def test_scratch_databases_are_known_whatever_the_name_is_cut_to(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this database, of any session, are found and dropped; nothing else is."""
    store = PostgresStore(PostgresTools(_located(f"postgres://u@h/{name}")), "alembic_version")
    own = [store.scratch_name(pid) for pid in ("7", "4194304")]
    others = [name, f"{name[:20]}_cutover_scratch_x", "z_cutover_scratch_7", f"{own[0]}_old"]
    new = shorten_name(name, "_cutover_new_20261130_091020")
    aside = shorten_name(name, "_before_20261130_091020")
    asked: list[str] = []

    def query(_tools: PostgresTools, sql: str, **_rest: object) -> list[str]:
        asked.append(sql)
        return [*own, *others, new, aside]

    monkeypatch.setattr(PostgresTools, "query", query)
    assert store.scratches() == own
    for each in (*own, new):
        store.drop(each)
        assert f'"{each}" with (force)' in asked[-1]
    for each in (*others, aside):
        with pytest.raises(ValueError, match="was not created by cutover"):
            store.drop(each)
