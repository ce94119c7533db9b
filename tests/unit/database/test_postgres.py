"""PostgreSQL URLs and command lines."""

from __future__ import annotations

from cutover.core.config_schema import Database
from cutover.database.base import locate
from cutover.database.postgres import PostgresTools, PostgresUrl

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
