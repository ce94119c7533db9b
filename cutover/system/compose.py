"""Docker Compose: command lines as values, and the rendered configuration of one color."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cutover.core.config import Settings
from cutover.core.config_schema import EnvKeys, parse_duration
from cutover.core.errors import ConfigError
from cutover.core.masking import MASK, secrets_in, secrets_of
from cutover.system import process
from cutover.system.container import GRACE_S, Container
from cutover.system.process import Argv, of_each
from cutover.system.swarm import COMPLETED, Content, contents_of, one_offs_of, stack_of

COMPOSE_DEADLINE_S = 30.0
MOST_SECRET_BYTES = 65_536  # of a file that is mounted: a secret is short
MIN_VERSION = (2, 28)
"""The oldest Compose that is tested."""
NOT_ONE_OFF = ("depends_on", "links", "container_name", "ports", "profiles")
"""Keys of a service that a one-off container does not get: they name other services, or what only one may have."""
REPLACED = "\ufffd"
"""What Compose makes of a byte that is not UTF-8."""
MISSING = re.compile(r"required variable \S+ is missing a value")
UNSET = re.compile(r"The \W*(\w+)\W* variable is not set")

ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  addresses that are read, not bound
DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = tuple(
    f"{name}.override.{end}" for name in ("compose", "docker-compose") for end in ("yml", "yaml")
)


@dataclass(frozen=True, slots=True)
class Compose:
    """One Compose project with its file and env file."""

    project: str
    file: Path
    env_file: Path | None = None
    overrides: tuple[Path, ...] = ()
    """Further files, merged onto *file* in this order."""
    restore_script = "restore-service.sh"

    def at(self, file: Path) -> Compose:
        """Return the same project with the release file *file* only."""
        return Compose(self.project, file)

    def words(self, *rest: str) -> Argv:
        """Return the argv of `docker compose` for this project."""
        env = ("--env-file", str(self.env_file)) if self.env_file else ()
        files = [word for path in (self.file, *self.overrides) for word in ("--file", str(path))]
        return ("docker", "compose", "--project-name", self.project, *files, *env, *rest)

    def up(self, *services: str, wait_s: float) -> Argv:
        """Return the argv that creates or recreates *services*, without pulling and without their dependencies.

        It waits until they are healthy, at most *wait_s* seconds; 0: it does not wait.
        """
        wait = ("--wait", "--wait-timeout", str(max(1, round(wait_s)))) if wait_s else ()
        return self.words("up", "--detach", "--no-deps", "--pull", "never", *wait, *services)

    def stop(self, *services: str) -> Argv:
        """Return the argv that stops *services* within their stop_grace_period."""
        return self.words("stop", *services)

    def stop_without_file(self, _services: Sequence[str], running: Sequence[Container]) -> list[Argv]:
        """Return the argv that stops the *running* containers."""
        return [("docker", "stop", *(each.id for each in running))] if running else []


@dataclass(frozen=True, slots=True)
class Rendered:
    """The rendered Compose configuration of one color with one tag."""

    color: str
    project: str
    text: str
    """The release file: JSON, which Compose reads as YAML; `$` is escaped as `$$`."""
    model: Mapping[str, Any]
    variables: Mapping[str, str]
    """The variables of the env file, as Compose reads them."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Service → its config hash, if `text` is not what Compose could hash: a stack."""
    contents: tuple[Content, ...] = ()
    """The configs and secrets that a stack names."""

    @property
    def is_stack(self) -> bool:
        """Whether `text` is a stack of Docker Swarm; `model` is what Compose rendered all the same."""
        return bool(self.hashes)

    def service(self, name: str) -> Mapping[str, Any]:
        """Return one service of the model; raises ConfigError if there is none of that name."""
        services = self.model.get("services") or {}
        if name not in services:
            known = ", ".join(services) or "no service at all"
            raise ConfigError(f"services names {name!r}, the compose file of {self.color} has {known}")
        found: Mapping[str, Any] = services[name]
        return found

    def image(self, service: str) -> str:
        """Return `repo:tag` of *service*; raises ConfigError for a service that has only `build`."""
        name = self.service(service).get("image")
        if not name:
            raise ConfigError(f"service {service!r} names no image: a release is an image with a tag")
        return str(name)

    def tag(self, service: str) -> str:
        """Return the image tag of *service*; empty for an image that is named by digest."""
        name = self.image(service).split("@", 1)[0]
        return name.rsplit(":", 1)[1] if ":" in name.rsplit("/", 1)[-1] else ""

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of the container, with `$$` unescaped."""
        given = self.service(service).get("environment") or {}
        return {key: str(value).replace("$$", "$") for key, value in given.items() if value is not None}

    def grace_s(self, service: str) -> float:
        """Return the stop_grace_period of *service* in seconds."""
        given = self.service(service).get("stop_grace_period")
        return parse_duration(given) if given else GRACE_S

    def one_shots(self, services: Sequence[str]) -> list[str]:
        """Return the services that *services* wait for to complete, each after those that it waits for itself."""
        found: dict[str, None] = {}
        for service in services:
            waited = [name for name, how in self.depends_on(service).items() if how == COMPLETED]
            found |= dict.fromkeys(name for each in waited for name in (*self.one_shots([each]), each))
        return [name for name in found if name not in services]

    def depends_on(self, service: str) -> dict[str, str]:
        """Return the services that *service* must not be started without, each with its condition."""
        rows = ((self.model.get("services") or {}).get(service) or {}).get("depends_on") or {}
        needed = {name: how for name, how in rows.items() if how.get("required", True)}
        return {name: str(how.get("condition", "")) for name, how in needed.items()}

    def port(self, service: str) -> int:
        """Return the first published host port of *service*; 0 if there is none."""
        return next((port for _, port in self.published(service)), 0)

    def address(self, service: str) -> str:
        """Return the host of a URL at which `port` is reached from here: loopback, unless only another one has it."""
        hosts = [host for host, port in self.published(service) if port == self.port(service)]
        host = next(filter(is_loopback, hosts), next(iter(hosts), ""))
        if ":" in host:
            return "[::1]" if host == "::" else f"[{host}]"
        return "127.0.0.1" if host in ANY else host

    def inner_port(self, service: str) -> int:
        """Return the container port of `port`; 0 if there is none."""
        return next((int(row.get("target", 0)) for row in self._published_rows(service)), 0)

    def published(self, service: str) -> list[tuple[str, int]]:
        """Return host address and port of each published TCP port; of a range the first one."""
        return [
            (str(row.get("host_ip") or ""), int(str(row["published"]).split("-", 1)[0]))
            for row in self._published_rows(service)
        ]

    def _published_rows(self, service: str) -> list[Mapping[str, Any]]:
        rows = self.service(service).get("ports") or ()
        return [row for row in rows if row.get("published") and row.get("protocol", "tcp") == "tcp"]


def is_loopback(host: str) -> bool:
    """Whether a port that is published on *host* is reached by loopback too."""
    return host in ANY or ip_address(host).is_loopback


def render(settings: Settings, color: str, tag: str | None = None) -> Rendered:
    """Return the rendered configuration of *color*, with *tag* instead of the tag in its env file.

    Compose reads the env file in a clean environment; its values are masked from now on. Raises ConfigError.
    """
    env_file, key = settings.colors[color].env_file, settings.env_keys.tag
    files = [(settings.compose_file, "compose_file"), (env_file, f"colors.{color}.env_file")]
    for path, name in [*files, *((each, "compose_overrides") for each in settings.compose_overrides)]:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file ({name} in {settings.source})")
    project = settings.compose_project(color)
    compose = Compose(project, settings.compose_file, env_file, settings.compose_overrides)
    override = {key: tag} if tag else {}
    with ThreadPoolExecutor(2) as pool:  # two calls of 0.1 s each
        config = pool.submit(_config, compose, override)
        variables = pool.submit(read_variables, env_file, override)
        text, values = config.result(), variables.result() | override
    text = with_tag(text, key, values.get(key, ""))
    model = json.loads(text)
    folders = (settings.source.absolute(), settings.state, settings.reports.absolute())
    MASK.show([tag or "", settings.project, *(part for path in folders for part in path.parts)])
    learn_secrets(model, values, settings.env_keys)
    rendered = Rendered(color, compose.project, text, model, values)
    _require_active(settings, rendered)
    _require_text(rendered)
    return as_stack(settings, rendered) if settings.platform.kind == "swarm" else rendered


def as_stack(settings: Settings, rendered: Rendered) -> Rendered:
    """Return *rendered* with a release file for `docker stack deploy`; raises ConfigError for what it cannot have."""
    model, project, services = rendered.model, rendered.project, settings.services
    hashes = config_hashes(Compose(project, Path("-")), rendered.text)
    contents = contents_of(model, project, services, rendered.variables)
    if contents:  # Compose hashes where they come from, not what they hold
        names = " ".join(each.name for each in contents)
        hashes = {key: hashlib.sha256(f"{each} {names}".encode()).hexdigest() for key, each in hashes.items()}
    stack = stack_of(model, project, services, hashes, contents)
    text = json.dumps(stack, indent=2, ensure_ascii=False)
    return replace(rendered, text=text, hashes=hashes, contents=contents)


def with_digests(rendered: Rendered, digests: Mapping[str, str]) -> Rendered:
    """Return *rendered* with the image of each service of *digests* named by it too: `repository:tag@sha256:…`.

    The config hash stays that of the name in the compose file, so that it does not depend on this host.
    """
    names = {
        service: f"{name}@{digest.partition('@')[2]}"
        for service, digest in digests.items()
        if digest and "@" not in (name := rendered.image(service))
    }
    text, model = json.loads(rendered.text), dict(rendered.model)
    for file in (text, model):
        file["services"] = {
            service: dict(row) | ({"image": names[service]} if service in names else {})
            for service, row in file["services"].items()
        }
    return replace(rendered, text=json.dumps(text, indent=2, ensure_ascii=False), model=model)


def _require_active(settings: Settings, rendered: Rendered) -> None:
    """Raise ConfigError if a released service is only there with a profile that is not active."""
    there = rendered.model.get("services") or {}
    missing = [each for each in (*settings.services, *settings.workers) if each not in there]
    every = (read_source(settings, rendered.color).get("services") or {}) if missing else {}
    for name in missing:
        if profiles := (every.get(name) or {}).get("profiles"):
            env_file = settings.colors[rendered.color].env_file
            what = f"service {name!r} has profiles {', '.join(profiles)}, and none of them is active"
            way_out = f"COMPOSE_PROFILES={profiles[0]} in {env_file}, or take the profile off"
            raise ConfigError(f"{what}: {way_out}")


def _require_text(rendered: Rendered) -> None:
    """Raise ConfigError for a variable of which Compose has replaced a byte that is not UTF-8."""
    for name in rendered.model.get("services") or {}:
        for key, value in rendered.environment(name).items():
            if REPLACED in value:
                what = f"service {name!r}: {key} has a byte that is not UTF-8"
                raise ConfigError(f"{what}: save the file that it comes from (env_file) as UTF-8")


def read_variables(env_file: Path, override: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of *env_file* by name; *override* is what its references to other variables get first.

    `docker compose config` reads it, as `env_file` of a service of ours: python-dotenv reads the format differently.
    Raises ConfigError that names the file and, for what is not UTF-8, the line.
    """
    read_text(env_file)
    escaped = str(env_file.absolute()).replace("$", "$$")
    document = {"services": {"reader": {"image": "reader", "env_file": [escaped]}}}
    argv = ("docker", "compose", "--project-name", "reader", "--file", "-", "config", "--format", "json")
    stdin = json.dumps(document).encode()
    done = process.run(
        argv, deadline_s=COMPOSE_DEADLINE_S, environment=override, stdin=stdin, cwd="/", mask=False
    )
    if not done.ok:
        require_compose()
        raise ConfigError(f"{env_file}: {MASK(done.last_line)}")
    found = json.loads(done.out)["services"]["reader"].get("environment") or {}
    return {key: str(value).replace("$$", "$") for key, value in found.items() if value is not None}


