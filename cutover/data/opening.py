"""Which way leads to the database that a release names."""

from __future__ import annotations

from pathlib import Path

from cutover.core.config import Settings
from cutover.core.config_schema import Database
from cutover.core.errors import EngineSilent, Inconclusive, UsageProblem
from cutover.data.location import Location, PostgresUrl, SqliteFile
from cutover.data.store import Store
from cutover.system import process
from cutover.system.compose import Rendered


def way(settings: Settings, rendered: Rendered, location: Location | None, folder: Path) -> Store:
    """The way to the database; raises UsageProblem where there is none, Inconclusive when the engine is silent."""
    database = settings.database or Database()
    if location is None:
        where = f"{rendered.colour} has no {database.url_key}, and {settings.source} no [database] sqlite"
        raise UsageProblem(f"no database to take a snapshot of: {where}")
    try:
        if isinstance(location, SqliteFile):
            from cutover.data import sqlite

            return sqlite.find(rendered, settings.service, location.path, folder, database.schema_table)
        return _postgres(settings, rendered, location, database)
    except EngineSilent as error:
        raise Inconclusive(str(error)) from error


def _postgres(settings: Settings, rendered: Rendered, location: PostgresUrl, database: Database) -> Store:
    """By the programs of the database's own container, which fit it; else by those that are installed here."""
    from cutover.data.postgres import Postgres, find_container
    from cutover.data.psql import Tools

    container = database.container or find_container(
        networks(rendered, settings.service, database), location.host
    )
    if not container and not process.run(("pg_dump", "--version"), deadline_s=10).ok:
        where = f"no container answers to {location.host!r} on the service's networks, and there is no pg_dump here"
        raise UsageProblem(f"{where}: name one that has pg_dump in {settings.source}: [database] container")
    return Postgres(Tools(location, container), database.schema_table)


def networks(rendered: Rendered, service: str, database: Database) -> list[str]:
    """The real names of the networks that the service joins, and the one that `[database]` names."""
    joined = rendered.service(service).get("networks") or {}
    models = rendered.model.get("networks") or {}
    named = [str((models.get(name) or {}).get("name", name)) for name in joined]
    return [*named, *([database.network] if database.network else [])]
