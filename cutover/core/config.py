"""Find, read and validate `cutover.toml`. Errors name the file, the key and the allowed values."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from cutover.core import config_schema as schema
from cutover.core.errors import ConfigError
from cutover.core.text import count, duration

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

CONFIG_PATHS = ("cutover.toml", "deploy/cutover.toml")
HOLD_MARGIN_S = 15.0
"""What a release on several hosts needs for each batch beside watch and drain: its gate, and the confirmation."""
EXAMPLES = {"project": 'project = "shop"', "colors": '[colors.blue] with env_file = ".env.blue"'}


class Settings(schema.Section):
    """The content of `cutover.toml`. Paths are absolute after `load_config`."""

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name of the service: the state directory and the Compose projects are called after it."""
    compose_file: schema.ConfigPath = Field(Path("docker-compose.yml"), validate_default=True)
    """The Compose file of the service."""
    compose_overrides: tuple[schema.ConfigPath, ...] = ()
    """Further compose files, merged onto `compose_file` in this order.

    Without this key a release is refused if `docker compose up` would merge an override file that lies beside
    `compose_file`; `[]` leaves that file out.
    """
    services: tuple[schema.Name, ...] = Field(("api",), min_length=1)
    """Released, identified, watched and reverted together, in all replicas; the first one receives the traffic."""
    workers: tuple[schema.Name, ...] = ()
    """Consumers that must not run on both colors: they move with the traffic."""
    shared_network: str = Field("", pattern=f"^({schema.NAME})?$")
    """A Docker network that both colors join; it is created if it is missing."""
    env_keys: schema.EnvKeys = schema.EnvKeys()
    data_profiles: tuple[str, ...] = ("db", "cache", "ai")
    """Compose profiles of databases; of two colors an env file that starts one is refused: each would have its own."""
    env_template: schema.ConfigPath | None = None
    """The template that `cutover env check` compares the env files with."""
    state_dir: schema.ConfigPath | None = None
    """Default: `/var/lib/cutover/<project>` for root, else below `$XDG_STATE_HOME/cutover`; never inside a checkout."""
    reports: schema.ConfigPath = Field(Path("reports"), validate_default=True)
    """The folder of the reports; each session makes a folder in it."""
    release_timeout: schema.Period = 7200.0
    """How long a session may last; after it, its guard reverts the release."""
    colors: dict[str, schema.Color] = Field(min_length=1)
    platform: schema.Platform = schema.Platform()
    version: schema.Version | None = None
    ready: schema.Ready = schema.Ready()
    gate: schema.Gate = schema.Gate()
    logs: schema.Logs = schema.Logs()
    endpoints: tuple[schema.Endpoint, ...] = ()
    proxy: schema.Proxy | None = None
    watch: schema.Watch = schema.Watch()
    compare: schema.Compare | None = None
    checks: schema.Checks = schema.Checks()
    volumes: schema.Volumes = schema.Volumes()
    migrate: schema.Migrate | None = None
    database: schema.Database | None = None
    snapshot: schema.Snapshot = schema.Snapshot()
    slo: schema.Slo = schema.Slo()
    dependencies: tuple[schema.Dependency, ...] = ()
    alerts: schema.Alerts | None = None
    freeze: schema.Freeze | None = None
    hooks: schema.Hooks | None = None
    approval: schema.Approval = schema.Approval()
    hosts: schema.Hosts | None = None
    source: Path = Path("cutover.toml")
    """The file that was read."""

    @field_validator("colors")
    @classmethod
    def _two_colors(cls, colors: dict[str, schema.Color]) -> dict[str, schema.Color]:
        wrong = sorted(set(colors) - {"blue", "green"})
        if wrong:
            raise ValueError(f"unknown color {wrong[0]!r}; allowed: blue, green")
        return colors

    @model_validator(mode="after")
    def _tables_fit_together(self) -> Settings:
        if problems := [*self._problems()]:
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        driver = self.proxy.driver if self.proxy else "no proxy"
        if self.freeze and driver != "nginx" and not (driver == "command" and self.freeze.marker):
            need = '[freeze] needs a driver that answers writes with 503: "nginx", or "command" with freeze.marker'
            yield f"{need}; here is {driver}"
        yield from self._platform_problems(driver)
        yield from self._names_used_twice()
        if problem := self.watch_problem(self.watch.duration):
            yield f"watch.duration: {problem}"
        given = {name: getattr(self.slo, name) for name in ("p50", "p95", "p99")}
        limits = [(name, limit) for name, limit in given.items() if limit is not None]
        for (lower, low), (higher, high) in pairwise(limits):
            if low > high:
                yield f"slo.{lower} is {low:g}s, longer than slo.{higher} ({high:g}s)"
        if self.hosts and not self.proxy:
            yield "[hosts] needs [proxy]: the traffic of each host is switched"
        if self.hosts and (
            problem := self.hold_problem(self.hosts.hold, self.watches(len(self.hosts.names)))
        ):
            yield f"hosts.hold: {problem}"
        elif self.hosts and (problem := next(filter(None, map(self.watch_problem, self.hosts.watch)), "")):
            yield f"hosts.watch: {problem}"
        if self.ready.tcp and self.proxy:
            yield "[ready] tcp: a proxy accepts connections for a dead service too; with [proxy] give [ready] path"

    def _platform_problems(self, driver: str) -> Iterator[str]:
        if self.platform.nodes and self.platform.kind != "swarm":
            yield '[platform] nodes needs kind = "swarm"; other hosts are named in [hosts]'
        if self.platform.kind == "swarm":
            found = []
            if self.workers:
                found.append("workers (a stack is deployed as a whole, so they would run on both colors)")
            if driver == "port-swap":
                found.append('[proxy] driver = "port-swap" (a stack is not recreated on another port)')
            if found:
                yield f'[platform] kind = "swarm" cannot do {"; ".join(found)}; leave it out'
        if self.platform.fronts and driver not in {"nginx", "traefik"}:
            yield f'[platform] fronts needs [proxy] driver = "nginx" or "traefik"; here is {driver}'
        others = {"[freeze]": self.freeze, "[hosts]": self.hosts}
        if self.platform.fronts and (cannot := [name for name, value in others.items() if value]):
            yield f"[platform] fronts cannot do {', '.join(cannot)}; leave it out"

    def _names_used_twice(self) -> Iterator[str]:
        # A check of the watch counts and judges by the name.
        for what, todo, names in (
            ("services and workers", "name each service once", (*self.services, *self.workers)),
            ("endpoints", "give each a name of its own", [each.label for each in self.endpoints]),
            ("dependencies", "give each a name of its own", [each.name for each in self.dependencies]),
        ):
            if found := schema.twice(names):
                yield f"{what} name {', '.join(found)} twice; {todo}"
        if len(self.colors) > 1:
            blue, green = self.colors["blue"], self.colors["green"]
            if blue.env_file == green.env_file:
                yield f"colors.green.env_file: {green.env_file} is blue's; each color needs its own"
            if self.compose_project("blue") == self.compose_project("green"):
                project = self.compose_project("green")
                yield f"colors.green.project: {project!r} is blue's; each color needs its own"

    def watch_problem(self, watch_s: float) -> str:
        """Why a session that watches for *watch_s* seconds cannot end in time; empty if it can."""
        drain_s = self.proxy.drain_timeout if self.proxy else 0.0
        if watch_s + drain_s < self.release_timeout:
            return ""
        rest = f" and a drain of at most {duration(drain_s)}" if drain_s else ""
        return (
            f"a watch of {duration(watch_s)}{rest} does not end within release_timeout"
            f" ({duration(self.release_timeout)}), when the guard reverts the release; shorten it or raise that"
        )

    def watches(self, hosts: int, watch_s: float | None = None) -> tuple[float, ...]:
        """How long each batch of a release on *hosts* servers is watched: *watch_s*, `[hosts] watch`, `[watch]`."""
        if self.hosts is None:
            return ()
        default: tuple[float, ...] = self.hosts.watch or (self.watch.duration,)
        given = default if watch_s is None else (watch_s,)
        sizes = schema.batch_sizes(self.hosts.batches, hosts)
        return tuple(given[min(number, len(given) - 1)] for number in range(len(sizes)))

    def hold_problem(self, hold_s: float, watches: Sequence[float]) -> str:
        """Why a hold of *hold_s* seconds ends before all batches are watched for *watches*; empty if it does not."""
        drain_s = self.proxy.drain_timeout if self.proxy else 0.0
        least = sum(watches) + len(watches) * (drain_s + HOLD_MARGIN_S)
        if hold_s > least:
            return ""
        what = f"gate, watch and drain of {count(len(watches), 'batch', 'batches')}"
        return (
            f"{duration(hold_s)} is too short: {what} take up to {duration(least)},"
            " and a host would revert before the others are confirmed; make it longer"
        )

    def compose_project(self, color: str) -> str:
        """The name of the Compose project of *color*."""
        return self.colors[color].project or f"{self.project}_{color}"

    @property
    def service(self) -> str:
        """The service that receives the traffic: the first of `services`."""
        return self.services[0]

    @property
    def marker(self) -> Path:
        """The marker directory of the nginx driver."""
        given = self.proxy.marker_dir if self.proxy else None
        return given or self.state.parent / f"{self.project}-live"

    @property
    def state(self) -> Path:
        """The state directory, outside of any checkout."""
        return self.state_dir or default_state_root() / self.project


