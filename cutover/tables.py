"""The tables of `cutover.toml`: each a frozen model that knows its keys, their defaults and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(value: object) -> float:
    """Seconds of a duration like "500ms", "1m30s" or "2h"; a bare number is refused, for nobody knows its unit."""
    text = str(value).strip()
    parts = DURATION.findall(text)
    if isinstance(value, (int, float, bool)) or not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(
            f'{value!r} is no duration: write it with a unit ({", ".join(UNITS)}), like "90s" or "1m30s"'
        )
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def _seconds(value: object) -> object:
    return value if isinstance(value, float) else seconds(value)


Duration = Annotated[float, BeforeValidator(_seconds)]
Words = tuple[str, ...]


class Section(BaseModel):
    """A table of the file: no key that is not known here, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Colour(Section):
    """`[colours.blue]`: one Compose project with its own port and env file."""

    env_file: Path
    project: str = ""


class Version(Section):
    """`[version]`: where the service says what it is; `{tag}` is the release's tag."""

    path: str = "/version"
    json_: dict[str, Any] = Field(default_factory=dict, alias="json")


class Ready(Section):
    """`[ready]`: where the service says that it may take traffic."""

    path: str = "/readyz"
    json_: dict[str, Any] = Field(default_factory=lambda: {"ready": True}, alias="json")
    deadline: Duration = 5.0


class Endpoint(Section):
    """`[[endpoints]]`: one request and what its answer must be, for teams who write no Python."""

    name: str = ""
    path: str
    method: str = "GET"
    status: int = Field(200, ge=100, le=599)
    json_: Any = Field(None, alias="json")
    send: Any = None
    headers: dict[str, str] = Field(default_factory=dict)
    max_latency: Duration = 1.0
    writes: bool = False
    undo: str = ""
    """`DELETE /memories/{id}`: the request that takes the written thing away again."""

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.name or f"{self.method} {self.path}"

    @model_validator(mode="after")
    def _writes_are_said(self) -> Endpoint:
        if self.method not in {"GET", "HEAD"} and not (self.writes and self.undo):
            raise ValueError(
                f"{self.method} {self.path} changes something: say writes = true and give its undo request"
            )
        return self


class Gate(Section):
    """`[gate]`: how long a release must stand before it is believed."""

    min_healthy: Duration = 5.0
    deadline: Duration = 5.0
    """Wall time of one request, body included."""
    latency: Duration = 1.0
    samples: int = Field(5, ge=1, le=100)
    runs_as: str = ""
    """The user that the service must run as; empty: any but root."""
    listens: int = Field(0, ge=0, le=65535)
    """The port inside the container; 0: the one that is published where the colour is asked."""
    read_only: tuple[str, ...] = ("/",)
    up_budget: Duration | None = None
    """Longest wait for a healthy container; default from its HEALTHCHECK: start_period + interval × retries."""


class Logs(Section):
    """`[logs]`: what an error looks like in the service's log."""

    level_key: str = ""
    """The key of a JSON line that holds its level; empty: any of those that loggers use."""
    levels: tuple[str, ...] = (
        "error", "err", "severe", "critical", "crit", "fatal", "alert", "emerg", "emergency", "panic", "dpanic",
        "50", "60",
    )  # fmt: skip
    """The numbers are those of pino and bunyan."""
    pattern: str = (
        r"^(?![IW]\d{4} \d\d:)"
        r'(?:(?!\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|level="?(?:trace|debug|info|warn|warning))\b).)*?'
        r'(?:\b(?:ERROR|CRITICAL|FATAL|level="?(?:error|critical|fatal|panic))\b|\[(?:error|crit|alert|emerg)\])'
        r"|^[EF]\d{4} \d\d:|^Traceback \(most recent call last\)"
    )
    """For lines that are not JSON. The first level named in a line is its own: INFO lines may speak of an ERROR."""
    floor: int = Field(5, ge=1)
    """Fewer new errors than this are never a spike."""
    tail: int = Field(5000, ge=100, le=100_000)
    allow: tuple[str, ...] = ()


