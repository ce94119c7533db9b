"""What the Docker engine says of containers and images; every call is bounded, containers are found by label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutover import host
from cutover.container import Container, read_container

if TYPE_CHECKING:
    from docker import DockerClient

DEADLINE_S = 10  # an engine that accepts and never answers would hang every call for ever


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