def default_state_root() -> Path:
    """Return `/var/lib/cutover` for root, else `cutover` in the XDG state directory of the user."""
    if os.geteuid() == 0:
        return Path("/var/lib/cutover")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "cutover"


def find_config(given: str | None, environment: Mapping[str, str], here: Path) -> Path:
    """Return the path of the configuration file: option, `CUTOVER_CONFIG`, then the default paths below *here*.

    Raises ConfigError if there is none.
    """
    named = (environment.get("CUTOVER_CONFIG") or None) if given is None else given
    if named is not None:
        path = here / named
        if not path.is_file():
            origin = "CUTOVER_CONFIG" if given is None else "--cutover-config"
            raise ConfigError(f"{named}: no such file (from {origin})")
        return path.resolve()
    for name in CONFIG_PATHS:
        if (here / name).is_file():
            return (here / name).resolve()
    looked = f"looked for {' and '.join(CONFIG_PATHS)} in {here}"
    raise ConfigError(f"no cutover.toml: {looked}; write one or pass --cutover-config=FILE")


def url_config() -> Settings:
    """Return the configuration for a URL target without `cutover.toml`: the defaults, with `[version]`."""
    blue = schema.Color(env_file=Path(".env"))
    return Settings(project="url", colors={"blue": blue}, version=schema.Version())


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and validate *path*. `CUTOVER_STATE_DIR` and `CUTOVER_REPORTS` in *environment* override the file.

    Raises ConfigError that names the file, the key and the allowed values.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for key, variable in (("state_dir", "CUTOVER_STATE_DIR"), ("reports", "CUTOVER_REPORTS")):
        value = (environment or {}).get(variable)
        if value:
            table[key] = str(Path(value).absolute())
    try:
        settings = Settings.model_validate(table | {"source": path}, context={"base": path.parent})
    except ValidationError as error:
        found = error.errors(include_url=False)
        below = {each["loc"][:length] for each in found for length in range(len(each["loc"]))}
        # A list without its bad items can be too short as well: what is wrong inside says more.
        mistakes = dict.fromkeys(
            line
            for each in found
            if each["loc"] not in below or not each["loc"]
            for line in _mistake(each).splitlines()
        )
        raise ConfigError("\n".join(f"{path}: {each}" for each in mistakes)) from error
    if problems := [*_path_problems(settings), *_check_name_problems(settings)]:
        raise ConfigError("\n".join(f"{path}: {each}" for each in problems))
    return settings