class Proxy(Section):
    """`[proxy]`: who sends the traffic, and how it is told."""

    driver: Literal["nginx", "traefik", "port-swap", "command"]
    url: str = ""
    marker: Path | None = None
    """nginx: the directory whose file `blue` or `green` names the colour; default `<state root>/<project>-live`."""
    file: Path | None = None
    """traefik: the dynamic configuration file that is moved into place."""
    access_log: Path | None = None
    control: str = "/__cutover/alive"
    """A static location that the proxy answers by itself, to tell its own silence from the service's."""
    colour_header: str = "X-Colour"
    live_port: int = Field(0, ge=0, le=65535)
    """port-swap: the port that users know; default the live colour's own."""
    switch: Words = ()
    """command: words, `{colour}` and `{port}` are filled in."""
    undo: Words = ()
    status: Words = ()
    """command: words that print the live colour."""
    drain: Duration = 30.0
    on_drain_timeout: Literal["go on", "take back"] = "go on"
    verify: str | bool = True
    """TLS: a CA file, or false for a name that only the outside world has."""
    open_connections: int = Field(20, ge=1, le=500)
    new_connections: int = Field(10, ge=1, le=500)
    post: str = ""
    """A path that accepts a harmless POST, for the proof; empty: GET only."""
    path: str = ""
    """The path of the proof's requests; default the version's."""


class Watch(Section):
    """`[watch]`: the runbook's "monitor for 10-15 minutes"."""

    duration: Duration = 600.0
    probes_per_second: float = Field(2.0, gt=0, le=50)
    tick: Duration = 1.0
    retire: Literal["keep", "stop"] = "keep"
    """What becomes of the old colour after a good watch: kept warm, or stopped."""


class Checks(Section):
    """`[checks]`: which of them only report."""

    report_only: tuple[str, ...] = ()


class Migrate(Section):
    """`[migrate]`: the command that upgrades the schema, run in a one-off container of the new image."""

    command: Words
    head: Words = ()
    """Words that print the current revision, e.g. `flask db current`."""
    service: str = "api"
    budget: Duration = 600.0
    lock_timeout: Duration = 5.0


class Database(Section):
    """`[database]`: what a snapshot is taken of."""

    url_key: str = "DATABASE_URL"
    """The env file's key that carries the URL."""
    sqlite: str = ""
    """A path inside the service's container, when there is no URL: its own backup API is used."""
    container: str = ""
    """A container with pg_dump and pg_restore that reaches the database; default: found by the URL's host name."""
    network: str = ""
    schema_table: str = "alembic_version"


class Snapshot(Section):
    """`[snapshot]`: how many are kept, and what a release may do without one."""

    enabled: bool = False
    keep: int = Field(5, ge=1, le=1000)
    budget: Duration = 1800.0
    rehearse: bool = True
    """Upgrade the restored copy with the new image, and gate the live image on it, before the real migration."""


class Slo(Section):
    """`[slo]`: what the watch judges against; an empty value is compared with the old colour alone."""

    p50: Duration | None = None
    p95: Duration | None = None
    p99: Duration | None = None
    errors: float = Field(0.01, ge=0, le=1)
    """Share of requests that may fail (5xx)."""
    availability: float = Field(0.99, ge=0, le=1)
    cpu: float = Field(0.9, gt=0, le=1)
    """Share of the container's own limit."""
    memory: float = Field(0.9, gt=0, le=1)
    dependency: Duration = 1.0
    disk_free: float = Field(0.1, ge=0, le=1)
    tls_days: float = Field(14, ge=0)
    requests_needed: int = Field(100, ge=1)


class Dependency(Section):
    """`[[dependencies]]`: something that the service needs, asked from inside its own network."""

    name: str
    kind: Literal["postgres", "redis", "http", "tcp"]
    url_key: str = ""
    url: str = ""
    path: str = ""


class Alerts(Section):
    """`[alerts]`: the Prometheus and Alertmanager that watch when nobody does."""

    prometheus: str
    alertmanager: str = ""
    rules: tuple[str, ...] = ()
    """Names of the rules that must be loaded, healthy and not firing."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Only alerts with these labels count as firing: a rule may watch other services too."""
    receiver: str = ""
    """Whom each rule's alert must be able to reach by Alertmanager's routes."""


class Freeze(Section):
    """`[freeze]`: writes are answered with 503 and Retry-After at the proxy while the switch happens."""

    marker: Path | None = None
    max: Duration = 300.0


class Notices(Section):
    """`[notices]`: a team's command, run with the facts as environment variables; its failure is only reported."""

    command: Words
    on: tuple[str, ...] = ("begin", "switched", "released", "taken back", "needs person")
    budget: Duration = 10.0


class Show(Section):
    """`[show]`: the run of show as people read it."""

    time_zone: str = ""
    owners: dict[Literal["T-15m", "T-10m", "T-0", "T+15m"], str] = Field(default_factory=dict)
    prerequisites: tuple[str, ...] = ()
    ask: bool = False
    """Ask a person to confirm the prerequisites and to say go before the switch."""

    @model_validator(mode="after")
    def _time_zone_is_known(self) -> Show:
        try:
            ZoneInfo(self.time_zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"this host knows no time zone {self.time_zone!r}; write it like Asia/Tokyo"
            ) from error
        return self
