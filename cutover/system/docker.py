"""The Docker engine by its API: containers by label, images, logs. Every call has a deadline.

What takes an engine asks that of this process unless another one is given.
"""

from __future__ import annotations

import atexit
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import h11

from cutover.core.errors import EngineUnavailable
from cutover.core.text import exact
from cutover.core.verdict import shortened
from cutover.system.container import HERE, Container, Engine, read_container
from cutover.system.http import HttpClient
from cutover.system.process import DEFAULT_HOST, clean_environment, docker_host

if TYPE_CHECKING:
    from docker import DockerClient

API_DEADLINE_S = 10  # an engine that accepts a connection and never answers would block for ever
LOG_DEADLINE_S = 30
PING_DEADLINE_S = 1.0
READ_BYTES = 65_536
MOST_LINE_BYTES, MOST_LOG_LETTERS, MOST_HEAD_LINES = 16_384, 16_000_000, 20_000
NO_READING = "does not support reading"
"""How the engine says that the logging driver of a container keeps no log that it could read."""
FRAME_HEAD_BYTES = 8  # stream, three zeros, four bytes of length


@contextmanager
def engine_errors(what: str = "the Docker engine does not answer") -> Iterator[None]:
    """Raise EngineUnavailable with *what* in place of the errors of the SDK and of its HTTP client."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        raise EngineUnavailable(f"{what}: {error}") from error


def new_client(deadline_s: int = API_DEADLINE_S, engine: Engine = HERE) -> DockerClient:
    """Return a new SDK client; raises EngineUnavailable if the engine does not answer."""
    import docker  # imported here because it takes 150 ms
    from docker.errors import DockerException

    environment = clean_environment({"DOCKER_HOST": engine.address} if engine.address else None)
    try:
        return docker.from_env(timeout=deadline_s, environment=environment)
    except DockerException as error:
        raise EngineUnavailable(f"{_name(engine)} does not answer: {_cause(error)}") from error


def _name(engine: Engine) -> str:
    return str(engine) if engine.node else f"{engine} at {docker_host() or DEFAULT_HOST}"


@cache
def client(engine: Engine = HERE) -> DockerClient:
    """Return the SDK client for *engine* that this process shares; raises EngineUnavailable."""
    found = new_client(engine=engine)
    atexit.register(found.close)
    return found


def _cause(error: BaseException) -> str:
    """The message of the operating system below the exceptions of the SDK, else the text of *error*."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror.lower()
        below = below.__cause__ or below.__context__
    return str(error)


class _NotFound(EngineUnavailable):
    pass


def _get_json(path: str, query: Mapping[str, Any] | None = None, engine: Engine = HERE) -> Any:
    body = b"".join(_stream(path, query or {}, API_DEADLINE_S, engine))
    try:
        return json.loads(body)
    except ValueError as error:
        said = shortened(body.decode(errors="replace"), 60) or "nothing"
        raise EngineUnavailable(f"{engine} answers GET {path} with no JSON: {said}") from error


def _found(path: str, engine: Engine = HERE) -> dict[str, Any] | None:
    """What the engine says of one thing, None if it has none of that name; raises EngineUnavailable."""
    try:
        found: dict[str, Any] = _get_json(path, engine=engine)
    except _NotFound:
        return None
    return found


def _stream(
    path: str, query: Mapping[str, Any], deadline_s: float, engine: Engine
) -> Generator[bytes, None, None]:
    """Body of a GET request as it arrives; raises EngineUnavailable, _NotFound for a path that is not there."""
    address = engine.address or docker_host() or DEFAULT_HOST
    # Without the SDK where that is possible: its import takes longer than all requests of a gate.
    if address.startswith("unix://"):
        answer = _stream_socket(engine, address, f"{path}?{urlencode(query)}", deadline_s)
    else:
        answer = _stream_sdk(path, query, deadline_s)
    with closing(answer):
        refused = b""
        status = HTTPStatus.OK.value
        for status, data in answer:
            if status < HTTPStatus.BAD_REQUEST:
                yield data
            else:
                refused += data
    if status >= HTTPStatus.BAD_REQUEST:
        error = _NotFound if status == HTTPStatus.NOT_FOUND else EngineUnavailable
        raise error(f"{engine} answers {status}: {refused.decode(errors='replace').strip()}")


def _stream_sdk(
    path: str, query: Mapping[str, Any], deadline_s: float
) -> Generator[tuple[int, bytes], None, None]:
    with engine_errors():
        api = client().api
        found = api.get(f"{api.base_url}{path}", params=query, timeout=deadline_s, stream=True)
        with closing(found) as response:
            yield response.status_code, b""
            for data in response.iter_content(READ_BYTES):
                yield response.status_code, data


