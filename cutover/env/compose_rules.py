"""Rules for a rendered compose file: what a release would stumble on, each with its way out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cutover.core.config import Settings
from cutover.core.config_schema import parse_duration
from cutover.core.verdict import Finding
from cutover.system.compose import ANY, Rendered, is_loopback
from cutover.system.container import LOCALHOST, health_command, proves_nothing
from cutover.system.swarm import COMPLETED

Service = Mapping[str, Any]
Fault = tuple[str, str]
"""What is wrong with a service, and what to do."""
Rule = Callable[["ComposeUse", str, Service], Iterator[Fault]]

VARIABLE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_]\w*)[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|(?P<plain>[A-Za-z_]\w*))"
)
SQLITE = re.compile(r"\bsqlite[\w+]*:|\.(?:db|sqlite3?)$", re.IGNORECASE)
STORES = frozenset({
    "postgres", "postgresql", "mysql", "mariadb", "mongo", "redis", "valkey", "etcd", "elasticsearch", "opensearch",
    "rabbitmq", "influxdb", "prometheus", "grafana", "gitea", "vault", "minio", "clickhouse-server",
})  # fmt: skip
"""Images whose data directory belongs to one process."""
CURL = re.compile(r"\bcurl\b")
CURL_FAILS = re.compile(r"\s(?:-\w*f|--fail)|(?:\$\(|`)\s*curl\b|\bcurl\b[^|;]*\|(?!\|)")
"""It fails for an error status, or something else reads what it prints."""
TCP, UDP = "tcp", "udp"
PERIODS = ("an interval", "a timeout", "a start_period")
ROOT_USERS = frozenset({"", "0", "root"})


@dataclass(frozen=True, slots=True)
class ComposeUse:
    """A rendered compose file and how releases use it. Empty facts are not known and not judged."""

    where: str
    """The name of the compose file in findings."""
    project: str
    model: Mapping[str, Any]
    services: tuple[str, ...]
    """The released services; the first one receives the traffic."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """The same file with all profiles, before variables were replaced."""
    two_colors: bool = False
    tag_key: str = "IMAGE_TAG"
    tag: str = ""
    """The tag that *model* was rendered with."""
    gate_user: str = ""
    shared_volumes: Collection[str] = ()
    """Volumes that both colors may write to at the same time."""
    own_volumes: Collection[str] = ()
    """Volumes of which each color may have its own."""
    other: Mapping[str, Any] = field(default_factory=dict)
    """The same file rendered for the other color."""
    other_ports: Collection[tuple[str, int]] = ()
    """Host address and port of each port that the other color publishes."""
    images: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Service → `docker image inspect` of its image, where it is on this host."""
    architecture: str = ""
    """The architecture of the engine."""
    running: Collection[str] | None = None
    """The services that run in the project now."""
    healthy: Collection[str] = ()
    """Those whose HEALTHCHECK passes now, so that it reaches them."""

    def raw(self, name: str) -> Service:
        """Return the service before variables were replaced; empty if that is not known."""
        found: Service = (self.source.get("services") or {}).get(name) or {}
        return found

    def is_shared(self, kind: str, key: str) -> bool:
        """Whether both colors have the same network or volume *key* (*kind*: `networks`, `volumes`)."""
        mine, its = ((model.get(kind) or {}).get(key) or {} for model in (self.model, self.other))
        own = its.get("name") if self.other else f"{self.project}_{key}"
        return bool(mine.get("external")) or (mine.get("name") == own) is bool(self.other)


def use_of(settings: Settings, rendered: Rendered, other: Rendered | None = None, **facts: Any) -> ComposeUse:
    """Return how releases of *settings* use *rendered*; with *other*, blue and green run side by side."""
    return ComposeUse(
        where=settings.compose_file.name,
        project=rendered.project,
        model=rendered.model,
        services=(*settings.services, *settings.workers),
        two_colors=other is not None,
        tag_key=settings.env_keys.tag,
        gate_user=settings.gate.user,
        shared_volumes=settings.volumes.shared,
        own_volumes=settings.volumes.per_color,
        other=other.model if other else {},
        other_ports=[row for name in settings.services for row in other.published(name)] if other else (),
        **facts,
    )


