"""PostgreSQL, Redis and the AI endpoint beside a stand, and the releases of recall that use them."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from examples.images import image
from examples.releases import build
from examples.stand import REPOSITORY, Stand

REPO = "cutover-day/api"
OLDER, GOOD, LATEST, NEXT = "sha-0da0002", "sha-0da0003", "sha-0da0004", "sha-0da0005"
BAD, LATER, CONTRACT, BROKEN = "sha-0dabad1", "sha-0dabad2", "sha-0dabad3", "sha-0dabad4"
CRASHING = "sha-0dabad5"
# Tag: its defect, and the number of migrations in it.
RELEASES: Mapping[str, tuple[str | None, int]] = {
    OLDER: (None, 2), GOOD: (None, 3), LATEST: (None, 4), NEXT: (None, 4), BAD: ("wrong-version", 4),
    LATER: ("breaks-later", 4), CONTRACT: ("migration-contract", 4), BROKEN: ("bad-migration", 4),
    CRASHING: ("prints-environment", 4),
}  # fmt: skip
SETTINGS = """
[snapshot]
enabled = true
keep = 3

[[dependencies]]
name = "database"
kind = "postgres"
url_key = "DATABASE_URL"

[[dependencies]]
name = "cache"
kind = "redis"
url_key = "REDIS_URL"

[[dependencies]]
name = "model"
kind = "http"
url_key = "VLLM_ENDPOINT"
path = "/models"
"""
UP_S = 180.0
PARTS = ("db", "cache", "ai")


def made(tag: str) -> str:
    """Build the release *tag* unless it is up to date; return its reference."""
    defect, revisions = RELEASES[tag]
    # Long enough that the release fails only when a test triggers it.
    return build(tag, defect, repo=REPO, revisions=revisions, seconds=3600)


@dataclass(slots=True)
class Parts:
    """The Compose project of the shared services of *name*; its password is a canary."""

    name: str
    password: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")

    @property
    def project(self) -> str:
        """The Compose project."""
        return f"{self.name}_parts"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the env file of a color."""
        return {
            "IMAGE_REPO": REPO,
            "DATABASE_URL": f"postgresql://recall:{self.password}@{self.name}-db:5432/recall",
            "REDIS_URL": f"redis://{self.name}-cache:6379/0",
            "VLLM_ENDPOINT": f"http://{self.name}-ai:8000/v1",
        }

    def start(self, folder: Path, stand: Stand) -> None:
        """Start the services on the shared network of *stand* and wait until they are healthy."""
        for part in ("postgres", "redis", "ai"):
            image(part)
        stand.docker("network", "create", f"{self.name}_shared")
        values = {
            "IMAGE_TAG": OLDER, "API_HTTP_PORT": "1", "COMPOSE_PROFILES": "db,cache,ai", "POSTGRES_PASSWORD": self.password,
            "SHARED_NETWORK": f"{self.name}_shared", "DB_VOLUME": f"{self.name}_db", "SHARED_VOLUME": f"{self.name}_data",
            "DB_ALIAS": f"{self.name}-db", "CACHE_ALIAS": f"{self.name}-cache", "AI_ALIAS": f"{self.name}-ai",
        }  # fmt: skip
        file = folder / ".env.deploy"
        file.touch(0o600)
        file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        words = (
            "docker",
            "compose",
            "--file",
            str(REPOSITORY / "deploy" / "docker-compose.yml"),
            "--env-file",
            str(file),
        )
        up = ("up", "--detach", "--wait", "--wait-timeout", "120", *PARTS)
        done = subprocess.run(
            (*words, "--project-name", self.project, *up), env=stand.shell(), cwd=folder, capture_output=True, text=True,
            timeout=UP_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the shared parts did not start: {done.stderr.strip()[-500:]}")

    def remove(self, stand: Stand) -> None:
        """Remove the containers and their data; the network is removed with the stand."""
        label = f"label=com.docker.compose.project={self.project}"
        for each in stand.docker("ps", "--all", "--quiet", "--filter", label).split():
            stand.docker("rm", "--force", "--volumes", each, check=False)
        stand.docker("volume", "rm", f"{self.name}_db", check=False)

    def sql(self, text: str, database: str = "recall") -> list[str]:
        """Rows that psql prints for *text*, run in the database container."""
        flags = (
            "-h",
            "127.0.0.1",
            "-U",
            "recall",
            "-d",
            database,
            "-qAtX",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            text,
        )
        found = subprocess.run(
            ("docker", "exec", "--env", "PGPASSWORD", f"{self.project}-db-1", "psql", *flags),
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PGPASSWORD": self.password},
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if found.returncode:
            raise RuntimeError(f"psql: {found.stderr.strip()}")
        return found.stdout.splitlines()

    def texts(self, database: str = "recall") -> set[str]:
        """Texts of all stored memories."""
        return set(self.sql("select text from memories", database))

    def head(self) -> str:
        """Revision of the schema."""
        return "".join(self.sql("select version_num from alembic_version"))