def _stream_socket(
    engine: Engine, address: str, target: str, deadline_s: float
) -> Generator[tuple[int, bytes], None, None]:
    status = 0
    try:
        with closing(_socket_client(address).exchange("GET", target, {}, b"", deadline_s)) as events:
            for event in events:
                if isinstance(event, h11.Response):
                    status = event.status_code
                    yield status, b""
                elif isinstance(event, h11.Data):
                    yield status, bytes(event.data)
    except OSError as error:
        why = _cause(error) or "timed out"
        raise EngineUnavailable(f"{_name(engine)} does not answer: {why}") from error


@cache
def _socket_client(address: str) -> HttpClient:
    found = HttpClient(address, API_DEADLINE_S)
    atexit.register(found.close)
    return found


def answers(engine: Engine = HERE) -> bool:
    """Whether the engine answers within a second."""
    try:
        b"".join(_stream("/_ping", {}, PING_DEADLINE_S, engine))
    except EngineUnavailable:
        return False
    return True


def _listed(
    filters: Mapping[str, Sequence[str]], *, every: bool, port: int = 0, engine: Engine = HERE
) -> list[Container]:
    rows = _get_json("/containers/json", {"all": int(every), "filters": json.dumps(filters)}, engine)
    found = (inspect(row["Id"], engine) for row in rows if not port or port in published_in(row))
    return [each for each in found if each is not None]  # one may be removed since it was listed


def containers(project: str, service: str | None = None, engine: Engine = HERE) -> list[Container]:
    """Return the containers of a Compose project (or of its *service*), without one-off ones.

    Raises EngineUnavailable.
    """
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False"]
    if service:
        labels.append(f"com.docker.compose.service={service}")
    return _listed({"label": labels}, every=True, engine=engine)


def the_container(
    project: str, service: str, number: int | None = None, engine: Engine = HERE
) -> Container | None:
    """Return the serving container: the running one, else the newest; None if there is none.

    With *number* only that replica counts. Raises EngineUnavailable.
    """
    found = [each for each in replicas(project, service, engine) if number in (None, each.number)]
    return found[0] if found else None


def replicas(project: str, service: str, engine: Engine = HERE) -> list[Container]:
    """Return the serving container, then the other replicas by number; raises EngineUnavailable."""
    return _one_per_number(containers(project, service, engine))


def numbers(project: str, engine: Engine = HERE) -> dict[str, list[int]]:
    """Return service → replica numbers, in the order of `replicas`; raises EngineUnavailable."""
    found: dict[str, list[Container]] = {}
    for each in containers(project, engine=engine):
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


def inspect(container_id: str, engine: Engine = HERE) -> Container | None:
    """Return the container with that id, None if it was removed; raises EngineUnavailable."""
    found = _found(f"/containers/{container_id}/json", engine)
    return read_container(found, engine) if found is not None else None


def attributes(container_id: str, engine: Engine = HERE) -> dict[str, Any]:
    """Return `docker inspect` of a container, which must be there; raises EngineUnavailable."""
    found: dict[str, Any] = _get_json(f"/containers/{container_id}/json", engine=engine)
    return found


def inspect_image(reference: str) -> dict[str, Any] | None:
    """Return `docker image inspect`, None if the image is not on this host; raises EngineUnavailable."""
    return _found(f"/images/{quote(reference, safe='/:@')}/json")


def image_id(reference: str) -> str | None:
    """Return the ID of a local image, None if it is not on this host; raises EngineUnavailable."""
    found = inspect_image(reference)
    return str(found["Id"]) if found else None


def image_names(repository: str) -> list[str]:
    """Return `repo:tag` of each local image of *repository*, the newest image first; raises EngineUnavailable."""
    rows = _get_json("/images/json", {"filters": json.dumps({"reference": [repository]})})
    newest = sorted(rows, key=lambda row: row.get("Created", 0), reverse=True)
    return [name for row in newest for name in row.get("RepoTags") or () if not name.endswith(":<none>")]


@cache
def data_root() -> Path:
    """Return the folder in which the engine stores images and containers; raises EngineUnavailable."""
    return Path(_get_json("/info")["DockerRootDir"])


def daemon_time(engine: Engine = HERE) -> str:
    """Return the clock of the engine (RFC 3339), by which log windows are cut; raises EngineUnavailable."""
    return str(_get_json("/info", engine=engine)["SystemTime"])


