"""What the Docker engine says of containers and images; every call is bounded, containers are found by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutover import host

if TYPE_CHECKING:
    from docker import DockerClient

DEADLINE_S = 10  # an engine that accepts and never answers would hang every call for ever
ZERO_TIME = "0001-01-01T00:00:00Z"
GRACE_S = 10.0  # the engine's, where nothing else is said


class EngineSilent(Exception):
    """The engine did not answer; what it would have said is unknown."""


@cache
def client(deadline_s: int = DEADLINE_S) -> DockerClient:
    """The docker SDK client of this process; raises EngineSilent when no engine answers."""
    import docker  # 150 ms of imports that `cutover status --help` does not need
    from docker.errors import DockerException

    try:
        return docker.from_env(timeout=deadline_s, environment=host.clean_environment())
    except DockerException as error:
        place = host.engine_place() or "unix:///var/run/docker.sock"
        raise EngineSilent(f"the Docker engine at {place} does not answer: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """The operating system's own word below what the SDK wraps around it; else the whole."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror.lower()
        below = below.__cause__ or below.__context__
    return str(error)


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine describes it (`docker inspect`), reduced to what we may show."""

    id: str
    name: str
    image: str
    """The image ID, `sha256:…`."""
    image_name: str
    """As the Compose file spells it: `repo:tag`."""
    status: str
    started_at: str
    finished_at: str
    exit_code: int
    error: str
    restart_count: int
    oom_killed: bool
    config_hash: str
    health: Mapping[str, Any] | None
    """`State.Health` (Status, FailingStreak, Log), None where there is no HEALTHCHECK."""
    healthcheck: Mapping[str, Any]
    """`Config.Healthcheck`, durations in nanoseconds; `Test` is `["NONE"]` when it was switched off."""
    ports: Mapping[str, Any]
    """`NetworkSettings.Ports`: empty when the container does not run."""
    memory_limit: int
    nano_cpus: int
    user: str
    stop_timeout: int | None
    labels: Mapping[str, str]

    @property
    def short(self) -> str:
        """The first twelve characters of the id, which are its host name too."""
        return self.id[:12]

    @property
    def running(self) -> bool:
        """Whether it runs and is neither paused nor restarting; `State.Running` is true for a crash loop too."""
        return self.status == "running"

    @property
    def service(self) -> str:
        """The Compose service that it is a container of."""
        return self.labels.get("com.docker.compose.service", "")

    @property
    def number(self) -> int:
        """Which of the replicas of its service it is, from 1."""
        return int(self.labels.get("com.docker.compose.container-number") or 1)

    @property
    def in_use(self) -> bool:
        """Whether it runs, or is paused or being restarted: what a release would take away from somebody."""
        return self.status in {"running", "restarting", "paused"}

    @property
    def well(self) -> bool:
        """Whether it runs and its HEALTHCHECK, if it has one, says so."""
        return self.running and self.health_status in {"healthy", "none"}

    @property
    def grace_s(self) -> float:
        """How long it may take to stop, by its own `stop_grace_period`."""
        return float(GRACE_S if self.stop_timeout is None else self.stop_timeout)

    @property
    def health_status(self) -> str:
        """`healthy`, `starting`, `unhealthy`, or `none`."""
        return str(self.health["Status"]) if self.health else "none"

    @property
    def published(self) -> frozenset[int]:
        """The host's ports that lead to it now."""
        return frozenset(int(row["HostPort"]) for rows in self.ports.values() for row in rows or ())


def read_container(attributes: Mapping[str, Any]) -> Container:
    """The container of one `docker inspect` answer."""
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
        health=state.get("Health"),
        healthcheck=config.get("Healthcheck") or {},
        ports=(attributes.get("NetworkSettings") or {}).get("Ports") or {},
        memory_limit=limits.get("Memory") or 0,
        nano_cpus=_nano_cpus(limits),
        user=config.get("User", ""),
        stop_timeout=config.get("StopTimeout"),
        labels=labels,
    )


def _nano_cpus(limits: Mapping[str, Any]) -> int:
    """The container's own CPU limit in billionths of a core; 0: none."""
    if limits.get("NanoCpus"):
        return int(limits["NanoCpus"])
    if limits.get("CpuQuota", 0) > 0 and limits.get("CpuPeriod", 0) > 0:
        return int(limits["CpuQuota"] / limits["CpuPeriod"] * 1e9)
    return 0