def _path_problems(settings: Settings) -> Iterator[str]:
    """What cannot be looked at, and what stands where a folder or a file is needed, like a FIFO to be read for ever."""
    proxy = settings.proxy
    folders = {"state_dir": settings.state, "reports": settings.reports}
    if proxy and proxy.driver == "nginx":
        folders["proxy.marker_dir"] = settings.marker
    files = [("compose_file", settings.compose_file)]
    files += [("compose_overrides", each) for each in settings.compose_overrides]
    files += [("env_template", settings.env_template)] if settings.env_template else []
    files += [(f"colors.{color}.env_file", each.env_file) for color, each in settings.colors.items()]
    closed = [each for each in (*folders.items(), *files) if _is_closed(each[1])]
    yield from (
        f"{key}: {path}: permission denied; run it as a user who may look there" for key, path in closed
    )
    for key, folder in (each for each in folders.items() if each not in closed):
        there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
        if not there.is_dir():
            yield f"{key}: {there} is a file, and a folder is needed"
    log = proxy.access_log if proxy and not settings.platform.fronts else None
    if log and not _is_closed(log) and log.exists() and not log.is_file():
        yield f"proxy.access_log: {log} is no regular file; name the file that the proxy appends to"


def _is_closed(path: Path) -> bool:
    """Whether this user may not search a folder above *path*."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _check_name_problems(settings: Settings) -> Iterator[str]:
    """What `[checks]` lists and is no check: a mistake there would leave the check in force without a word."""
    checks = settings.checks
    endpoints, dependencies = settings.endpoints, settings.dependencies
    of_team = (*(each.label for each in endpoints), *(f"dependency {each.name}" for each in dependencies))
    known = (*schema.GATE_CHECKS, *schema.WATCH_CHECKS, *schema.SHARED_CHECKS, *of_team, *checks.own)
    names = list(dict.fromkeys(known))
    for key, given in (("checks.off", checks.off), ("checks.report_only", checks.report_only)):
        for name in (each for each in dict.fromkeys(given) if each not in names):
            near = difflib.get_close_matches(name, names, 1, 0.5)
            allowed = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}."
            own = "A check of your own is to be named in checks.own"
            yield f"{key}: unknown check {name!r}; {allowed} {own}"


def _mistake(found: ErrorDetails) -> str:
    key = ".".join(str(part) for part in found["loc"] if part != "[key]")
    if found["type"] == "extra_forbidden":
        return f"unknown key {key!r}; allowed here: {', '.join(_allowed_keys(found['loc'][:-1]))}"
    if found["type"] == "missing":
        return f"key {key!r} is missing" + (f": add {EXAMPLES[key]}" if key in EXAMPLES else "")
    message = found["msg"].removeprefix("Value error, ")
    names_value = found["type"] == schema.NO_JSON or isinstance(found["input"], dict)
    names_value = names_value or repr(found["input"]) in message
    lowered = message if message[1:2].isupper() else f"{message[0].lower()}{message[1:]}"
    return f"{f'{key}: ' if key else ''}{lowered}" + ("" if names_value else f", got {found['input']!r}")


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for n, f in model.model_fields.items() if part in {n, f.alias}), None)
        if field is None:
            continue  # the name of a color: its keys are those of the table
        model = _model_in(field.annotation) or model
    return sorted((field.alias or name) for name, field in model.model_fields.items() if name != "source")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The table in an annotation like `tuple[schema.Endpoint, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found:
            return found
    return None
