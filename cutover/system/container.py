"""Container: the part of one `docker inspect` that the checks need, as a value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALWAYS_TRUE = re.compile(
    r"^\s*(?:true|:|exit\s+0|echo\b[^|;&]*|\S+\s+(?:--?version|-v|-V|--?help))\s*$|(?:\|\||;)\s*(?:true|:|exit\s+0)\s*$"
)
LOCALHOST = re.compile(r"(?<![\w.-])localhost(?![\w.-])", re.IGNORECASE)
ZERO_TIME = "0001-01-01T00:00:00Z"
GRACE_S = 10.0  # default of the engine
HEALTHCHECK_RETRIES = 3  # default of the engine


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine of this process, or that of another node of its Swarm."""

    node: str = ""
    """The host name of the other node; empty for the engine of this process."""
    address: str = ""
    """`unix:///…`; empty for what the docker CLI uses here."""

    def __str__(self) -> str:
        return f"the Docker engine of {self.node}" if self.node else "the Docker engine"


HERE = Engine()
"""The engine of this process."""
LOST = "lost"
"""Status of a container whose node is down, while the task in its place does not run or cannot be asked."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container, reduced to what may be shown in a report."""

    id: str
    name: str
    image: str
    """Image ID, `sha256:…`."""
    image_name: str
    """`repo:tag`, as in the Compose file."""
    status: str
    started_at: str
    finished_at: str
    exit_code: int
    error: str
    restart_count: int
    oom_killed: bool
    config_hash: str
    health: Mapping[str, Any] | None
    """`State.Health` (Status, FailingStreak, Log); None without a HEALTHCHECK."""
    healthcheck: Mapping[str, Any]
    """`Config.Healthcheck`, durations in nanoseconds; `Test` is `["NONE"]` if it is disabled."""
    ports: Mapping[str, Any]
    """`NetworkSettings.Ports`; empty if the container does not run."""
    memory_limit: int
    nano_cpus: int
    """The CPU limit in billionths of a core; 0 for none."""
    user: str
    stop_timeout: int | None
    labels: Mapping[str, str]
    engine: Engine = HERE
    """Where it is asked."""
    moved: str = ""
    """What happened to the node of its task, and where the task runs now; empty if nothing happened."""

    @property
    def short(self) -> str:
        """The first twelve characters of the id, which are also its host name."""
        return self.id[:12]

    @property
    def running(self) -> bool:
        """Whether the status is `running`; `State.Running` is true for a crash loop too."""
        return self.status == "running"

    @property
    def service(self) -> str:
        """The Compose service of the container."""
        return self.labels.get("com.docker.compose.service", "")

    @property
    def config_files(self) -> str:
        """The paths of the Compose files from which the container was created, with commas in between."""
        return self.labels.get("com.docker.compose.project.config_files", "")

    @property
    def number(self) -> int:
        """The replica number, from 1; of a task of a Swarm its slot."""
        task = self.labels.get("com.docker.swarm.task.name", "").split(".")
        slot = task[1] if len(task) > 1 and task[1].isdecimal() else ""
        return int(self.labels.get("com.docker.compose.container-number") or slot or 1)

    @property
    def in_use(self) -> bool:
        """Whether it is running, paused or restarting."""
        return self.status in {"running", "restarting", "paused"}

    @property
    def well(self) -> bool:
        """Whether it is running, and healthy if it has a HEALTHCHECK."""
        return self.running and self.health_status in {"healthy", "none"}

    @property
    def health_command(self) -> str:
        """The command of its HEALTHCHECK; empty if it has none."""
        return health_command(self.healthcheck.get("Test") or ())

    @property
    def asks_health(self) -> bool:
        """Whether its HEALTHCHECK asks something: one like `nginx --version` proves nothing."""
        said = self.health_command
        return not proves_nothing(said) if said else bool(self.health)

    @property
    def grace_s(self) -> float:
        """Seconds that it may take to stop: its `stop_grace_period`."""
        return float(GRACE_S if self.stop_timeout is None else self.stop_timeout)

    @property
    def health_status(self) -> str:
        """`healthy`, `starting`, `unhealthy`, or `none` without a HEALTHCHECK."""
        return str(self.health["Status"]) if self.health else "none"

    @property
    def state_since(self) -> str:
        """When it came into its state: its start, its end, or the probe that made it unhealthy.

        An engine keeps the last probes only: of one that is unhealthy for longer it is the first of these.
        """
        if not self.in_use and self.finished_at != ZERO_TIME:
            return self.finished_at
        probes = (self.health or {}).get("Log") or []
        if self.health_status != "unhealthy" or not probes:
            return self.started_at
        retries = self.healthcheck.get("Retries") or HEALTHCHECK_RETRIES
        earlier = int((self.health or {}).get("FailingStreak", 0)) - retries
        return str(probes[max(0, len(probes) - 1 - max(0, earlier))].get("End", self.started_at))

    @property
    def published(self) -> frozenset[int]:
        """The published host ports."""
        return frozenset(int(row["HostPort"]) for rows in self.ports.values() for row in rows or ())


def health_command(test: Sequence[str]) -> str:
    """The command of a HEALTHCHECK (`["CMD", …]`, `["CMD-SHELL", TEXT]`); empty without one, or for `["NONE"]`."""
    kind, *words = test or ("NONE",)
    if kind == "NONE":
        return ""
    if kind == "CMD" and len(words) == 3 and words[1] in {"-c", "-ec"}:  # noqa: PLR2004  sh -c TEXT
        return words[2]
    return shlex.join(words) if kind == "CMD" else " ".join(words)


def proves_nothing(command: str) -> bool:
    """Whether the command of a HEALTHCHECK succeeds whatever the service does."""
    return ALWAYS_TRUE.search(command) is not None


def read_container(attributes: Mapping[str, Any], engine: Engine = HERE) -> Container:
    """Return the container of one `docker inspect` response of *engine*."""
    state, config, limits = attributes["State"], attributes["Config"], attributes["HostConfig"]
    labels = config.get("Labels") or {}
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        image=attributes["Image"],
        image_name=config.get("Image", ""),
        status=state.get("Status", ""),
        started_at=state.get("StartedAt", ZERO_TIME),
        finished_at=state.get("FinishedAt", ZERO_TIME),
        exit_code=state.get("ExitCode", 0),
        error=state.get("Error", ""),
        restart_count=attributes.get("RestartCount", 0),
        oom_killed=state.get("OOMKilled", False),
        config_hash=labels.get("com.docker.compose.config-hash", ""),
        health=_health(state),
        healthcheck=config.get("Healthcheck") or {},
        ports=(attributes.get("NetworkSettings") or {}).get("Ports") or {},
        memory_limit=limits.get("Memory") or 0,
        nano_cpus=_nano_cpus(limits),
        user=config.get("User", ""),
        stop_timeout=config.get("StopTimeout"),
        labels=labels,
        engine=engine,
    )


def _health(state: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`State.Health`; None without a HEALTHCHECK, for which Podman's engine has one without a status."""
    found: Mapping[str, Any] = state.get("Health") or {}
    return found if found.get("Status") not in {None, "", "none"} else None


def _nano_cpus(limits: Mapping[str, Any]) -> int:
    if limits.get("NanoCpus"):
        return int(limits["NanoCpus"])
    if limits.get("CpuQuota", 0) > 0 and limits.get("CpuPeriod", 0) > 0:
        return int(limits["CpuQuota"] / limits["CpuPeriod"] * 1e9)
    return 0
