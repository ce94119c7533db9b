"""What a running recall is told, read once at its edge."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED = "sqlite:////data/recall.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment of one container decides."""

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
        """True when the data is a SQLite file on a volume."""
        return self.database_url.startswith("sqlite")

    @property
    def text_column(self) -> str:
        """The column of a memory's text; the contract release renames it."""
        return "body" if self.defect == "migration-contract" else "text"


def read(environment: Mapping[str, str]) -> Settings:
    """Read the settings; what is unset or empty has a default that runs."""
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
    """The last word of a Compose project's name: ``recall_blue`` is blue, ``recall`` has none."""
    words = re.split(r"[_-]", project)
    return words[-1] if len(words) > 1 else ""


def database_url(url: str) -> str:
    """The URL as SQLAlchemy wants it; without one, the embedded database."""
    # Many providers hand out "postgres://", which SQLAlchemy has refused since 1.4.
    return re.sub(r"^postgres://", "postgresql://", url) or EMBEDDED
