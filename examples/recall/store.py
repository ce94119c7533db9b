"""Storage of memories in PostgreSQL, or in an embedded SQLite file that both colors open."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, func, text
from sqlalchemy.engine import Engine

from .settings import Settings, read

if TYPE_CHECKING:
    from flask import Flask

db = SQLAlchemy()
migrate = Migrate(directory=str(Path(__file__).with_name("migrations")))


class Memory(db.Model):
    """One stored text. Columns that only later releases use are not mapped here."""

    __tablename__ = "memories"
    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(read(os.environ).text_column, db.Text, nullable=False)
    source = db.Column(db.String(80))
    created_at = db.Column(db.DateTime(timezone=True), server_default=func.now())

    def public(self) -> dict[str, Any]:
        """The memory as JSON-compatible values for the API."""
        return {
            "id": self.id,
            "text": self.text,
            "source": self.source,
            "created_at": self.created_at.isoformat() if self.created_at else None,
        }


def connect(app: Flask, settings: Settings) -> None:
    """Configure the database of *app* without opening a connection."""
    if settings.embedded:
        _share(Path(settings.database_url.removeprefix("sqlite:///")))
        options: dict[str, Any] = {"connect_args": {"timeout": 5}}
    else:
        options = {
            "pool_pre_ping": True,
            "pool_size": 8,
            "max_overflow": 8,
            "pool_timeout": 2,
            "connect_args": {"connect_timeout": 2, "options": "-c statement_timeout=5000"},
        }
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    db.init_app(app)
    migrate.init_app(app, db)


def _share(file: Path) -> None:
    """Make the file group-writable, which SQLite does not do; its WAL files inherit the mode."""
    os.umask(0o007)
    if os.access(file.parent, os.W_OK):
        file.touch(mode=0o660)


def answers() -> None:
    """Run a trivial query; raise if the database does not respond."""
    db.session.execute(text("SELECT 1")).one()


@event.listens_for(Engine, "connect")
def _share_sqlite(connection: Any, _record: Any) -> None:
    """Configure SQLite for two containers on one file: write-ahead log, and a busy timeout instead of errors."""
    if isinstance(connection, sqlite3.Connection):
        for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")


@migrate.configure
def _locate(config: Any) -> Any:
    """Add the revisions that only certain releases contain."""
    here = Path(__file__).with_name("migrations")
    extra = {"migration-contract": "contract", "bad-migration": "broken"}.get(read(os.environ).defect)
    folders = [here / "versions", *([here / extra] if extra else [])]
    config.set_main_option("version_locations", " ".join(map(str, folders)))
    return config