def read_text(path: Path) -> str:
    """Return the text of an env file, each byte as it is; raises ConfigError that names the line of a wrong one."""
    try:
        content = path.read_bytes()
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8"
        raise ConfigError(f"{path}: {what}: save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{path}: line {line}: holds a NUL character, which no environment can carry")
    return text


def with_tag(text: str, key: str, tag: str) -> str:
    """Return the rendered configuration *text* in which a container that gets the variable *key* gets *tag*.

    Compose passes on the value in the `env_file:` of a service, which may be the tag of the release before.
    """
    model = json.loads(text)
    given = [each.get("environment") or {} for each in (model.get("services") or {}).values()]
    stale = [each for each in given if tag and each.get(key) not in {None, tag}]
    for each in stale:
        each[key] = tag.replace("$", "$$")
    return json.dumps(model, indent=2, ensure_ascii=False) if stale else text


def learn_secrets(model: Mapping[str, Any], variables: Mapping[str, str], keys: EnvKeys) -> None:
    """Mask the secrets of an env file and of everything that the rendered *model* passes into a container.

    Tags, and the names of projects, services and images, are never masked.
    """
    services = model.get("services") or {}
    images = [str(each["image"]) for each in services.values() if each.get("image")]
    parts = [word for each in images for word in re.split("[/:@]", each)]
    MASK.show([str(model.get("name") or ""), *services, *images, *parts])
    MASK.learn_environment(variables, keys.public, keys.masked)
    for service in services.values():
        for key, of in (("environment", service), ("labels", service), ("args", service.get("build") or {})):
            given = (of.get(key) or {}).items()
            rows = {name: str(value).replace("$$", "$") for name, value in given if value}
            MASK.learn_environment(rows, keys.public, keys.masked)
        health = (service.get("healthcheck") or {}).get("test")
        for words in (service.get("entrypoint"), service.get("command"), health):
            line = " ".join(words) if isinstance(words, list) else str(words or "")
            MASK.learn(secrets_in(line.replace("$$", "$")))
        mounts = [each for each in service.get("volumes") or () if each.get("type") == "bind"]
        MASK.learn(found for each in mounts for found in secrets_in(_small_text(each.get("source"))))
    for each in (model.get("secrets") or {}).values():
        text = _content(each, variables).strip()
        MASK.learn({text} | secrets_of("SECRET", text))
    for name, each in (model.get("configs") or {}).items():
        MASK.learn(secrets_of(name, _content(each, variables)))


