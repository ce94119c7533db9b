"""Settings of a recall container, read once from its environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED = "sqlite:////data/recall.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one container."""

    tag: str
    built_as: str
    color: str
    database_url: str
    redis_url: str
    ai_endpoint: str
    defect: str
    defect_seconds: float

    @property
    def embedded(self) -> bool:
        """Whether the database is a SQLite file on a volume."""
        return self.database_url.startswith("sqlite")

    @property
    def text_column(self) -> str:
        """Name of the text column; the contract release renames it."""
        return "body" if self.defect == "migration-contract" else "text"


def read(environment: Mapping[str, str]) -> Settings:
    """Read the settings; a variable that is unset or empty gets a working default."""
    built_as = environment.get("BUILT_AS", "")
    return Settings(
        tag=environment.get("IMAGE_TAG") or built_as or "unknown",
        built_as=built_as,
        color=environment.get("COLOR") or color(environment.get("COMPOSE_PROJECT_NAME", "")),
        database_url=database_url(environment.get("DATABASE_URL", "")),
        redis_url=environment.get("REDIS_URL", ""),
        ai_endpoint=environment.get("VLLM_ENDPOINT", "").rstrip("/").removesuffix("/v1"),
        defect=environment.get("DEFECT", ""),
        defect_seconds=float(environment.get("DEFECT_SECONDS") or 20),
    )


def color(project: str) -> str:
    """The last part of a Compose project name: ``recall_blue`` gives blue, ``recall`` gives an empty string."""
    words = re.split(r"[_-]", project)
    return words[-1] if len(words) > 1 else ""


def database_url(url: str) -> str:
    """The URL in SQLAlchemy's format; the embedded database if *url* is empty."""
    # Many providers use "postgres://", which SQLAlchemy 1.4 and later rejects.
    return re.sub(r"^postgres://", "postgresql://", url) or EMBEDDED
