"""`cutover.toml`, validated once into one frozen object; every error names key, source and what is allowed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from cutover.errors import UsageProblem
from cutover.tables import (
    Alerts,
    Checks,
    Colour,
    Database,
    Dependency,
    Duration,
    Endpoint,
    Freeze,
    Gate,
    Logs,
    Migrate,
    Notices,
    Proxy,
    Ready,
    Section,
    Show,
    Slo,
    Snapshot,
    Version,
    Watch,
    seconds,
)

WHERE_TO_LOOK = ("cutover.toml", "deploy/cutover.toml")

__all__ = [
    "Alerts",
    "Checks",
    "Colour",
    "Database",
    "Dependency",
    "Duration",
    "Endpoint",
    "Freeze",
    "Gate",
    "Logs",
    "Migrate",
    "Notices",
    "Proxy",
    "Ready",
    "Section",
    "Settings",
    "Show",
    "Slo",
    "Snapshot",
    "Version",
    "Watch",
    "default_state_root",
    "find",
    "load",
    "plain",
    "seconds",
]


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
    reports: Path = Path("reports")
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

    @model_validator(mode="after")
    def _somebody_freezes(self) -> Settings:
        driver = self.proxy.driver if self.proxy else "no proxy"
        if self.freeze and driver != "nginx" and not (driver == "command" and self.freeze.marker):
            raise ValueError(
                f'[freeze] needs somebody who answers writes with 503: "nginx", or "command" with freeze.marker; '
                f"here is {driver}"
            )
        return self

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
