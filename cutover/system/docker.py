"""The Docker engine by its API: containers by label, images, logs. Every call has a deadline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutover.core.errors import EngineUnavailable
from cutover.system.container import Container, read_container
from cutover.system.process import clean_environment, docker_host

if TYPE_CHECKING:
    from docker import DockerClient

# For each read: an engine that accepts a connection and never answers would block for ever.
API_DEADLINE_S = 10


@contextmanager
def engine_errors(what: str = "the Docker engine does not answer") -> Iterator[None]:
    """Raise EngineUnavailable with *what* in place of the errors of the SDK and of its HTTP client."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        raise EngineUnavailable(f"{what}: {error}") from error


def new_client(deadline_s: int = API_DEADLINE_S) -> DockerClient:
    """Return a new SDK client; raises EngineUnavailable if the engine does not answer."""
    import docker  # imported here because it takes 150 ms
    from docker.errors import DockerException

    try:
        return docker.from_env(timeout=deadline_s, environment=clean_environment())
    except DockerException as error:
        address = docker_host() or "unix:///var/run/docker.sock"
        raise EngineUnavailable(f"the Docker engine at {address} does not answer: {_cause(error)}") from error


@cache
def client() -> DockerClient:
    """Return the shared SDK client of this process; raises EngineUnavailable."""
    return new_client()


def _cause(error: BaseException) -> str:
    # The message of the operating system is below the exceptions of the SDK.
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror.lower()
        below = below.__cause__ or below.__context__
    return str(error)


def containers(project: str, service: str | None = None) -> list[Container]:
    """Return the containers of a Compose project (or of its *service*), without one-off ones.

    Raises EngineUnavailable.
    """
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False"]
    if service:
        labels.append(f"com.docker.compose.service={service}")
    return _listed(all=True, filters={"label": labels})


def published_by(port: int) -> list[Container]:
    """Return the running containers of any project that publish *port*; raises EngineUnavailable."""
    return _listed(filters={"publish": str(port)})


def _listed(**query: Any) -> list[Container]:
    with engine_errors():
        rows = client().api.containers(**query)
    # A container may have been removed since it was listed.
    return [found for row in rows if (found := inspect(row["Id"]))]


def the_container(project: str, service: str, number: int | None = None) -> Container | None:
    """Return the serving container: the running one, else the newest; None if there is none.

    With *number* only that replica counts. Raises EngineUnavailable.
    """
    found = [each for each in replicas(project, service) if number in (None, each.number)]
    return found[0] if found else None


def replicas(project: str, service: str) -> list[Container]:
    """Return the serving container, then the other replicas by number; raises EngineUnavailable."""
    return _one_per_number(containers(project, service))


def numbers(project: str) -> dict[str, list[int]]:
    """Return service → replica numbers, in the order of `replicas`; raises EngineUnavailable."""
    found: dict[str, list[Container]] = {}
    for each in containers(project):
        found.setdefault(each.service, []).append(each)
    return {service: [each.number for each in _one_per_number(there)] for service, there in found.items()}


def _one_per_number(found: Sequence[Container]) -> list[Container]:
    # An ended container may still have the number of a running one: the running one counts.
    best = sorted(found, key=lambda each: (each.running, each.started_at), reverse=True)
    further = {each.number: each for each in reversed(best) if each.number != best[0].number}
    return [*best[:1], *(further[each] for each in sorted(further))]


def by_service(project: str, services: Sequence[str]) -> dict[str, Container | None]:
    """Return service → its serving container; raises EngineUnavailable."""
    return {each: the_container(project, each) for each in services}


def inspect(container_id: str) -> Container | None:
    """Return the container with that id, None if it was removed; raises EngineUnavailable."""
    from docker.errors import NotFound

    with engine_errors():
        try:
            return read_container(client().api.inspect_container(container_id))
        except NotFound:
            return None


def inspect_image(reference: str) -> dict[str, Any] | None:
    """Return `docker image inspect`, None if the image is not on this host; raises EngineUnavailable."""
    from docker.errors import ImageNotFound

    with engine_errors():
        try:
            found: dict[str, Any] = client().api.inspect_image(reference)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None
    return found


def image_id(reference: str) -> str | None:
    """Return the ID of a local image, None if it is not on this host; raises EngineUnavailable."""
    found = inspect_image(reference)
    return str(found["Id"]) if found else None


@cache
def data_root() -> Path:
    """Return the folder in which the engine stores images and containers; raises EngineUnavailable."""
    with engine_errors():
        return Path(client().api.info()["DockerRootDir"])


def daemon_time() -> str:
    """Return the clock of the engine (RFC 3339), by which log windows are cut; raises EngineUnavailable."""
    with engine_errors():
        return str(client().api.info()["SystemTime"])


def logs(
    container_id: str, *, since: float | None = None, until: float | None = None, tail: int | None = 5000
) -> list[str]:
    """Return the last *tail* log lines (None: all) with time stamps; raises EngineUnavailable.

    *since* and *until* are seconds since 1970 by the clock of the engine, as floats: the SDK truncates datetimes.
    """
    with engine_errors(f"the log of {container_id[:12]} cannot be read"):
        raw = client().api.logs(container_id, timestamps=True, tail=tail or "all", since=since, until=until)
    return bytes(raw).decode(errors="replace").splitlines()