def compose_findings(use: ComposeUse, rules: Sequence[Rule] | None = None) -> list[Finding]:
    """Return what *rules* (default: all) find in the released services."""
    there = use.model.get("services") or {}
    every = RULES if rules is None else rules
    asked = [each for each in every if use.two_colors or each not in SIDE_BY_SIDE]
    return [
        Finding(use.where, f"services.{name}: {what}", todo)
        for name in use.services
        for rule in asked
        for what, todo in (rule(use, name, there[name]) if name in there else ())
    ] + [Finding(use.where, what, todo) for what, todo in missing_services(use)]


def missing_services(use: ComposeUse) -> Iterator[Fault]:
    """A released service that is not there, or only with a profile."""
    there, every = use.model.get("services") or {}, use.source.get("services") or {}
    for name in use.services:
        profiles = (every.get(name) or {}).get("profiles") or ()
        if name in there:
            continue
        if profiles:
            todo = f"COMPOSE_PROFILES={','.join(profiles)} in the env file of each color, or take the profile off"
            yield f"services.{name}: has profiles {', '.join(profiles)}, and none of them is active", todo
        else:
            known = ", ".join(there) or "no service at all"
            yield f"there is no service {name!r}", f"it has {known}: correct services in cutover.toml"


# --- variables --------------------------------------------------------------------------------------------------
def split_outside(text: str, separator: str = ":") -> list[str]:
    """Return the parts of *text* between separators that are in no `${…}`."""
    parts, depth = [""], 0
    for position, letter in enumerate(text):
        if letter == "{" and text[position - 1 : position] == "$":
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def split_image(image: str) -> tuple[str, str]:
    """Return repository and tag of an image whose variables were not replaced; the tag may be empty."""
    *folders, last = split_outside(split_outside(image, "@")[0], "/")
    name, *tag = split_outside(last)
    return "/".join([*folders, name]), tag[0] if tag else ""


def variable_of(text: str) -> str:
    """Return the variable whose value is the whole *text*, like TAG for `${TAG:-latest}`; empty if there is none."""
    found = VARIABLE.fullmatch(text)
    return (found["braced"] or found["plain"]) if found else ""


def raw_ports(service: Service) -> Iterator[tuple[str, str, str]]:
    """Yield host address, host port and protocol as they are written, without those that are not published."""
    for row in service.get("ports") or ():
        if isinstance(row, Mapping):
            protocol = str(row.get("protocol") or TCP)
            yield str(row.get("host_ip") or ""), str(row.get("published") or ""), protocol
            continue
        parts = split_outside(str(row))
        if len(parts) > 1:
            yield ":".join(parts[:-2]), parts[-2], parts[-1].partition("/")[2] or TCP


