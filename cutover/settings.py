"""`cutover.toml`, validated once into one frozen object; every error names key, source and what is allowed."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cutover.errors import UsageProblem

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
WHERE_TO_LOOK = ("cutover.toml", "deploy/cutover.toml")


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
    port: int = Field(0, ge=0, le=65535)
    """Filled from the rendered Compose file; a value here is only for a service that publishes several ports."""


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
    listens: int = Field(8000, ge=1, le=65535)
    read_only: tuple[str, ...] = ("/",)
    up_budget: Duration | None = None
    """Longest wait for a healthy container; default from its HEALTHCHECK: start_period + interval × retries."""


class Logs(Section):
    """`[logs]`: what an error looks like in the service's log."""

    level_key: str = "level"
    levels: tuple[str, ...] = ("error", "critical", "fatal")
    pattern: str = (
        r"^(?:(?!\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING)\b).)*?"
        r"(?:\b(?:ERROR|CRITICAL|FATAL)\b|\[(?:error|crit|alert|emerg)\]|\blevel=(?:error|critical|fatal)\b)"
        r"|^Traceback \(most recent call last\)"
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
    keep_warm: Duration = 4 * 3600.0


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
    receiver: str = ""


class Freeze(Section):
    """`[freeze]`: writes are answered with 503 and Retry-After at the proxy while the switch happens."""

    marker: Path | None = None
    max: Duration = 300.0


class Notices(Section):
    """`[notices]`: a team's command, run with the facts as environment variables; its failure is only reported."""

    command: Words
    on: tuple[str, ...] = ("begin", "switched", "released", "taken back", "needs person")
    budget: Duration = 10.0


class Stage(Section):
    """`[stages.…]`: a stage of the run of show with its owner."""

    name: str
    owner: str = ""


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


class Settings(Section):
    """All of `cutover.toml`; paths are absolute after loading."""

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    compose_file: Path = Path("docker-compose.yml")
    services: tuple[str, ...] = Field(("api",), min_length=1)
    after_switch: tuple[str, ...] = ()
    shared_network: str = ""
    image_repo_key: str = "IMAGE_REPO"
    tag_key: str = "IMAGE_TAG"
    port_key: str = "API_HTTP_PORT"
    public_keys: tuple[str, ...] = (
        "IMAGE_REPO",
        "IMAGE_TAG",
        "API_HTTP_PORT",
        "COMPOSE_PROJECT_NAME",
        "COMPOSE_PROFILES",
        "COLOUR",
        "SHARED_NETWORK",
        "SHARED_VOLUME",
        "LOG_LEVEL",
    )
    data_profiles: tuple[str, ...] = ("db", "cache", "ai")
    env_template: Path | None = None
    state_dir: Path | None = None
    reports: Path = Path("../reports")
    max_release: Duration = 7200.0
    colours: dict[str, Colour] = Field(min_length=1)
    version: Version | None = None
    ready: Ready = Ready()
    gate: Gate = Gate()
    logs: Logs = Logs()
    endpoints: tuple[Endpoint, ...] = ()
    proxy: Proxy | None = None
    watch: Watch = Watch()
    checks: Checks = Checks()
    migrate: Migrate | None = None
    database: Database | None = None
    snapshot: Snapshot = Snapshot()
    slo: Slo = Slo()
    dependencies: tuple[Dependency, ...] = ()
    alerts: Alerts | None = None
    freeze: Freeze | None = None
    notices: Notices | None = None
    show: Show = Show()
    source: Path = Path("cutover.toml")
    """The file that all this was read from."""

    @field_validator("colours")
    @classmethod
    def _two_colours(cls, colours: dict[str, Colour]) -> dict[str, Colour]:
        strange = sorted(set(colours) - {"blue", "green"})
        if strange:
            raise ValueError(f"unknown colour {strange[0]!r}; allowed: blue, green")
        return colours

    def compose_project(self, colour: str) -> str:
        """The Compose project of *colour*."""
        return self.colours[colour].project or f"{self.project}_{colour}"

    @property
    def service(self) -> str:
        """The service that takes the traffic: the first one named."""
        return self.services[0]

    @property
    def marker(self) -> Path:
        """The proxy's marker directory."""
        given = self.proxy.marker if self.proxy else None
        return given or self.state.parent / f"{self.project}-live"

    @property
    def state(self) -> Path:
        """The state directory: outside of any checkout."""
        return self.state_dir or default_state_root() / self.project


def default_state_root() -> Path:
    """`/var/lib/cutover` for root, else the user's own state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/cutover")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "cutover"


def find(given: str | None, environment: Mapping[str, str], here: Path) -> Path:
    """The configuration file: option, then `CUTOVER_CONFIG`, then `cutover.toml` or `deploy/cutover.toml` here."""
    named = given or environment.get("CUTOVER_CONFIG")
    if named:
        path = here / named
        if not path.is_file():
            raise UsageProblem(
                f"{named}: no such file (from {'--cutover-config' if given else 'CUTOVER_CONFIG'})"
            )
        return path.resolve()
    for name in WHERE_TO_LOOK:
        if (here / name).is_file():
            return (here / name).resolve()
    raise UsageProblem(
        f"no cutover.toml: looked for {' and '.join(WHERE_TO_LOOK)} in {here}; write one or say --cutover-config=FILE"
    )


def plain() -> Settings:
    """What a URL is asked by where there is no `cutover.toml`: the defaults, and `/version` too."""
    return Settings(project="url", colours={"blue": Colour(env_file=Path(".env"))}, version=Version())


def load(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of *path*; `CUTOVER_STATE_DIR` and `CUTOVER_REPORTS` in *environment* win over the file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(f"{path}: not valid TOML: {error}") from error
    for key, variable in (("state_dir", "CUTOVER_STATE_DIR"), ("reports", "CUTOVER_REPORTS")):
        if (environment or {}).get(variable):
            table[key] = str(Path((environment or {})[variable]).absolute())
    try:
        settings = Settings.model_validate(table | {"source": path})
    except ValidationError as error:
        raise UsageProblem(f"{path}: {_first(error)}") from error
    return _absolute(settings, path.parent)


def _first(error: ValidationError) -> str:
    """One line for the first mistake: key, what stands there, what is allowed."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; allowed here: {', '.join(_allowed(first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    shown = (
        "" if isinstance(first["input"], dict) or "is no duration" in message else f", got {first['input']!r}"
    )
    lowered = message if message[1:2].isupper() else f"{message[0].lower()}{message[1:]}"
    return f"{key}: {lowered}{shown}"


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand at *location*."""
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for n, f in model.model_fields.items() if part in {n, f.alias}), None)
        if field is None:
            continue  # the name of a colour: the model stays that of the table
        model = _model_in(field.annotation) or model
    return sorted((field.alias or name) for name, field in model.model_fields.items() if name != "source")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The table that an annotation like `tuple[Endpoint, ...] | None` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found:
            return found
    return None


def _absolute(settings: Settings, base: Path) -> Settings:
    """The same settings with each path made absolute, relative ones from the file's own folder."""

    def at(path: Path | None) -> Path | None:
        return None if path is None else Path(os.path.normpath(base / path.expanduser()))

    colours = {n: c.model_copy(update={"env_file": at(c.env_file)}) for n, c in settings.colours.items()}
    update: dict[str, Any] = {
        key: at(getattr(settings, key)) for key in ("compose_file", "state_dir", "reports", "env_template")
    }
    if settings.proxy:
        paths = {key: at(getattr(settings.proxy, key)) for key in ("marker", "file", "access_log")}
        update["proxy"] = settings.proxy.model_copy(update=paths)
    if settings.freeze:
        update["freeze"] = settings.freeze.model_copy(update={"marker": at(settings.freeze.marker)})
    return settings.model_copy(update=update | {"colours": colours})
