"""Secrets of the end-to-end run, and access to its database."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from tests.helpers.ssh_server import Server


def digits(count: int) -> str:
    """A secret of *count* digits."""
    return "".join(secrets.choice("123456789") for _ in range(count))


@dataclass(frozen=True, slots=True)
class Parts:
    """The shared services, whose passwords are canaries; that of the cache is a number."""

    password: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    number: str = field(default_factory=lambda: digits(16))

    @property
    def by_hand(self) -> str:
        """Shell lines that set the password of the cache, also in the env files of the colors."""
        return f"""
docker exec --interactive recall_shared-cache-1 redis-cli <<'END'
config set requirepass {self.number}
END
sed -i 's,^REDIS_URL=.*,REDIS_URL=redis://:{self.number}@recall-cache:6379/0,' deploy/.env.blue deploy/.env.green
"""

    def sql(self, web: Server, text: str, database: str = "recall") -> list[str]:
        """Rows that psql prints for *text*, run in the database container."""
        psql = f"psql -h 127.0.0.1 -U recall -d {database} -qAtX -v ON_ERROR_STOP=1"
        run = f"docker exec --interactive --env PGPASSWORD recall_shared-db-1 {psql}"
        return web.run(f"export PGPASSWORD='{self.password}'\n{run} <<'END'\n{text};\nEND\n").splitlines()

    def texts(self, web: Server, database: str = "recall") -> set[str]:
        """Texts of all stored memories."""
        return set(self.sql(web, "select text from memories", database))

    def head(self, web: Server) -> str:
        """Revision of the schema."""
        return "".join(self.sql(web, "select version_num from alembic_version"))
