"""A stand: the example service with both colors and a proxy, isolated from everything else on the machine.

Used by the demo, the engine tests and the benchmarks. Every stand has its own names and ports, and removes only
what it created.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from examples import proxying
from examples.releases import REPO, build

REPOSITORY = Path(__file__).resolve().parents[1]
PLUGINS = (
    "-p", "cutover.plugin", "-p", "pytest_html.plugin", "-p", "pytest_metadata.plugin", "-p", "pytest_timeout",
)  # fmt: skip
GOOD = "sha-1111111"
START_S = 60.0
MIGRATE = """
[migrate]
command = ["flask", "db", "upgrade"]

[database]
sqlite = "/data/recall.db"
"""
RUN_S = 600.0
PAUSE_S = 30.0
MEMORIES = """path = "/memories"
json = { memories = [] }"""


@dataclass(frozen=True, slots=True)
class Result:
    """Exit code and output of a command."""

    code: int
    out: str

    @property
    def last(self) -> str:
        """The last 3,000 characters of the output."""
        return self.out[-3000:]


def _candidates() -> Iterator[int]:
    """Even ports in random order, without end: none that the system gives to clients, none of another test process."""
    share = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "0"))) % 4
    first = 20_000 + share * 3_000
    ports = list(range(first, first + 3_000, 2))
    random.shuffle(ports)
    return itertools.cycle(ports)


PORTS = _candidates()
"""A stand takes its ports before it listens there, so that none may be given out twice."""


def free_ports(count: int) -> list[int]:
    """*count* different free ports."""
    return list(itertools.islice(filter(_is_free, PORTS), count))


def port_before_a_free_one() -> int:
    """A free port whose next one is free too."""
    return next(port for port in PORTS if _is_free(port) and _is_free(port + 1))


def pause(container: str) -> None:
    """Pause a running container; runc gives up at once while a process starts there, as a probe of its health does."""
    deadline = time.monotonic() + PAUSE_S
    argv = ("docker", "pause", container)
    while (done := subprocess.run(argv, capture_output=True, text=True, check=False)).returncode:
        if "unable to freeze" not in done.stderr or time.monotonic() > deadline:
            raise RuntimeError(f"docker pause {container}: {done.stderr.strip()}")


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as tried:
        tried.bind(("0.0.0.0", port))  # noqa: S104  # as the engine does, and at once closed
        return True
    return False


@dataclass(slots=True)
class Stand:
    """An isolated service; all its resources have names that begin with *name*."""

    folder: Path
    name: str
    extra: str = ""
    """More TOML for cutover.toml."""
    proxied: bool = True
    driver: Literal["nginx", "traefik", "port-swap"] = "nginx"
    """With port-swap there is no proxy, and users connect to blue's port at first."""
    min_uptime: str = "2s"
    """Shorter than in production, to keep the tests fast."""
    migrate: bool = False
    """Whether releases run migrations; without them the gate requests only an endpoint that needs no table."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the env files of both colors."""
    inside: Sequence[str] = ()
    """What a session is run by, as `nsenter` with its arguments."""
    ports: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        blue, green, proxy = free_ports(3)
        self.ports = {"blue": blue, "green": green, "proxy": blue if self.driver == "port-swap" else proxy}

    # --- paths and names -----------------------------------------------------------------------------------------
    @property
    def state(self) -> Path:
        """The state directory."""
        return self.folder / "state" / self.name

    @property
    def marker(self) -> Path:
        """nginx's marker directory."""
        return self.folder / "state" / f"{self.name}-live"

    @property
    def access_log(self) -> Path:
        """The proxy's access log."""
        return self.folder / "log" / "access.jsonl"

    @property
    def config(self) -> Path:
        """The stand's cutover.toml."""
        return self.folder / "deploy" / "cutover.toml"

    @property
    def url(self) -> str:
        """URL of the proxy, where users connect."""
        return f"http://127.0.0.1:{self.ports['proxy']}"

    def env_file(self, color: str) -> Path:
        """The env file of *color*."""
        return self.folder / "deploy" / f".env.{color}"

    def project(self, color: str) -> str:
        """The Compose project of *color*."""
        return f"{self.name}_{color}"

    # --- setup and cleanup ---------------------------------------------------------------------------------------
    def make(self) -> Stand:
        """Write the files and start the proxy; no color is deployed yet."""
        deploy = self.folder / "deploy"
        deploy.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "deploy" / "docker-compose.yml", deploy / "docker-compose.yml")
        for color in ("blue", "green"):
            self._write_env(color)
        self.config.write_text(self.toml())
        if self.proxied and self.driver != "port-swap":
            self._start_proxy()
        return self

    def _write_env(self, color: str) -> None:
        values = {
            "IMAGE_REPO": REPO, "IMAGE_TAG": GOOD, "COMPOSE_PROJECT_NAME": self.project(color),
            "API_HTTP_PORT": str(self.ports[color]), "DATABASE_URL": "", "REDIS_URL": "", "VLLM_ENDPOINT": "",
            "SHARED_NETWORK": f"{self.name}_shared", "SHARED_VOLUME": f"{self.name}_data",
        } | dict(self.environment)  # fmt: skip
        path = self.env_file(color)
        path.touch(0o600)
        path.chmod(0o600)
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def toml(self) -> str:
        """Text of the stand's cutover.toml, with short durations."""
        proxy = f"""
[proxy]
driver = "{self.driver}"
url = "{self.url}"
{self._place()}
access_log = "{self.access_log}"
drain_timeout = "20s"
open_connections = 10
new_connections = 5
""" if self.proxied else ""  # fmt: skip
        return f"""\
project = "{self.name}"
shared_network = "{self.name}_shared"
reports = "{self.folder}/reports"
state_dir = "{self.state}"

[colors.blue]
env_file = ".env.blue"
project = "{self.project("blue")}"

[colors.green]
env_file = ".env.green"
project = "{self.project("green")}"

[version]
json = {{ service = "recall", version = "{{tag}}" }}

[gate]
min_uptime = "{self.min_uptime}"

[[endpoints]]
{MEMORIES if self.migrate else 'path = "/metrics"'}

[watch]
duration = "3s"
{proxy}{MIGRATE if self.migrate else ""}{self.extra}"""

    def _place(self) -> str:
        """The setting that locates the live color for the proxy driver."""
        if self.driver == "port-swap":
            return ""
        if self.driver == "nginx":
            return f'marker_dir = "{self.marker}"'
        return f'dynamic_file = "{self.folder}/traefik/cutover.yml"'

    def _start_proxy(self) -> None:
        self.access_log.parent.mkdir(exist_ok=True)
        self.access_log.parent.chmod(0o777)  # the proxy runs as another user in its container
        words = (
            proxying.nginx(self.folder / "nginx", self.marker, self.access_log, self.ports)
            if self.driver == "nginx"
            else proxying.traefik(self.folder / "traefik", self.access_log, self.ports)
        )
        self.docker("run", "--detach", "--name", f"{self.name}-proxy", *words)
        self._wait(f"{self.url}/__cutover/alive")

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # our own http://127.0.0.1
                    return
            except OSError:
                time.sleep(0.05)  # poll: a port that opens in another process raises no event here
        raise TimeoutError(f"{url} does not answer")

    def remove(self) -> None:
        """Remove the containers, networks and volumes of this stand, selected by name and label."""
        for color in ("blue", "green"):
            found = self.docker(
                "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project(color)}"
            )  # fmt: skip
            for each in found.split():
                self.docker("rm", "--force", "--volumes", each, check=False)
        for each in self.docker(
            "ps", "--all", "--quiet", "--filter", f"label=cutover.keep={self.name}"
        ).split():
            self.docker("rm", "--force", each, check=False)
        self.docker("rm", "--force", f"{self.name}-proxy", f"{self.name}-migrate", check=False)
        for color in ("blue", "green"):
            self.docker("network", "rm", f"{self.project(color)}_default", check=False)
        self.docker("network", "rm", f"{self.name}_shared", check=False)
        self.docker("volume", "rm", f"{self.name}_data", check=False)

    # --- commands ------------------------------------------------------------------------------------------------
    def docker(self, *words: str, check: bool = True) -> str:
        """Run a docker command and return its standard output; RuntimeError on failure if *check*."""
        done = subprocess.run(
            ("docker", *words), capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"docker {' '.join(words[:3])}: {done.stderr.strip()}")
        return done.stdout

    def shell(self, **more: str) -> dict[str, str]:
        """Environment variables for a session on this stand."""
        dropped = {
            "PYTEST_ADDOPTS",
            "IMAGE_TAG",
            "COMPOSE_PROFILES",
            "GITHUB_STEP_SUMMARY",
            "PYTHONDONTWRITEBYTECODE",
        }
        kept = {
            key: value
            for key, value in os.environ.items()
            if key not in dropped and not key.startswith("CUTOVER_")
        }
        return (
            kept
            | {
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "CUTOVER_CONFIG": str(self.config),
                "CUTOVER_WHO": "ana",
            }
            | more
        )

    def pytest_words(self, *arguments: str) -> tuple[str, ...]:
        """Command line of a pytest session in the checkout."""
        return (*self.inside, sys.executable, "-m", "pytest", *PLUGINS, *arguments)

    def pytest(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Result:
        """Run a pytest session to its end."""
        done = subprocess.run(
            self.pytest_words(*arguments), capture_output=True, text=True, timeout=RUN_S, check=False,
            env=self.shell(**environment), cwd=cwd or REPOSITORY, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Result(done.returncode, done.stdout + done.stderr)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a pytest session in a process group of its own."""
        return subprocess.Popen(
            self.pytest_words(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=self.shell(**environment), cwd=REPOSITORY, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def cutover(self, *arguments: str) -> Result:
        """Run a `cutover` command."""
        done = subprocess.run(
            (*self.inside, sys.executable, "-m", "cutover", *arguments), capture_output=True, text=True, timeout=RUN_S,
            check=False, env=self.shell(), cwd=REPOSITORY, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Result(done.returncode, done.stdout + done.stderr)

    def release(self, tag: str, target: str = "idle", *more: str, defect: str | None = None) -> Result:
        """Build *tag* and release it through the gate."""
        build(tag, defect)
        return self.pytest("smoke", f"--target={target}", f"--deploy={tag}", *more)

    # --- observation ---------------------------------------------------------------------------------------------
    def ask(self, path: str = "/version", *, color: str | None = None) -> dict[str, object]:
        """JSON response of the service through the proxy, or of one *color*; empty if there is none."""
        base = self.url if color is None else f"http://127.0.0.1:{self.ports[color]}"
        try:
            with urllib.request.urlopen(base + path, timeout=15) as answer:  # noqa: S310  # our own http://127.0.0.1
                found: dict[str, object] = json.load(answer)
                return found
        except (OSError, ValueError, urllib.error.HTTPError):
            return {}

    def status(self) -> dict[str, object]:
        """Output of `cutover status --json`."""
        done = self.cutover("status", "--json")
        found: dict[str, object] = json.loads(done.out.splitlines()[-1])
        return found

    def running(self, color: str) -> list[str]:
        """Image names of the running containers of *color*."""
        found = self.docker(
            "ps", "--filter", f"label=com.docker.compose.project={self.project(color)}", "--format", "{{.Image}}"
        )  # fmt: skip
        return found.split()


def latest(folder: Path) -> Path:
    """The newest report folder of a stand."""
    return (folder / "reports" / "latest").resolve()


def tags(names: Sequence[str]) -> list[str]:
    """The tags of image names."""
    return [name.rsplit(":", 1)[1] for name in names]
