"""A PostgreSQL server in a container, and the database of a service on it."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from cutover.core.config import Settings
from cutover.database.base import ServiceDatabase
from cutover.system import process
from cutover.system.compose import Rendered
from examples.images import image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = f"cutover-data-{os.getpid()}"
PASSWORD = "s3cret$wörd/x"
DEADLINE_S = 120.0
SCHEMA = """
create table memories (id serial primary key, text text not null);
create index by_length on memories (length(text));
create table tags (name text);
create table alembic_version (version_num varchar(32) primary key);
insert into alembic_version values ('c40e');
"""


def docker(*argv: str) -> str:
    """Output of a docker command, which must succeed."""
    done = process.run(("docker", *argv), deadline_s=DEADLINE_S, mask=False)
    assert done.ok, done.err
    return done.out.strip()


def eventually(ask: Callable[[], bool]) -> None:
    """Wait until *ask* returns True."""
    end = time.monotonic() + DEADLINE_S
    while not ask():
        assert time.monotonic() < end, "it did not happen within the deadline"
        time.sleep(0.05)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server in the container *name*, on a network of the same name."""

    name: str

    def sql(self, text: str, database: str = "postgres") -> str:
        """Output of psql for *text*."""
        psql = (
            "docker",
            "exec",
            "--interactive",
            "--env",
            "PGPASSWORD",
            self.name,
            "psql",
            "-h",
            "127.0.0.1",
        )
        argv = (*psql, "-U", "recall", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1")
        secret = {"PGPASSWORD": PASSWORD}
        done = process.run(argv, deadline_s=DEADLINE_S, environment=secret, stdin=text.encode())
        assert done.ok, done.err
        return done.out.strip()

    def url(self, database: str) -> str:
        """URL of *database* as an env file has it."""
        return f"postgresql://recall:{quote(PASSWORD, safe='')}@thedb:5432/{database}"


@contextmanager
def started() -> Iterator[Server]:
    """A server for this test run, removed afterwards with its data."""
    docker("network", "create", NAME)
    variables = ("POSTGRES_USER=recall", f"POSTGRES_PASSWORD={PASSWORD}", "POSTGRES_DB=recall")
    flags = (*(f"--env={each}" for each in variables), f"--network={NAME}", "--network-alias=thedb")
    try:
        docker("run", "-d", f"--name={NAME}", *flags, image("postgres"))
        ready = ("docker", "exec", NAME, "pg_isready", "--quiet", "--host", "127.0.0.1")
        eventually(lambda: process.run(ready, deadline_s=DEADLINE_S).ok)
        server = Server(NAME)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # faster; not crash-safe
            server.sql(f"alter system set {setting} = off")
        server.sql("select pg_reload_conf()")
        yield server
    finally:
        process.run(("docker", "rm", "--force", "--volumes", NAME), deadline_s=DEADLINE_S)
        process.run(("docker", "network", "rm", NAME), deadline_s=DEADLINE_S)


@contextmanager
def created(server: Server, name: str) -> Iterator[str]:
    """A database *name* with a few tables, dropped afterwards with its copies."""
    server.sql(f"create database {name}")
    server.sql(SCHEMA, name)
    try:
        yield name
    finally:
        rows = [row for row in server.sql("select datname from pg_database").split() if row.startswith(name)]
        server.sql(";".join(f"drop database {row} with (force)" for row in rows))


def service_database(
    server: Server, database: str, state: Path, migrate: tuple[str, ...] = ()
) -> ServiceDatabase:
    """The database of a service whose image has psql and whose network is the server's."""
    table = {
        "project": NAME,
        "colors": {"green": {"env_file": state / ".env.green"}},
        "state_dir": state,
        "database": {},
        "migrate": {"command": migrate, "lock_timeout": "1s"} if migrate else None,
    }
    environment = {"DATABASE_URL": server.url(database).replace("$", "$$")}
    model = {
        "name": f"{NAME}-green",
        "services": {
            "api": {"image": image("postgres"), "environment": environment, "networks": {"shared": None}}
        },
        "networks": {"shared": {"name": NAME, "external": True}},
    }
    rendered = Rendered("green", f"{NAME}-green", json.dumps(model), model, {})
    return ServiceDatabase(Settings.model_validate(table), rendered, state)
