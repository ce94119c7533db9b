"""Schema of `cutover.toml`: one frozen model for each table, with defaults and allowed values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from datetime import date, time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cutover.core.target import host_fault, url_problem

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
LONGEST_S = 30 * UNITS["d"]
NO_JSON = "no_json"
"""The type of an error that names the value itself."""
REQUEST_HEADERS = frozenset({
    "api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token", "forwarded", "host",
    "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "origin", "range", "referer",
    "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
})  # fmt: skip
"""Headers that no response has; a value expected of them would be printed, and is often secret."""
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What Docker and Compose take as the name of a service, a network or a container."""


def parse_duration(value: object) -> float:
    """Return the seconds of a duration like "500ms", "1m30s" or "2h"; raises ValueError for a number without unit."""
    text = str(value).strip()
    parts = DURATION.findall(text)
    if isinstance(value, (int, float, bool)) or not parts or "".join(n + u for n, u in parts) != text:
        way_out = f'write it with a unit ({", ".join(UNITS)}), like "90s" or "1m30s"'
        raise ValueError(f"{value!r} is no duration: {way_out}")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if seconds > LONGEST_S:
        raise ValueError(f"{value!r} is no duration that is used here: at most 30d")
    return seconds


def _above_zero(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression of Python: {error}") from error
    return pattern


def _is_path(path: str) -> str:
    if path and not re.fullmatch(r"/[!-~]*", path):
        raise ValueError("must begin with / and hold no space or control character; write others as %XX")
    return path


def _is_http_url(url: str) -> str:
    if url and (problem := url_problem(url)):
        raise ValueError(problem)
    return url


def _is_host(name: str) -> str:
    if fault := host_fault(name):
        raise ValueError(fault)
    return name


def _is_json(value: Any) -> Any:
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        at, here = waiting.pop()
        if isinstance(here, dict | list):
            rows = here.items() if isinstance(here, dict) else enumerate(here)
            waiting += [(f"{at}{key}.", each) for key, each in rows]
        elif isinstance(here, date | time) or (isinstance(here, float) and not math.isfinite(here)):
            where = f"{at[:-1]} is {here}" if at else f"this is {here}"
            said = f"JSON has no dates, times, inf or nan, and {where}; write it as text"
            raise PydanticCustomError(NO_JSON, "{said}", {"said": said})
    return value


def _is_of_responses(name: str) -> str:
    if name.lower() in REQUEST_HEADERS:
        raise ValueError(
            f"{name!r} is sent in requests, and here are headers of the response: remove it;"
            " a request that needs it is a check of your own"
        )
    return name


Duration = Annotated[float, BeforeValidator(parse_duration)]
Period = Annotated[Duration, AfterValidator(_above_zero)]
"""A duration that is longer than 0s."""
Regex = Annotated[str, AfterValidator(_compiles)]
UrlPath = Annotated[str, AfterValidator(_is_path)]
"""The path of a URL, with its query."""
HttpUrl = Annotated[str, AfterValidator(_is_http_url)]
FrontUrl = Annotated[HttpUrl, Field(min_length=1)]
Json = Annotated[Any, AfterValidator(_is_json)]
JsonTable = Annotated[dict[str, Any], AfterValidator(_is_json)]
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
HostName = Annotated[str, AfterValidator(_is_host)]
"""The name of a host, as ssh knows it."""
Batch = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,3}|([1-9][0-9]?|100)%)$")]
"""How many hosts have been switched after a batch: a number or a share, like `1` or `50%`."""
Token = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
"""A header name or a method, by RFC 9110."""
ResponseHeader = Annotated[Token, AfterValidator(_is_of_responses)]
HeaderValue = Annotated[str, Field(pattern=r"^[\t -~]*$")]
Variable = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
"""A key of an env file."""


def twice(names: Sequence[str]) -> list[str]:
    """Return which of *names* are there more than once."""
    return sorted({each for each in names if names.count(each) > 1})


