"""An isolated environment on the engine for tests of the shipped Compose file, removed afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

COMPOSE_FILE = Path(__file__).parents[2] / "deploy" / "docker-compose.yml"
DEADLINE_S = 120.0
T = TypeVar("T")


@dataclass(slots=True)
class Place:
    """Network, volume and Compose projects of one test, with a unique name."""

    folder: Path
    name: str = field(default_factory=lambda: f"example-{uuid.uuid4().hex[:8]}")
    ports: dict[str, int] = field(default_factory=dict)

    def open(self) -> None:
        """Create the shared network."""
        docker("network", "create", self.network)

    def close(self) -> None:
        """Remove everything created here."""
        for color in self.ports:
            self.compose(
                color,
                "--profile",
                "*",
                "down",
                "--volumes",
                "--remove-orphans",
                "--timeout",
                "1",
                check=False,
            )
        docker("volume", "rm", "--force", f"{self.name}-data", f"{self.name}-db", check=False)
        docker("network", "rm", self.network, check=False)

    @property
    def network(self) -> str:
        """Name of the shared network."""
        return f"{self.name}-net"

    def configure(self, color: str, **values: str) -> None:
        """Write the env file of *color* with a free port."""
        self.ports.setdefault(color, free_port())
        given = {
            "COMPOSE_PROJECT_NAME": f"{self.name}_{color}",
            "API_HTTP_PORT": str(self.ports[color]),
            "SHARED_NETWORK": self.network,
            "SHARED_VOLUME": f"{self.name}-data",
            "DB_VOLUME": f"{self.name}-db",
            **{f"{part}_ALIAS": f"{self.name}-{part.lower()}" for part in ("DB", "CACHE", "AI")},
            **values,
        }
        lines = [f"{key}='{value}'\n" for key, value in given.items()]
        (self.folder / f".env.{color}").write_text("".join(lines))

    def compose(self, color: str, *words: str, check: bool = True) -> str:
        """Run Compose on the project of *color*."""
        env_file = str(self.folder / f".env.{color}")
        return docker("compose", "--file", str(COMPOSE_FILE), "--env-file", env_file, *words, check=check)

    def up(self, color: str, *services: str) -> None:
        """Start *services* and wait until they are healthy."""
        wait = ("--wait", "--wait-timeout", str(round(DEADLINE_S)))
        self.compose(color, "up", "--detach", "--no-deps", "--pull", "never", *wait, *(services or ("api",)))

    def migrate(self, color: str) -> str:
        """Migrate the schema with the image of *color*; RuntimeError with the output on failure."""
        return self.compose(color, "run", "--rm", "--no-deps", "-T", "api", "flask", "db", "upgrade")

    def container(self, color: str, service: str = "api") -> str:
        """Id of the container of *service*."""
        return self.compose(color, "ps", "--all", "--quiet", service).strip()

    def client(self, color: str) -> httpx.Client:
        """HTTP client for the port of *color*."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports[color]}", timeout=60, trust_env=False)


def docker(*words: str, check: bool = True, merge: bool = False) -> str:
    """Output of a Docker command, with *merge* including stderr; RuntimeError with the output on failure."""
    # Variables of the caller's environment would override the env file.
    mine = (
        "IMAGE_",
        "COMPOSE_",
        "API_HTTP_",
        "DATABASE_",
        "REDIS_",
        "VLLM_",
        "SHARED_",
        "POSTGRES_",
        "DB_",
        "AI_",
        "CACHE_",
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(mine)}
    done = subprocess.run(
        ("docker", *words),
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr if merge else done.stdout


def free_port() -> int:
    """A free port on the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def eventually(ask: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """The first true result of *ask*; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s:g} s"
        time.sleep(0.1)
    return answer
