"""Where the data lives: read from the release's environment, without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from cutover.core.config_schema import Database
from cutover.core.errors import UsageProblem
from cutover.core.masking import MASK, Secret

CONNECT_S = "10"


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A PostgreSQL database as an env file's URL names it."""

    url: Secret
    host: str
    port: int
    user: str
    password: Secret
    name: str
    sslmode: str = ""

    def environment(self, name: str | None = None) -> dict[str, str]:
        """What libpq's programs read: the password stands in no argument list."""
        given = {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password.reveal(),
            "PGDATABASE": name or self.name,
            "PGSSLMODE": self.sslmode,
            "PGCONNECT_TIMEOUT": CONNECT_S,
            "PGAPPNAME": "cutover",
            "PGCLIENTENCODING": "UTF8",
            "LC_MESSAGES": "C",  # what their errors say is read below
        }
        return {key: value for key, value in given.items() if value}

    def url_of(self, name: str) -> Secret:
        """The same URL for the database *name* on the same server."""
        parts = urlsplit(self.url.reveal())
        return Secret(urlunsplit(parts._replace(path="/" + quote(name, safe=""))))


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A SQLite database: a path inside the service's container."""

    path: str


Location = PostgresUrl | SqliteFile


def locate(database: Database | None, environment: Mapping[str, str], where: str) -> Location | None:
    """The database of a service with this *environment*, None where nothing names one; raises UsageProblem.

    *where* names the env file in errors.
    """
    settings = database or Database()
    url = environment.get(settings.url_key, "").strip()
    if not url:
        return SqliteFile(settings.sqlite) if settings.sqlite else None
    scheme = url.partition("://")[0].split("+", 1)[0].lower()
    if scheme in {"postgres", "postgresql"}:
        return read_postgres(url, f"{where}: {settings.url_key}")
    if scheme == "sqlite":
        path = urlsplit(url).path[1:]  # sqlite:////data/recall.db: three slashes of the URL, then the path
        return SqliteFile(path if path.startswith("/") else settings.sqlite or path)
    kind = f"a {scheme} URL" if "://" in url else "no URL"
    raise UsageProblem(f"{where}: {settings.url_key} is {kind}; snapshots know postgresql and sqlite")


def read_postgres(url: str, what: str) -> PostgresUrl:
    """The parts of a PostgreSQL URL, its password masked from now on; raises UsageProblem, which never quotes it."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError as error:
        raise UsageProblem(f"{what} is not a URL that can be read") from error
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    name, host = unquote(parts.path.lstrip("/")), parts.hostname or query.get("host", "")
    if not name or not host:
        raise UsageProblem(
            f"{what} names no {'host' if name else 'database'}: postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        )
    password = unquote(parts.password or query.get("password", ""))
    MASK.learn([url, password])
    user = unquote(parts.username or query.get("user", "postgres"))
    return PostgresUrl(Secret(url), host, port, user, Secret(password), name, query.get("sslmode", ""))