# --- the image --------------------------------------------------------------------------------------------------
def tag_is_chosen(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """A release chooses the tag of the service that receives traffic, and of the others that have its image."""
    image, raw = str(service.get("image") or ""), str(use.raw(name).get("image") or "")
    key = use.tag_key
    if not image:
        yield "names no image, and a release is an image with a tag", f"image: {name}:${{{key}:?}}"
        return
    main = (use.model.get("services") or {}).get(use.services[0]) or {}
    own, chosen = split_image(image)
    if name != use.services[0] and own != split_image(str(main.get("image") or ""))[0]:
        return
    repository, written = split_image(raw or image)
    todo = f"image: {repository}:${{{key}:?}}"
    if "@" in image:
        yield f"{image.partition('@')[2][:19]} is written out, so no release can choose the image", todo
        return
    variable = variable_of(written)
    if (use.tag and chosen == use.tag) or (raw and variable == key):
        return
    if variable:
        tag = f'tag = "{variable}" in [env_keys] of cutover.toml'
        yield f"{variable} chooses the tag of {raw}, not {key}", tag if name == use.services[0] else todo
    elif use.tag or raw:
        what = f"the tag of {raw or image} is written out, so no release can choose it"
        if use.tag and ("$" in raw or not raw):
            what = f"{key}={use.tag} makes it run {image}, so no release can choose its tag"
        yield what, todo


def fits_this_machine(use: ComposeUse, name: str, _service: Service) -> Iterator[Fault]:
    """An image that is here is for the architecture of the engine."""
    is_for = str((use.images.get(name) or {}).get("Architecture") or "")
    if use.architecture and is_for and is_for != use.architecture:
        what = f"its image is for {is_for}, this engine is {use.architecture}"
        yield what, f"build it for linux/{use.architecture}"


# --- two colors -------------------------------------------------------------------------------------------------
def name_is_free(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """No `container_name` that both colors would need."""
    given, twin = service.get("container_name"), (use.other.get("services") or {}).get(name) or {}
    if given and (given == twin.get("container_name") if use.other else use.project not in given):
        yield f"container_name {given}: both colors cannot have it", "remove the line"


def ports_of_their_own(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """Each color publishes its own ports."""
    rows = [row for row in raw_ports(use.raw(name)) if row[1]]
    fixed = {port for address, port, _ in rows if "$" not in address + port}
    twins = use.other.get("services") or {}
    every = [row for each in use.services for row in (twins.get(each) or {}).get("ports") or ()]
    of_udp = [row for row in every if row.get("protocol") == UDP]
    udp = [(str(row.get("host_ip") or ""), row.get("published")) for row in of_udp]
    for row in service.get("ports") or ():
        port, is_udp = str(row.get("published") or ""), row.get("protocol") == UDP
        host, rivals = str(row.get("host_ip") or ""), udp if is_udp else use.other_ports
        same = any(port == str(taken) and (host == at or {host, at} & ANY) for at, taken in rivals)
        if port in fixed or same:
            inner = f"{row.get('target')}{'/udp' if is_udp else ''}"
            todo = f'"127.0.0.1:${{{port_variable(name)}:?}}:{inner}", and its own value in each env file'
            yield f"both colors would publish port {port}", todo


def proxy_is_seen(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """The requests of the proxy to a color are counted on loopback."""
    rows = service.get("ports") or () if name == use.services[0] else ()
    rows = [row for row in rows if row.get("published") and row.get("protocol", TCP) == TCP]
    same = [row for row in rows if row["published"] == rows[0]["published"]]
    if same and not any(is_loopback(str(each.get("host_ip") or "")) for each in same):
        row = same[0]
        what = f"port {row['published']} is published on {row['host_ip']}, where no request in flight is seen"
        written = next((port for _, port, _ in raw_ports(use.raw(name)) if port), "${PORT}")
        yield what, f'"127.0.0.1:{written}:{row.get("target")}", and the proxy asks there'


def port_variable(service: str) -> str:
    """Return the name of the variable for the port of *service*, like WEB_PORT."""
    return re.sub(r"\W", "_", service).upper() + "_PORT"


def one_port_each(_use: ComposeUse, _name: str, service: Service) -> Iterator[Fault]:
    """A published port is one number, and one container has it."""
    replicas = int((service.get("deploy") or {}).get("replicas") or service.get("scale") or 1)
    for row in service.get("ports") or ():
        port = str(row.get("published") or "")
        if "-" in port:
            yield f"publishes one of the ports {port}, so no check knows which", "publish one port"
        elif port and replicas > 1:
            todo = "replicas: 1, or publish no fixed port"
            yield f"{replicas} replicas cannot all publish port {port}", todo


def data_is_there(use: ComposeUse, _name: str, service: Service) -> Iterator[Fault]:
    """No volume that users would meet empty after a switch."""
    for row in service.get("volumes") or ():
        name = str(row.get("source") or row.get("target") or "")
        if row.get("type") != "volume" or name in use.own_volumes:
            continue
        if not row.get("source"):
            what = f"{row.get('target')} is an unnamed volume: each release starts it empty"
            yield what, f"name it: data:{row.get('target')}"
        elif not use.is_shared("volumes", name):
            what = f"volume {name} ({row.get('target')}) belongs to one color: users would meet it empty after a switch"
            keep = f'[volumes] per_color = ["{name}"] in cutover.toml if nobody misses it'
            yield what, f"volumes: {name}: name: <a fixed name>, or {keep}"


def one_writer(use: ComposeUse, _name: str, service: Service) -> Iterator[Fault]:
    """No data of one process under two colors that run at the same time."""
    mounts = [
        row
        for row in service.get("volumes") or ()
        if row.get("type") in {"volume", "bind"}
        and not row.get("read_only")
        and row.get("source") not in use.shared_volumes
    ]
    store = split_image(str(service.get("image") or ""))[0].rsplit("/", 1)[-1]
    given = service.get("environment") or {}
    for row in mounts:
        target = str(row.get("target") or "").rstrip("/") + "/"
        files = [key for key, value in given.items() if SQLITE.search(str(value)) and target in f"{value}/"]
        if not files and store not in STORES:
            continue
        why = f"{files[0]} names a database file in it" if files else f"{store} keeps it for one process"
        where = f"{row.get('source')} ({target.rstrip('/')})"
        what = f"both colors would write to {where} while they overlap: {why}"
        todo = f'[volumes] shared = ["{row.get("source")}"] in cutover.toml if two may, else release in place'
        yield what, todo


def answers_to_its_own_name(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """On a network that both colors share, each color has a name of its own."""
    networks = use.model.get("networks") or {}
    for key, row in (service.get("networks") or {}).items():
        if not use.is_shared("networks", key):
            continue
        aliases = [str(alias) for alias in (row or {}).get("aliases") or ()]
        fixed = [alias for alias in aliases if use.project not in alias]
        if fixed or not aliases:
            network = (networks.get(key) or {}).get("name", key)
            own = f'networks: {key}: aliases: ["${{COMPOSE_PROJECT_NAME}}-{name}"], and callers use that or the proxy'
            yield f"both colors answer to {(fixed or [name])[0]} on the network {network}", own


# --- health -----------------------------------------------------------------------------------------------------
def health_command_of(service: Service, image: Mapping[str, Any] | None = None) -> list[str]:
    """Return the HEALTHCHECK of a service, else that of its image: `["CMD", …]`, `["NONE"]`; empty if there is none."""
    said = service.get("healthcheck") or {}
    if said.get("disable"):
        return ["NONE"]
    configured = ((image or {}).get("Config") or {}).get("Healthcheck") or {}
    test = said.get("test") or configured.get("Test") or []
    return ["CMD-SHELL", test] if isinstance(test, str) else [str(word) for word in test]


def durations_are_known(_use: ComposeUse, _name: str, service: Service) -> Iterator[Fault]:
    """A release waits for these, and can neither wait for years nor for microseconds."""
    health = service.get("healthcheck") or {}
    given = {f"its healthcheck has {name}": health.get(name.split()[1]) for name in PERIODS}
    for what, text in (given | {"it has a stop_grace_period": service.get("stop_grace_period")}).items():
        try:
            parse_duration(text or "0s")
        except ValueError:
            yield f"{what} of {text}", "at least 1ms and at most 30d, in whole milliseconds"


def health_is_asked(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """A HEALTHCHECK asks the service, and asks it by an address; without one [ready] takes its place."""
    text = health_command(health_command_of(service, use.images.get(name)))
    if proves_nothing(text):
        todo = "request the readiness endpoint, or remove it: then [ready] takes its place"
        yield f"its healthcheck {text!r} proves nothing about the service", todo
    elif CURL.search(text) and not CURL_FAILS.search(text):
        yield f"its healthcheck {text!r} passes on every status, 500 too", "curl --fail"
    if LOCALHOST.search(text) and name not in use.healthy:
        what = "its healthcheck asks localhost, which may be ::1 where the service listens on IPv4"
        yield what, "use 127.0.0.1"


# --- namespaces, users, logs, dependencies -----------------------------------------------------------------------
def namespaces_are_its_own(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """The container does not live in the namespaces or volumes of one that a release replaces or leaves."""
    for key in ("network_mode", "pid", "ipc"):
        given = str(service.get(key) or "")
        if key == "network_mode" and given == "host":
            what = "network_mode: host publishes no port, so both colors would listen on one"
            yield what, "networks and ports"
        kind, _, of = given.partition(":")
        if kind == "service" and of not in use.services:
            yield f"{key}: {given} is not released with it", f"add {of!r} to services in cutover.toml"
        elif kind == "container":
            yield f"{key}: {given} is another project's container", "a network of its own, or service:NAME"
    for given in service.get("volumes_from") or ():
        what = f"volumes_from {given} depends on a container that a release may replace"
        yield what, "mount the volume by its name"
    for other, its in (use.model.get("services") or {}).items():
        keys = [key for key in ("network_mode", "pid", "ipc") if its.get(key) == f"service:{name}"]
        if other not in use.services and keys:
            what = f"{other} lives in its {keys[0].split('_')[0]} namespace, which a release replaces"
            yield what, f"add {other!r} to services in cutover.toml"


def runs_as_root(service: Service, image: Mapping[str, Any] | None) -> bool:
    """Whether the container runs as root, by the compose file or by the image; False if that is not known."""
    given = str(service.get("user") or ((image or {}).get("Config") or {}).get("User") or "")
    return ("user" in service or image is not None) and given.partition(":")[0] in ROOT_USERS


def user_is_known(use: ComposeUse, name: str, service: Service) -> Iterator[Fault]:
    """It does not run as root, or `[gate] user` says that it does."""
    if not use.gate_user and runs_as_root(service, use.images.get(name)):
        todo = 'user: 1000:1000, or [gate] user = "root" in cutover.toml; nothing if its workers have another user'
        yield "runs as root, and the gate expects another user", todo


def log_can_be_read(_use: ComposeUse, _name: str, service: Service) -> Iterator[Fault]:
    """The engine can read the log of the service."""
    given = service.get("logging") or {}
    driver, options = str(given.get("driver") or ""), given.get("options") or {}
    address = str(options.get(f"{driver}-address") or "")
    if driver == "none":
        yield "logging: none keeps no log, so errors in it go unseen", "driver: local"
    elif str(options.get("cache-disabled")).lower() == "true":
        yield f"logging: {driver} without its cache cannot be read", "remove cache-disabled"
    elif address.startswith(("tcp", "tls")) and str(options.get("fluentd-async")).lower() != "true":
        what = f"logging: no container starts while {address} does not answer"
        yield what, "an udp:// address, or fluentd-async"


def dependencies_run(use: ComposeUse, _name: str, service: Service) -> Iterator[Fault]:
    """What it depends on runs; what it waits for to complete is run by the release, and what that depends on runs."""
    shared = any(use.is_shared("networks", key) for key in service.get("networks") or {})
    for other, how in (service.get("depends_on") or {}).items():
        if other in use.services or other in (use.running or ()) or not how.get("required", True):
            continue
        if how.get("condition") == COMPLETED:
            yield from dependencies_run(use, other, (use.model.get("services") or {}).get(other) or {})
        elif use.two_colors and not shared:
            what = f"depends on {other}, which only the networks of one project reach"
            network = f"networks: default: name: <a fixed name> and external: true, shared by {other} and both colors"
            yield f"{what}: the other color has none", network
        elif use.running is not None:
            todo = f"docker compose --project-name {use.project} up --detach {other}"
            yield f"depends on {other}, which does not run in the project {use.project}", todo


REFUSING: tuple[Rule, ...] = (
    tag_is_chosen, name_is_free, ports_of_their_own, proxy_is_seen, one_port_each, data_is_there, dependencies_run,
    durations_are_known,
)  # fmt: skip
"""With these faults a release would fail after something has changed, or take data from users."""
UNASKED: tuple[Rule, ...] = (health_is_asked, log_can_be_read)
"""With these faults a release is possible, but a check of it asks less than it could: told in the plan."""
SIDE_BY_SIDE: tuple[Rule, ...] = (
    name_is_free, ports_of_their_own, proxy_is_seen, data_is_there, one_writer, answers_to_its_own_name,
)  # fmt: skip
"""What matters only if blue and green run at the same time."""
RULES: tuple[Rule, ...] = (
    *REFUSING, fits_this_machine, one_writer, answers_to_its_own_name,
    health_is_asked, namespaces_are_its_own, user_is_known, log_can_be_read,
)  # fmt: skip