def containers(project: str, service: str | None = None, *, every: bool = True) -> list[Container]:
    """The containers of a Compose project (of one service), one-off ones left out; raises EngineSilent."""
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False"]
    if service:
        labels.append(f"com.docker.compose.service={service}")
    return [read_container(attributes) for attributes in _inspect_all(labels, every=every)]


def _inspect_all(labels: list[str], *, every: bool) -> list[dict[str, Any]]:
    from docker.errors import DockerException, NotFound
    from requests.exceptions import RequestException

    api = client().api
    found = []
    try:
        for row in api.containers(all=every, filters={"label": labels}):
            try:
                found.append(api.inspect_container(row["Id"]))
            except NotFound:
                continue  # it went away between the two questions
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error
    return found


def the_container(project: str, service: str, number: int | None = None) -> Container | None:
    """The container that serves: the running one if there are several, the newest else, None if there is none.

    With *number* only that replica counts.
    """
    found = [each for each in replicas(project, service) if number in (None, each.number)]
    return found[0] if found else None


def replicas(project: str, service: str) -> list[Container]:
    """The container that serves, then those of the other replicas by their number; raises EngineSilent."""
    return _in_order(containers(project, service))


def numbers(project: str) -> dict[str, list[int]]:
    """Service -> the numbers of its replicas in the order of `replicas`, asked at once; raises EngineSilent."""
    found: dict[str, list[Container]] = {}
    for each in containers(project):
        found.setdefault(each.service, []).append(each)
    return {service: [each.number for each in _in_order(there)] for service, there in found.items()}


def _in_order(found: Sequence[Container]) -> list[Container]:
    """The one that serves, then one for each other number; beside a running one none that ended counts."""
    best = sorted(found, key=lambda each: (each.running, each.started_at), reverse=True)
    further = {each.number: each for each in reversed(best) if each.number != best[0].number}
    return [*best[:1], *(further[each] for each in sorted(further))]


def by_service(project: str, services: Sequence[str]) -> dict[str, Container | None]:
    """Service -> the container that serves; raises EngineSilent."""
    return {each: the_container(project, each) for each in services}


def inspect(container_id: str) -> Container | None:
    """The container of that id, None if it is gone; raises EngineSilent."""
    from docker.errors import DockerException, NotFound
    from requests.exceptions import RequestException

    try:
        return read_container(client().api.inspect_container(container_id))
    except NotFound:
        return None
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error


def inspect_image(reference: str) -> dict[str, Any]:
    """`docker image inspect`; raises the SDK's errors."""
    found: dict[str, Any] = client().api.inspect_image(reference)  # type: ignore[no-untyped-call]
    return found


def image_id(reference: str) -> str | None:
    """The ID of a local image, None if it is not here; raises EngineSilent."""
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    try:
        return str(inspect_image(reference)["Id"])
    except ImageNotFound:
        return None
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error


@cache
def data_root() -> Path:
    """The folder in which the engine keeps images and containers; raises EngineSilent."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        return Path(client().api.info()["DockerRootDir"])
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error


def daemon_time() -> str:
    """The engine's own clock (RFC 3339): log windows are cut by it, never by ours."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        return str(client().api.info()["SystemTime"])
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error


def logs(
    container_id: str, *, since: float | None = None, until: float | None = None, tail: int | None = 5000
) -> list[str]:
    """The last log lines of a container (*tail* None: all), stamped; *since* and *until* are engine seconds, floats."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        raw = client().api.logs(
            container_id,
            stdout=True,
            stderr=True,
            timestamps=True,
            tail=tail or "all",
            since=since,
            until=until,
        )
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the log of {container_id[:12]} cannot be read: {error}") from error
    return bytes(raw).decode(errors="replace").splitlines()


def published_by(port: int) -> list[Container]:
    """The running containers that publish *port*, whoever started them; raises EngineSilent."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    api = client().api
    try:
        rows = api.containers(filters={"publish": str(port)})
        return [read_container(api.inspect_container(row["Id"])) for row in rows]
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error
