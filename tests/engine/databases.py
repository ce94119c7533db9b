"""A real PostgreSQL in a container of its own, and the data of a service that lives in it."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from cutover.core.config import Settings
from cutover.data import Data
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


def docker(*words: str) -> str:
    """What a command of the engine prints; it must not fail."""
    done = process.run(("docker", *words), deadline_s=DEADLINE_S, mask=False)
    assert done.ok, done.err
    return done.out.strip()


def eventually(ask: Callable[[], bool]) -> None:
    """Wait until *ask* says yes."""
    end = time.monotonic() + DEADLINE_S
    while not ask():
        assert time.monotonic() < end, "it did not happen within the deadline"
        time.sleep(0.05)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL in a container, alone on a network of its own."""

    name: str

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql prints for *text*."""
        words = (
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
        flags = ("-U", "recall", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1")
        done = process.run(
            (*words, *flags), deadline_s=DEADLINE_S, environment={"PGPASSWORD": PASSWORD}, stdin=text.encode()
        )
        assert done.ok, done.err
        return done.out.strip()

    def url(self, database: str) -> str:
        """The URL of *database* as an env file has it."""
        return f"postgresql://recall:{quote(PASSWORD, safe='')}@thedb:5432/{database}"


@contextmanager
def started() -> Iterator[Server]:
    """A server of this run's own, removed with all that it holds."""
    docker("network", "create", NAME)
    variables = (
        "-e",
        "POSTGRES_USER=recall",
        "-e",
        f"POSTGRES_PASSWORD={PASSWORD}",
        "-e",
        "POSTGRES_DB=recall",
    )
    try:
        docker(
            "run",
            "-d",
            "--name",
            NAME,
            "--network",
            NAME,
            "--network-alias",
            "thedb",
            *variables,
            image("postgres"),
        )
        ready = ("docker", "exec", NAME, "pg_isready", "--quiet", "--host", "127.0.0.1")
        eventually(lambda: process.run(ready, deadline_s=DEADLINE_S).ok)
        server = Server(NAME)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing of this is to survive
            server.sql(f"alter system set {setting} = off")
        server.sql("select pg_reload_conf()")
        yield server
    finally:
        process.run(("docker", "rm", "--force", "--volumes", NAME), deadline_s=DEADLINE_S)
        process.run(("docker", "network", "rm", NAME), deadline_s=DEADLINE_S)


@contextmanager
def created(server: Server, name: str) -> Iterator[str]:
    """A database *name* with a few tables, dropped with all that was made of it."""
    server.sql(f"create database {name}")
    server.sql(SCHEMA, name)
    try:
        yield name
    finally:
        rows = [row for row in server.sql("select datname from pg_database").split() if row.startswith(name)]
        server.sql(";".join(f"drop database {row} with (force)" for row in rows))


def data_of(server: Server, database: str, state: Path, migrate: tuple[str, ...] = ()) -> Data:
    """The data of a service whose release names *database*; its image has psql, its network is the server's."""
    table = {
        "project": NAME,
        "colours": {"green": {"env_file": state / ".env.green"}},
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
    return Data(Settings.model_validate(table), rendered, state)