def logs(
    container_id: str,
    *,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = 5000,
    engine: Engine = HERE,
) -> list[str]:
    """Return the last *tail* log lines with time stamps (None: the first 20,000); raises EngineUnavailable.

    At most 16 MB of them, each cut at 16 KiB. *since* and *until* are seconds since 1970 by the clock of the engine.
    """
    given: dict[str, object] = {"stdout": 1, "stderr": 1, "timestamps": 1, "tail": tail or "all"}
    # The engine reads neither an exponent nor a time before 1970, which a container that never started has.
    times = {"since": since, "until": until}
    given |= {key: exact(max(0.0, at)) for key, at in times.items() if at is not None}
    driver = ""
    try:
        found = attributes(container_id, engine)
        tty = found["Config"]["Tty"]
        driver = ((found.get("HostConfig") or {}).get("LogConfig") or {}).get("Type", "")
        with closing(_stream(f"/containers/{container_id}/logs", given, LOG_DEADLINE_S, engine)) as raw:
            lines = _lines(raw if tty else _frames(raw))
            return _first(lines) if tail is None else _last(lines)
    except EngineUnavailable as error:
        why = f"the logging driver {driver} {NO_READING}" if NO_READING in str(error) else error
        raise EngineUnavailable(f"the log of {container_id[:12]} cannot be read: {why}") from error


def _frames(raw: Iterable[bytes]) -> Iterator[bytes]:
    """The payloads of a log in which stdout and stderr are multiplexed."""
    waiting = bytearray()
    for data in raw:
        waiting += data
        at = 0
        while len(waiting) >= at + FRAME_HEAD_BYTES:
            begin = at + FRAME_HEAD_BYTES
            end = begin + int.from_bytes(waiting[begin - 4 : begin], "big")
            if len(waiting) < end:
                break
            yield bytes(waiting[begin:end])
            at = end
        del waiting[:at]
    yield bytes(waiting[FRAME_HEAD_BYTES:])