def _content(given: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """What a secret or config of the model holds; empty if that cannot be known."""
    inline = given.get("content") or variables.get(str(given.get("environment") or ""))
    return str(inline).replace("$$", "$") if inline else _small_text(given.get("file"))


def _small_text(path: object) -> str:
    try:
        file = Path(str(path or os.devnull))
        small = file.is_file() and file.stat().st_size <= MOST_SECRET_BYTES
        return file.read_text(errors="replace") if small else ""
    except OSError:
        return ""


def one_shots_of(settings: Settings, rendered: Rendered) -> list[str]:
    """Return the services that a release runs to their end before those that wait for them; not that of [migrate]."""
    own = settings.migrate.service if settings.migrate else ""
    found = rendered.one_shots((*settings.services, *settings.workers))
    return [name for name in found if name != own]


def one_off_services(settings: Settings, rendered: Rendered) -> list[str]:
    """Return all services that a release runs in one-off containers: migration, its rehearsal, one-shot services."""
    migrate, snapshot = settings.migrate, settings.snapshot
    rehearsed = [settings.service] if migrate and snapshot.enabled and snapshot.rehearse else []
    own = [migrate.service, *rehearsed] if migrate else []
    return [*dict.fromkeys([*own, *one_shots_of(settings, rendered)])]


def one_off_contents(rendered: Rendered, services: Sequence[str]) -> tuple[Content, ...]:
    """Return the configs and secrets of *services* that are files for their one-off containers; raises ConfigError.

    Compose reads them where the compose file says; only for a stack they are written, as in a task readable for
    every user.
    """
    if not rendered.is_stack:
        return ()
    return contents_of(rendered.model, rendered.project, services, rendered.variables)


def one_off_model(rendered: Rendered, services: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the model with *services* alone, as `docker compose run` takes it; raises ConfigError.

    *folder* is where `one_off_contents` are.
    """
    alone = {
        name: {key: value for key, value in rendered.service(name).items() if key not in NOT_ONE_OFF}
        for name in services
    }
    model = dict(rendered.model) | {"services": alone}
    return one_offs_of(model, one_off_contents(rendered, services), folder) if rendered.is_stack else model


def render_colors(settings: Settings) -> dict[str, Rendered]:
    """Return each color that has an env file as `render` does; raises ConfigError if none has."""
    have = colors_with_file(settings)
    return dict(zip(have, of_each(lambda color: render(settings, color), have), strict=True))


def colors_with_file(settings: Settings) -> list[str]:
    """Return the colors that have an env file; raises ConfigError if none has."""
    have: list[str] = [color for color, each in settings.colors.items() if each.env_file.is_file()]
    if not have:
        first = next(iter(settings.colors.values()))
        raise ConfigError(f"{first.env_file}: no such file (colors.*.env_file in {settings.source})")
    return have


def named_files(variables: Mapping[str, str]) -> list[str]:
    """Return the compose files that COMPOSE_FILE in *variables* names; none if it is not set."""
    separator = variables.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return [name for name in variables.get("COMPOSE_FILE", "").split(separator) if name]


def override_beside(compose_file: Path) -> Path | None:
    """Return the file that `docker compose` merges onto *compose_file* unasked; None if there is none."""
    if compose_file.name not in DEFAULT_FILES:
        return None
    beside = (compose_file.with_name(name) for name in OVERRIDES)
    return next((path for path in beside if path.is_file()), None)


def read_source(settings: Settings, color: str) -> dict[str, Any]:
    """Return the model with all profiles before variables are replaced; empty if Compose cannot print it."""
    files = (settings.compose_file, settings.colors[color].env_file, settings.compose_overrides)
    compose = Compose(settings.compose_project(color), *files)
    argv, every = compose.words("config", "--no-interpolate", "--format", "json"), {"COMPOSE_PROFILES": "*"}
    done = process.run(argv, deadline_s=COMPOSE_DEADLINE_S, environment=every, mask=False)
    found: dict[str, Any] = json.loads(done.out) if done.ok else {}
    return found


def _config(compose: Compose, override: Mapping[str, str]) -> str:
    argv = compose.words("config", "--format", "json")
    done = process.run(argv, deadline_s=COMPOSE_DEADLINE_S, environment=override, mask=False)
    if not done.ok:
        require_compose()  # an old Compose only says "unknown flag"
        where = f"{compose.env_file}: " if MISSING.search(done.err) else ""
        raise ConfigError(f"{where}docker compose config: {MASK(done.last_line)}")
    if unset := UNSET.search(done.err):  # only a warning for Compose
        raise ConfigError(f"{compose.env_file}: {unset[1]} is not set, and the compose file uses it")
    return done.out


def config_hashes(compose: Compose, text: str | None = None) -> dict[str, str]:
    """Return service → config hash, as Compose labels the container. *text* is the content of the file `-`."""
    stdin = None if text is None else text.encode()
    done = process.run(compose.words("config", "--hash", "*"), deadline_s=COMPOSE_DEADLINE_S, stdin=stdin)
    if not done.ok:
        raise ConfigError(f"docker compose config --hash: {done.last_line}")
    rows = (line.partition(" ") for line in done.out.splitlines())
    return {service: label.strip() for service, _, label in rows if label}


def has_known_hash(service: Mapping[str, Any]) -> bool:
    """Return whether `config --hash` is the label of the container.

    It is not where the service refers to another container, whose id Compose fills in before it hashes.
    """
    modes = (str(service.get(key) or "") for key in ("network_mode", "pid", "ipc"))
    joins = any(each.startswith(("service:", "container:")) for each in modes)
    return not service.get("volumes_from") and not joins


def require_compose() -> None:
    """Raise ConfigError if `docker compose` is missing or older than `MIN_VERSION`."""
    done = process.run(("docker", "compose", "version", "--short"), deadline_s=COMPOSE_DEADLINE_S)
    needed, version = f"{'.'.join(map(str, MIN_VERSION))} or newer is needed", done.out.strip()
    if not done.ok:
        raise ConfigError(f"docker compose does not answer: {done.last_line}; Compose {needed}")
    if parse_version(version) < MIN_VERSION:
        raise ConfigError(f"docker compose is {version}: too old, {needed}")


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version like `v2.28.1-desktop.1` or `2.3.3+ds1`; empty if there are none."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in numbers[1].split(".")) if numbers else ()