def _below_config(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(os.path.normpath(base / path.expanduser())) if base else path


ConfigPath = Annotated[Path, AfterValidator(_below_config)]
"""A path that is relative to the folder of the file; absolute after `load_config`."""


# The names of the checks, as `[checks]` lists them and as their messages begin.
GATE_CHECKS = (
    "identity", "health", "ready", "version", "listens", "user", "read-only", "latency", "logs", "restarts",
    "unchanged", "compare",
)  # fmt: skip
WATCH_CHECKS = (
    "availability", "color", "endpoints", "5xx", "routes", "latency", "restarts", "health", "old color", "log errors",
    "new errors", "cpu", "memory", "oom", "leak", "alerts",
)  # fmt: skip
SHARED_CHECKS = ("disk", "tls")
"""Of what both colors share; asked before a release too."""
OFF = "off by [checks] off"


DifferenceKind = Literal[
    "5xx", "status", "removed_field", "type", "redirect", "header", "added_field", "order", "value", "structure",
    "text", "body", "slower",
]  # fmt: skip
"""How an answer of a new release can differ from that of the old one, the most serious kind first."""


class Section(BaseModel):
    """A table of the file. Unknown keys are refused; values are frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        allow_inf_nan=False,
        defer_build=True,  # with the whole file only: 12 ms less than each table on its own
    )


class Color(Section):
    """`[colors.blue]`: the Compose project of one color, with its own port and env file."""

    env_file: ConfigPath
    """The env file of the color, with its tag and its port; readable by its owner only."""
    project: str = Field("", pattern=r"^([a-z0-9][a-z0-9_-]*)?$")
    """Name of its Compose project; default `<project>_<color>`."""


class Version(Section):
    """`[version]`: the endpoint that reports the running version; `{tag}` is the tag of the release."""

    path: UrlPath = "/version"
    """Path of the version endpoint."""
    json_: JsonTable = Field(default_factory=dict, alias="json")
    """Keys and values that the response must contain."""


class Ready(Section):
    """`[ready]`: how the service says that it is ready; all that is given must hold."""

    path: UrlPath = "/readyz"
    """Path of the readiness endpoint."""
    status: int = Field(0, ge=0, le=599)
    """The expected status; 0: any from 200 to 299."""
    json_: JsonTable = Field(default_factory=dict, alias="json")
    """Keys and values that a JSON response must contain, like `{ready = true}`."""
    text: str = ""
    """Text that the response must contain: for a server that answers every path with 200."""
    header: dict[ResponseHeader, str] = Field(default_factory=dict)
    """Headers of the response, each as text or as a regular expression."""
    tcp: bool = False
    """In place of a request: ready is a port that keeps a new connection open."""
    timeout: Period = 5.0
    """Wall time of the request."""

    @property
    def asked(self) -> str:
        """What is asked, for reports: `GET /readyz`."""
        return "a TCP connection" if self.tcp else f"GET {self.path}"

    @model_validator(mode="after")
    def _tcp_is_no_request(self) -> Ready:
        given = [name for name in ("status", "json_", "text", "header") if getattr(self, name)]
        if self.tcp and given:
            raise ValueError(f"tcp = true sends no request: remove {given[0].strip('_')}, or tcp")
        return self


class Endpoint(Section):
    """`[[endpoints]]`: one request and the expected response."""

    name: str = ""
    """Name in reports; default: method and path."""
    path: UrlPath = Field(min_length=1)
    """Path of the request."""
    method: Token = "GET"
    """Method of the request."""
    status: int = Field(200, ge=100, le=599)
    """The expected status."""
    json_: Json = Field(None, alias="json")
    """Keys and types that the response must contain; an empty list stands for any list."""
    send: Json = None
    """JSON body of the request."""
    headers: dict[ResponseHeader, HeaderValue] = Field(default_factory=dict)
    """Headers that the response must have, each as text or as a regular expression."""
    max_latency: Period = 1.0
    """Latency limit of this endpoint."""
    writes: bool = False
    """Whether the request changes data; required, with `undo`, for methods other than GET and HEAD."""
    undo: str = ""
    """The request that deletes what the check wrote, like `DELETE /memories/{id}`; required where `writes` is."""

    @property
    def label(self) -> str:
        """The name of the endpoint in reports."""
        return self.name or f"{self.method} {self.path}"

    @model_validator(mode="after")
    def _writes_are_declared(self) -> Endpoint:
        if self.method not in {"GET", "HEAD"} and not (self.writes and self.undo):
            way_out = "set writes = true, and undo to the reverting request"
            raise ValueError(f"{self.method} {self.path} changes something: {way_out}")
        return self


class EnvKeys(Section):
    """`[env_keys]`: names of the keys in each color's env file."""

    repo: Variable = "IMAGE_REPO"
    """The key that holds the image repository."""
    tag: Variable = "IMAGE_TAG"
    """The key that holds the image tag; a release sets it."""
    port: Variable = "API_HTTP_PORT"
    """The key that holds the published port."""
    unmasked: tuple[str, ...] = (
        "IMAGE_REPO", "IMAGE_TAG", "API_HTTP_PORT", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COLOR",
        "SHARED_NETWORK", "SHARED_VOLUME", "LOG_LEVEL",
    )  # fmt: skip
    """Keys whose values are shown in reports, even if they look like secrets."""
    masked: tuple[str, ...] = ()
    """Keys whose values are masked, even if they do not look like secrets; see [masking](masking.md)."""

    @property
    def public(self) -> tuple[str, ...]:
        """The keys whose values may be shown: `unmasked`, and those of repository, tag and port."""
        return (*self.unmasked, self.port, self.tag, self.repo)


class Gate(Section):
    """`[gate]`: limits of the checks before a release is accepted."""

    min_uptime: Duration = 5.0
    """How long a release must run without a restart before it is accepted."""
    request_timeout: Period = 5.0
    """Wall time of one request, including the body."""
    max_latency: Period = 1.0
    """Latency limit after a warm-up request."""
    samples: int = Field(5, ge=1, le=100)
    """Requests of the latency check; one of them may exceed the limit."""
    user: str = ""
    """The user that the workers of the service must run as; empty: any except root; `root`: any."""
    container_port: int = Field(0, ge=0, le=65535)
    """The port inside the container; 0: the published one."""
    read_only_paths: tuple[str, ...] = ("/",)
    """Paths that the service must not be able to write to, except for its volumes."""
    start_timeout: Period | None = None
    """Longest wait for the start; default: what its HEALTHCHECK allows, 60 s without one."""


class Logs(Section):
    """`[logs]`: how errors are recognized in the log of the service."""

    level_key: str = ""
    """The key of a JSON log line that holds its level; empty: the usual keys are tried."""
    levels: tuple[str, ...] = (
        "error", "err", "severe", "critical", "crit", "fatal", "alert", "emerg", "emergency", "panic", "dpanic",
        "50", "60",
    )  # fmt: skip
    """Values of the level that count as errors; 50 and 60 are those of pino and bunyan."""
    pattern: Regex = (
        r"^(?![IW]\d{4} \d\d:)"
        r'(?:(?!\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|level="?(?:trace|debug|info|warn|warning))\b).)*?'
        r'(?:\b(?:ERROR|CRITICAL|FATAL|level="?(?:error|critical|fatal|panic))\b|\[(?:error|crit|alert|emerg)\])'
        r"|^[EF]\d{4} \d\d:|^Traceback \(most recent call last\)"
    )
    """For lines that are not JSON. The first level in a line counts: an INFO line may mention an ERROR."""
    min_errors: int = Field(5, ge=1)
    """With fewer new errors than this the check passes."""
    max_lines: int = Field(5000, ge=100, le=100_000)
    """How many of the last lines are read."""
    ignore: tuple[Regex, ...] = ()
    """Regular expressions of errors that do not count."""


class Proxy(Section):
    """`[proxy]`: the reverse proxy and how its traffic is switched."""

    driver: Literal["nginx", "traefik", "port-swap", "command"]
    """How traffic is switched; without this table a release is made in place."""
    url: HttpUrl = ""
    """The address that users reach the service by."""
    marker_dir: ConfigPath | None = None
    """nginx: the directory whose file `blue` or `green` names the live color; default `<state root>/<project>-live`."""
    dynamic_file: ConfigPath | None = None
    """traefik: the dynamic configuration file, replaced atomically."""
    access_log: ConfigPath | None = None
    """The access log of the proxy, from which errors and latency of users are counted; with fronts that of each."""
    health_path: UrlPath = "/__cutover/alive"
    """A location that the proxy answers itself: it tells a dead proxy from a dead service."""
    color_header: Token = "X-Color"
    """The response header that names the color that answered; the configurations in `deploy/proxy` add it."""
    live_port: int = Field(0, ge=0, le=65535)
    """port-swap: the port that users connect to; default: the port of the live color."""
    switch: tuple[str, ...] = ()
    """command: argv; `{color}` and `{port}` are replaced."""
    undo: tuple[str, ...] = ()
    """command: argv that switches back; default: `switch` with the old color."""
    status: tuple[str, ...] = ()
    """command: argv that prints the live color."""
    drain_timeout: Duration = 30.0
    """How long to wait for requests in flight and for open WebSockets on the old color."""
    on_drain_timeout: Literal["continue", "revert"] = "continue"
    """What happens if some are still open then: `revert` keeps a color running rather than cutting them."""
    tls_verify: str | bool = True
    """TLS: true, the path of a CA file, or false for no verification."""
    open_connections: int = Field(20, ge=1, le=500)
    """Connections that stay open across the switch, to verify it."""
    new_connections: int = Field(10, ge=1, le=500)
    """Connections that are opened after the switch, to verify it."""
    probe_post_path: UrlPath = ""
    """A path that accepts a POST without side effects, for the requests during the switch; empty: only GET."""
    probe_path: UrlPath = ""
    """The path of the requests during the switch; default: the path of [version]."""


class Watch(Section):
    """`[watch]`: monitoring after the switch."""

    duration: Period = 600.0
    """How long the watch lasts; `--watch` overrides it."""
    probes_per_second: float = Field(2.0, gt=0, le=50)
    """Requests of the availability check."""
    interval: Period = 1.0
    """How often the checks are judged."""
    old_color: Literal["keep", "stop"] = "keep"
    """The old color after a passed watch: keep it running, or stop it."""


class Compare(Section):
    """`[compare]`: before the switch both releases get the same requests, and their answers are compared."""

    log: bool = True
    """Take recent requests of users from `[proxy] access_log`, of each route as many."""
    file: ConfigPath | None = None
    """Take them from a HAR (`.har`), or from lines of JSON with method, path, headers and body."""
    openapi: str = ""
    """Take GET and HEAD from an OpenAPI document: a path of the service like `/openapi.json`, or a file."""
    count: int = Field(300, ge=1, le=100_000)
    """How many requests are compared at most."""
    within: Period = 20.0
    """How long that may take."""
    rate: float = Field(20.0, gt=0, le=10_000)
    """How many requests a second the release that users have gets at most; it gets two of each."""
    methods: tuple[Token, ...] = ("GET", "HEAD")
    """Methods that are sent; one that writes does so three times for each request."""
    headers: tuple[Token, ...] = (
        "content-type", "location", "cache-control", "content-disposition", "content-language", "vary", "etag",
        "set-cookie", "www-authenticate", "access-control-allow-origin", "strict-transport-security", "link",
    )  # fmt: skip
    """Headers of the answers that are compared; of a cookie only its name."""
    ignore: tuple[str, ...] = ()
    """Fields that are not compared: `items[].score`, or on one route `GET /items/*: score`; `*` is any name."""
    fail_on: tuple[DifferenceKind, ...] = ("5xx",)
    """Kinds of differences that fail the release; others are reported."""

    @model_validator(mode="after")
    def _has_a_source(self) -> Compare:
        if not (self.log or self.file or self.openapi):
            raise ValueError("[compare] has no requests: set log, file or openapi")
        return self


class Platform(Section):
    """`[platform]`: what runs the containers of a color."""

    kind: Literal["compose", "swarm"] = "compose"
    """`swarm`: each color is a stack of the Swarm whose manager is this engine; the compose file is converted."""
    nodes: dict[str, HostName] = {}
    """Host name of another node of the Swarm → its ssh name: its containers are asked there."""
    fronts: dict[HostName, FrontUrl] = Field(default_factory=dict)
    """Nodes with the proxy, by their ssh names: the URL at which each is asked. They are switched in this order."""
    ssh_config: ConfigPath | None = None
    """Another configuration file of ssh, for `nodes` and `fronts`."""


class Checks(Section):
    """`[checks]`: checks that never fail a release, by the names that begin their messages."""

    off: tuple[str, ...] = ()
    """Checks of the gate and of the watch that do not run."""
    report_only: tuple[str, ...] = ()
    """Checks whose no is only reported."""
    own: tuple[str, ...] = ()
    """Names of checks of your own tests, so that `off` and `report_only` may list them."""


class Volumes(Section):
    """`[volumes]`: volumes of the compose file that are as they should be, although two colors mount them."""

    shared: tuple[str, ...] = ()
    """Both colors may write to them at the same time."""
    per_color: tuple[str, ...] = ()
    """Each color has its own, and users do not miss what is in it."""


class Migrate(Section):
    """`[migrate]`: the schema migration, run in a one-off container of the new image."""

    command: tuple[str, ...] = Field(min_length=1)
    """argv of the migration."""
    service: str = "api"
    """The Compose service whose image has the command."""
    budget: Period = 600.0
    """How long the migration may take."""
    lock_timeout: Period = 5.0
    """How long the migration waits for a lock of the database."""


class Database(Section):
    """`[database]`: the database that snapshots are taken of."""

    url_key: str = "DATABASE_URL"
    """The key of the env file that holds the database URL."""
    sqlite: str = ""
    """SQLite: the path of the database file inside the container of the service, when there is no URL."""
    container: str = ""
    """A container with pg_dump and pg_restore that reaches the database; default: found by the host name of the URL."""
    network: str = ""
    """A further Docker network on which the container of the database is looked for."""
    schema_table: str = "alembic_version"
    """The table that holds the revision of the schema."""


class Snapshot(Section):
    """`[snapshot]`: database snapshots before a migration."""

    enabled: bool = False
    """Take a snapshot in each release that migrates."""
    keep: int = Field(5, ge=1, le=1000)
    """How many snapshots are kept."""
    budget: Period = 1800.0
    """How long a snapshot may take."""
    rehearse: bool = True
    """First migrate a restored copy with the new image, and check the live image against it."""


class Slo(Section):
    """`[slo]`: limits of the watch; without a limit a value is compared only with the old color."""

    p50: Period | None = None
    """Latency limit of half of the requests."""
    p95: Period | None = None
    """Latency limit of 95 % of the requests."""
    p99: Period | None = None
    """Latency limit of 99 % of the requests."""
    max_error_rate: float = Field(0.01, ge=0, le=1)
    """Highest allowed share of failed requests (5xx)."""
    availability: float = Field(0.99, ge=0, le=1)
    """Lowest allowed share of successful probes."""
    cpu: float = Field(0.9, gt=0, le=1)
    """Highest allowed share of the CPU limit of the container."""
    memory: float = Field(0.9, gt=0, le=1)
    """Highest allowed share of its memory limit."""
    dependency_latency: Period = 1.0
    """Latency limit of a dependency."""
    disk_free: float = Field(0.1, ge=0, le=1)
    """Lowest allowed share of free space on the disk."""
    tls_min_days: float = Field(14, ge=0)
    """How many days the certificate must still be valid."""
    min_requests: int = Field(100, ge=1)
    """With fewer requests of users, errors are not judged."""


class Dependency(Section):
    """`[[dependencies]]`: a dependency of the service, checked from inside its network."""

    name: str
    """Name in reports."""
    kind: Literal["postgres", "redis", "http", "tcp"]
    """How it is checked."""
    url_key: str = ""
    """The variable of the service that holds the URL; if it is not set there, cannot be read (as with several hosts),
    or names no port for `tcp`, it is not checked."""
    url: str = ""
    """The URL itself, in place of `url_key`."""
    path: UrlPath = ""
    """http: the path of the request."""

    @model_validator(mode="after")
    def _has_a_url(self) -> Dependency:
        if not (self.url or self.url_key):
            raise ValueError("needs url, or url_key with the variable of the service that holds it")
        schemes = {"postgres": ("postgres", "postgresql"), "redis": ("redis", "rediss"), "tcp": ("tcp",)}
        if self.url and (problem := url_problem(self.url, schemes.get(self.kind, ("http", "https")))):
            raise ValueError(f"url: {problem}")
        return self


class Alerts(Section):
    """`[alerts]`: Prometheus and Alertmanager."""

    prometheus: HttpUrl = Field(min_length=1)
    """URL of Prometheus."""
    alertmanager: HttpUrl = ""
    """URL of Alertmanager."""
    rules: tuple[str, ...] = ()
    """Names of alerting rules that must be loaded, healthy and not firing."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Only alerts with these labels count: a rule may cover other services too."""
    receiver: str = ""
    """The Alertmanager receiver that the alert of each rule must be routed to."""


class Freeze(Section):
    """`[freeze]`: the proxy answers writes with 503 and Retry-After during the switch."""

    marker: ConfigPath | None = None
    """command: the file whose existence freezes writes; nginx has its own."""
    max_duration: Period = 300.0
    """How long writes may be frozen."""


class Hooks(Section):
    """`[hooks]`: a command that is run on release events; a failure is only reported."""

    command: tuple[str, ...] = Field(min_length=1)
    """argv; the facts are in the environment: `CUTOVER_EVENT`, `CUTOVER_TEXT` and more."""
    events: tuple[str, ...] = ("begin", "switched", "held", "released", "reverted", "operator_needed")
    """The events that it is run on."""
    budget: Period = 10.0
    """How long it may take."""


class Approval(Section):
    """`[approval]`: the timetable, its owners, and the approval."""

    time_zone: str = ""
    """IANA name of the time zone that times are shown in."""
    owners: dict[Literal["T-15m", "T-10m", "T-0", "T+15m"], str] = Field(default_factory=dict)
    """Who is responsible at each moment of the timetable."""
    prerequisites: tuple[str, ...] = ()
    """What an operator has to confirm."""
    required: bool = False
    """Ask the operator to confirm the prerequisites and to approve the switch."""

    @model_validator(mode="after")
    def _time_zone_is_known(self) -> Approval:
        try:
            ZoneInfo(self.time_zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError) as error:
            what = f"this host knows no time zone {self.time_zone!r}"
            raise ValueError(f"{what}; write it like Asia/Tokyo") from error
        return self


def reached_after(batches: tuple[str, ...], hosts: int) -> list[int]:
    """How many of *hosts* are to be switched after each batch; a share is rounded up."""
    numbers = (-(-hosts * int(each[:-1]) // 100) if each.endswith("%") else int(each) for each in batches)
    return [min(each, hosts) for each in numbers]


def batch_sizes(batches: tuple[str, ...], hosts: int) -> tuple[int, ...]:
    """How many of *hosts* are switched in each batch, none of them empty; raises ValueError if not all are reached.

    *hosts* may be a part of all: a share of it that the batch before has reached already is no batch.
    """
    sizes: list[int] = []
    before = 0
    for reached in reached_after(batches, hosts):
        sizes.append(max(reached - before, 0))
        before = max(reached, before)
    if before < hosts:
        what = f"the last one, {batches[-1]!r}, reaches {before} of {hosts} hosts"
        raise ValueError(f'batches: {what}; end with "100%"')
    return tuple(filter(None, sizes))


class Hosts(Section):
    """`[hosts]`: servers for `cutover release --hosts`, each with this file, an engine and a proxy of its own."""

    names: tuple[HostName, ...] = Field(min_length=1)
    """Names of the servers, as ssh knows them; they are switched in this order."""
    path: str = Field(pattern=r"^/[^\x00-\x1f\x7f]*$")
    """The folder on each server in which its `cutover` is run; its `.venv` is used if there is one."""
    batches: tuple[Batch, ...] = Field(("1", "50%", "100%"), min_length=1)
    """How many servers have been switched after each batch, as a number or a share; the last one must reach all."""
    watch: tuple[Period, ...] = ()
    """How long each batch is watched; the last duration counts for all further batches; default: `[watch] duration`."""
    hold: Period = 3600.0
    """How long a switched server waits for the others; then it reverts by itself."""
    migrate_on: Literal["first", "all"] | None = None
    """Where `[snapshot]`, `[migrate]` and one-shot services run: on the first server, before the others are staged, as
    for one database of all; or on each. Default: `first` with `[migrate]` or `[snapshot]`, else `all`."""
    ssh_config: ConfigPath | None = None
    """Another configuration file of ssh."""
    leave: tuple[str, ...] = ()
    """argv, run on the coordinator: take `{host}` out of the balancer before its switch."""
    join: tuple[str, ...] = ()
    """argv: put `{host}` back, as soon as it has switched; also the undo of `leave`."""
    status: tuple[str, ...] = ()
    """argv that exits with 0 if `{host}` is in the balancer; asked after `join`."""

    @model_validator(mode="after")
    def _batches_reach_all(self) -> Hosts:
        if found := twice(self.names):
            raise ValueError(f"names: {found[0]} is named twice; name each host once")
        hosts, reached = len(self.names), reached_after(self.batches, len(self.names))
        for each, (before, now) in zip(self.batches[1:], pairwise(reached), strict=True):
            if now < before:
                raise ValueError(
                    f"batches: {each!r} is {now} of {hosts} hosts, fewer than the batch before ({before}):"
                    " each one says how many are switched after it"
                )
        sizes = batch_sizes(self.batches, hosts)
        if len(self.watch) > len(sizes):
            what = f"{len(self.watch)} durations for {len(sizes)} batches"
            raise ValueError(f"watch: {what}; the last one counts for all further ones")
        if bool(self.leave) != bool(self.join):
            given, lacking = ("leave", "join") if self.leave else ("join", "leave")
            raise ValueError(f"{given} needs {lacking}: what takes a host out must be undone")
        if self.status and not self.leave:
            raise ValueError("status needs leave and join: it is asked only after them")
        return self