def _lines(raw: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for data in raw:
        *whole, rest = (rest + data).split(b"\n")
        for each in whole:
            yield from _decoded(each[:MOST_LINE_BYTES].splitlines() or [b""])
        rest = rest[:MOST_LINE_BYTES]
    yield from _decoded(rest.splitlines())


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    # Split as bytes: as text a line of JSON would also be split at U+2028 and its like.
    return (line.decode(errors="replace") for line in lines)


def _first(lines: Iterable[str]) -> list[str]:
    found, size = [], 0
    for line in lines:
        found.append(line)
        size += len(line)
        if len(found) >= MOST_HEAD_LINES or size >= MOST_LOG_LETTERS:
            break
    return found


def _last(lines: Iterable[str]) -> list[str]:
    found: deque[str] = deque()
    size = 0
    for line in lines:
        found.append(line)
        size += len(line)
        while size > MOST_LOG_LETTERS:
            size -= len(found.popleft())
    return list(found)


def is_cut(lines: Sequence[str], most: int) -> bool:
    """Whether `logs` may have left something out: there are *most* lines, or as much text as it returns."""
    return len(lines) >= most or sum(map(len, lines)) >= MOST_LOG_LETTERS - MOST_LINE_BYTES


def joined(network: str) -> list[Container]:
    """Return the running containers of any project on *network*; raises EngineUnavailable."""
    return _listed({"network": [network]}, every=False)


def network(name: str) -> dict[str, Any] | None:
    """Return `docker network inspect`, None if there is none of that name; raises EngineUnavailable."""
    return _found(f"/networks/{quote(name)}")


def top(container_id: str) -> list[dict[str, str]]:
    """Return the processes of a container as the `ps` of the engine's host lists them; raises EngineUnavailable.

    This needs no program in the image.
    """
    found = _get_json(f"/containers/{container_id}/top", {"ps_args": "-eo pid,ppid,uid,comm"})
    return [dict(zip(found["Titles"], row, strict=False)) for row in found["Processes"]]


def published_by(port: int) -> list[Container]:
    """Return the running containers of any project that publish *port*; raises EngineUnavailable."""
    # Not by the filter `publish`, which Podman's engine refuses.
    return _listed({}, every=False, port=port)


def published_in(row: Mapping[str, Any]) -> set[int]:
    """The TCP ports of the host that a container publishes, by its *row* in the engine's list."""
    return {
        int(each["PublicPort"])
        for each in row.get("Ports") or ()
        if each.get("PublicPort") and each.get("Type", "tcp") == "tcp"
    }


# --- Swarm -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node of the Swarm."""

    id: str
    name: str
    """Its host name."""
    state: str
    """`ready`, `down`, `disconnected` or `unknown`."""
    availability: str
    """`active`, `pause` or `drain`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a placement constraint may ask: `node.role`, `node.platform.arch`, `node.labels.…` → its value."""


@dataclass(frozen=True, slots=True)
class SwarmTask:
    """A task of a service."""

    state: str
    """`running`, which a task with a HEALTHCHECK is only once it is healthy, `starting`, `pending`, `failed`, …"""
    image: str
    config_hash: str
    """As in the labels of its container."""
    node: str
    """The host name of its node; empty as long as it has none."""
    why: str
    """What the engine says of its state, after a colon; empty if nothing."""
    desired: str = "running"
    """`running`, or `shutdown` for a task that was replaced or whose node is down."""
    slot: int = 0
    """Its number, which a task keeps that takes its place; 0 with `mode: global`."""
    container: str = ""
    """The id of its container; empty as long as it has none."""
    created: str = ""


@dataclass(frozen=True, slots=True)
class SwarmService:
    """A service of a Swarm with the tasks that should run."""

    image: str
    desired: int
    tasks: tuple[SwarmTask, ...]
    update: str
    """The state of its last update, as `completed` or `rollback_completed`; empty if it had none."""
    update_began: str
    update_said: str
    is_global: bool = False
    """One task a node, and no number of tasks."""


def swarm_service(name: str) -> SwarmService | None:
    """Return a service of the Swarm, None if there is none of that name; raises EngineUnavailable."""
    rows = _get_json("/services", {"filters": json.dumps({"name": [name]}), "status": "true"})
    service = next((each for each in rows if each["Spec"]["Name"] == name), None)  # the filter is a prefix
    if service is None:
        return None
    wanted = {"service": [name], "desired-state": ["running"]}
    tasks = _get_json("/tasks", {"filters": json.dumps(wanted)})
    return read_service(service, tasks, {each.id: each.name for each in swarm_nodes()})


def swarm_names(network_name: str) -> set[str]:
    """Return the names that running services of the Swarm have on a network; raises EngineUnavailable."""
    targets = {network_name, (network(network_name) or {}).get("Id", "")}
    return {
        name
        for row in _get_json("/services", {"status": "true"})
        if (row.get("ServiceStatus") or {}).get("RunningTasks")
        for each in row["Spec"]["TaskTemplate"].get("Networks") or ()
        if each.get("Target") in targets
        for name in (row["Spec"]["Name"], *(each.get("Aliases") or ()))
    }


def swarm_tasks(name: str, nodes: Sequence[SwarmNode]) -> list[SwarmTask]:
    """Return all tasks of a service that the Swarm remembers, also those that ended; raises EngineUnavailable."""
    names = {each.id: each.name for each in nodes}
    return [_task(row, names) for row in _get_json("/tasks", {"filters": json.dumps({"service": [name]})})]


def swarm_nodes() -> list[SwarmNode]:
    """Return the nodes of the Swarm; raises EngineUnavailable."""
    return [read_node(row) for row in _get_json("/nodes")]


def read_node(row: Mapping[str, Any]) -> SwarmNode:
    """Return one node of a response of the engine."""
    said, spec = row["Description"], row["Spec"]
    platform = said.get("Platform") or {}
    facts = {
        "node.id": row["ID"], "node.hostname": said["Hostname"], "node.role": spec.get("Role", ""),
        "node.platform.os": platform.get("OS", ""), "node.platform.arch": platform.get("Architecture", ""),
    }  # fmt: skip
    own, engines = spec.get("Labels") or {}, (said.get("Engine") or {}).get("Labels") or {}
    facts |= {f"node.labels.{key}": value for key, value in own.items()}
    facts |= {f"engine.labels.{key}": value for key, value in engines.items()}
    state = (row.get("Status") or {}).get("State", "unknown")
    return SwarmNode(row["ID"], said["Hostname"], state, spec.get("Availability", "active"), facts)


def node_id(engine: Engine = HERE) -> str:
    """Return the ID that the engine has as a node of its Swarm, empty for none; raises EngineUnavailable."""
    return str((_get_json("/info", engine=engine).get("Swarm") or {}).get("NodeID", ""))


def read_service(
    service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], nodes: Mapping[str, str]
) -> SwarmService:
    """Return the service of three responses of the engine: the service, its tasks, host name by node ID."""
    update = service.get("UpdateStatus") or {}
    return SwarmService(
        image=service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        desired=int((service.get("ServiceStatus") or {}).get("DesiredTasks", 0)),
        tasks=tuple(_task(each, nodes) for each in tasks),
        update=update.get("State", ""),
        update_began=update.get("StartedAt", ""),
        update_said=update.get("Message", ""),
        is_global="Global" in (service["Spec"].get("Mode") or {}),
    )


def _task(task: Mapping[str, Any], nodes: Mapping[str, str]) -> SwarmTask:
    status, node = task["Status"], task.get("NodeID", "")
    why = status.get("Err") or ""
    spec = task["Spec"]["ContainerSpec"]
    return SwarmTask(
        status["State"],
        spec["Image"],
        (spec.get("Labels") or {}).get("com.docker.compose.config-hash", ""),
        nodes.get(node, node),
        f": {why}" if why else "",
        task.get("DesiredState", "running"),
        int(task.get("Slot") or 0),
        (status.get("ContainerStatus") or {}).get("ContainerID", ""),
        task.get("CreatedAt", ""),
    )
