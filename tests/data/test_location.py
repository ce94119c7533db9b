from __future__ import annotations

import pytest

from cutover.core.config_schema import Database
from cutover.core.errors import UsageProblem
from cutover.data.location import PostgresUrl, SqliteFile, locate
from cutover.data.psql import Tools

PASSWORD = "p@ss/w%rd$1"
URL = "postgresql+psycopg2://recall:p%40ss%2Fw%25rd%241@db:5433/recall?sslmode=require"


def _located(url: str, **database: str) -> PostgresUrl:
    found = locate(Database(**database), {"DATABASE_URL": url}, ".env.blue")
    assert isinstance(found, PostgresUrl)
    return found


def test_reads_every_part_of_a_url() -> None:
    """User, password, host, port, name and TLS mode become what libpq's programs read."""
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
    """The scratch copy's URL differs in the name alone: driver, password and options stay."""
    assert _located(URL).url_of("a b").reveal() == URL.replace("/recall?", "/a%20b?")


def test_no_secret_in_words_or_repr() -> None:
    """The password goes by name (`--env PGPASSWORD`): it stands in no argument list and in no text form."""
    located = _located(URL)
    words = Tools(located, "abc").words("pg_dump")
    assert words[-2:] == ("abc", "pg_dump")
    assert "PGPASSWORD" in words
    assert PASSWORD not in " ".join(words) + repr(located)
    assert "p%40ss" not in repr(located)


def test_without_a_container_the_programs_run_here() -> None:
    """Where no container answers to the URL's host, the installed programs are called as they are."""
    assert Tools(_located(URL)).words("pg_dump", "--format=custom") == ("pg_dump", "--format=custom")


@pytest.mark.parametrize(
    ("url", "sqlite", "expected"),
    [
        ("", "/data/recall.db", SqliteFile("/data/recall.db")),
        ("", "", None),
        ("sqlite:////data/other.db", "/data/recall.db", SqliteFile("/data/other.db")),
        ("sqlite:///other.db", "/data/other.db", SqliteFile("/data/other.db")),
    ],
)
def test_where_the_data_lives_without_a_server(url: str, sqlite: str, expected: SqliteFile | None) -> None:
    """Without a URL it is the file that `[database] sqlite` names, if any; a SQLite URL names its own."""
    assert locate(Database(sqlite=sqlite), {"DATABASE_URL": url}, ".env.blue") == expected


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+asyncpg://u@h/d"])
def test_knows_postgres_by_all_its_names(url: str) -> None:
    """Drivers and the old scheme name the same server."""
    assert _located(url).host == "h"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:hunter22@h/d", ".env.blue: DATABASE_URL is a mysql URL"),
        ("postgresql://u:hunter22@h", "names no database"),
        ("postgresql://u:hunter22@/d", "names no host"),
        ("postgresql://u:hunter22@h:port/d", "is not a URL that can be read"),
    ],
)
def test_says_what_is_wrong_without_the_password(url: str, reason: str) -> None:
    """An error names the file and the key, never the value."""
    with pytest.raises(UsageProblem, match=reason) as error:
        locate(Database(), {"DATABASE_URL": url}, ".env.blue")
    assert "hunter22" not in str(error.value)
