"""Adopt a service that runs under Compose: read its project, and draft what releases need. Nothing is written here."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cutover.core.config import default_state_root
from cutover.core.config_schema import EnvKeys
from cutover.core.errors import ConfigError
from cutover.core.masking import MASK
from cutover.core.text import near
from cutover.env.compose_rules import (
    STORES,
    TCP,
    Service,
    health_command_of,
    port_variable,
    raw_ports,
    runs_as_root,
    split_image,
    split_outside,
    variable_of,
)
from cutover.env.envfile import quote_value, read_env_file
from cutover.system import process
from cutover.system.compose import (
    COMPOSE_DEADLINE_S,
    DEFAULT_FILES,
    learn_secrets,
    named_files,
    override_beside,
    require_compose,
)

PASSED_ON = ("COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES")
REFERENCE = re.compile(r"\$\$|\$\{?(?P<name>[A-Za-z_]\w*)(?P<default>:?[-+])?")
REQUEST = re.compile(r"(?:https?://[^/\s'\"]+|\b(?:localhost|127\.0\.0\.1)(?::\d+)?)(?P<path>/[^\s'\"|;)&]*)")
PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")
"""Anchor and tag of a node of YAML."""
CHANGED_KEYS = frozenset({"image", "container_name", "ports", "networks"})
"""What may change in a released service."""
COMPOSE_OWN = frozenset({"COMPOSE_PROJECT_NAME", "PWD", "HOME", "PATH"})
SAID = "docker compose config: "
DIGITS = "1"  # stands for a variable without value, also for one that must be a number
PROXY_PORT = 8080  # of the shipped proxy configurations
FIRST_PORT = 8000  # of blue in the shipped proxy configurations; green has the next one
PROXY_FILES = {
    "nginx": ("cutover.conf",),
    "traefik": ("traefik.yml", "cutover.yml.blue", "cutover.yml.green"),
    "haproxy": ("haproxy.cfg", "switch.sh"),
}


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """A Compose project as `docker compose up` in its folder would run it."""

    folder: Path
    files: tuple[Path, ...]
    name: str
    model: Mapping[str, Any]
    source: Mapping[str, Any]
    """The same with all profiles, before variables were replaced; empty if Compose cannot print it."""
    values: Mapping[str, str]
    """The variables of `.env`."""
    variables: Mapping[str, bool]
    """The variables that the files use, and whether each has a default."""

    @property
    def without_value(self) -> list[str]:
        """The variables that have neither a default nor a value in `.env`."""
        return _without_value(self.variables, self.values)

    def is_unknown(self, text: str) -> bool:
        """Whether *text*, as it is written, needs a variable without a value: the model has a stand-in there."""
        return any(each["name"] in self.without_value for each in REFERENCE.finditer(text))

    def shown(self, path: Path) -> str:
        """*path* relative to the folder if it is below it."""
        return str(near(path, self.folder))

    @property
    def services(self) -> Mapping[str, Service]:
        """The services of the model."""
        found: Mapping[str, Service] = self.model.get("services") or {}
        return found

    def raw(self, service: str) -> Service:
        """The service before variables were replaced."""
        found: Service = (self.source.get("services") or self.services).get(service) or {}
        return found


# --- reading ----------------------------------------------------------------------------------------------------
def compose_files(
    folder: Path, given: Sequence[str], environment: Mapping[str, str], values: Mapping[str, str]
) -> tuple[Path, ...]:
    """Return the files that Compose would merge: `-f`, `COMPOSE_FILE`, then the default names with their override.

    Raises ConfigError for a file that is missing.
    """
    wanted = [*given] or named_files({**values, **environment})
    for name in wanted:
        if not (folder / name).is_file():
            raise ConfigError(f"{name}: no such file (from {'--file' if given else 'COMPOSE_FILE'})")
    if not wanted:
        wanted = [name for name in DEFAULT_FILES if (folder / name).is_file()][:1]
        if not wanted:
            looked = f"looked for {', '.join(DEFAULT_FILES)}"
            raise ConfigError(f"no compose file in {folder}: {looked}; name one with --file")
        beside = override_beside(folder / wanted[0])
        wanted += [beside.name] if beside else []
    return tuple(folder / name for name in wanted)


def read_project(folder: Path, given: Sequence[str], environment: Mapping[str, str]) -> ComposeProject:
    """Return the project in *folder*, read through Compose; raises ConfigError with the words of Compose."""
    values = read_env_file(folder / ".env") if (folder / ".env").is_file() else {}
    files = compose_files(folder, given, environment, values)
    text = "\n".join(_without_comments(path) for path in files)
    found = [each for each in REFERENCE.finditer(text) if each["name"]]
    variables = {
        each["name"]: all(bool(one["default"]) for one in found if one["name"] == each["name"])
        for each in found
    }
    stand_ins = dict.fromkeys(_without_value(variables, values), DIGITS)
    passed = {key: environment[key] for key in PASSED_ON if environment.get(key)}
    try:
        model = _config(files, stand_ins | passed)
    except ConfigError as error:
        if stand_ins and str(error).startswith(SAID):  # it may be about the stand-ins
            what = f"{', '.join(stand_ins)} has no value, and {DIGITS} stands for it here"
            raise ConfigError(f"{error}; {what}: give it one in .env") from error
        raise
    name = str(model.get("name") or folder.name)
    try:
        source = _config(files, stand_ins | passed | {"COMPOSE_PROFILES": "*"}, "--no-interpolate")
    except ConfigError:
        source = {}
    learn_secrets(model, values, EnvKeys())
    return ComposeProject(folder, files, name, model, source, values, variables)


def _without_value(variables: Mapping[str, bool], values: Mapping[str, str]) -> list[str]:
    known = {*values, *COMPOSE_OWN}
    return [name for name, default in variables.items() if not default and name not in known]


def other_project(project: ComposeProject, name: str) -> Mapping[str, Any]:
    """Return the model of the same files under another project name; raises ConfigError."""
    stand_ins = dict.fromkeys(project.without_value, DIGITS)
    return _config(project.files, stand_ins, name=name)


def _without_comments(path: Path) -> str:
    """The scalars of a compose file; all of its text if that is no YAML, which Compose will say."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        tokens = [*yaml.scan(text, Loader=yaml.SafeLoader)]
    except yaml.YAMLError:
        return text
    return "\n".join(each.value for each in tokens if isinstance(each, yaml.ScalarToken))


def _config(
    files: Sequence[Path], variables: Mapping[str, str], *flags: str, name: str = ""
) -> dict[str, Any]:
    own = ("--project-name", name) if name else ()
    named = [word for path in files for word in ("--file", str(path))]
    argv = ("docker", "compose", *own, *named, "config", "--format", "json", *flags)
    cwd = str(files[0].parent)
    done = process.run(argv, deadline_s=COMPOSE_DEADLINE_S, environment=variables, cwd=cwd, mask=False)
    if not done.ok:
        require_compose()
        raise ConfigError(f"{SAID}{MASK(done.last_line)}")
    found: dict[str, Any] = json.loads(done.out)
    return found


# --- choosing ---------------------------------------------------------------------------------------------------
def candidates(project: ComposeProject) -> list[str]:
    """Return the services that may receive the traffic, the likeliest ones only: published, and no database."""
    rows = {
        name: service
        for name, service in project.services.items()
        if split_image(str(service.get("image") or ""))[0].rsplit("/", 1)[-1] not in STORES
    }
    ports = {name: service.get("ports") or () for name, service in rows.items()}
    published = [name for name, each in ports.items() if any(row.get("published") for row in each)]
    built = [name for name in published if rows[name].get("build")]
    return built if len(built) == 1 else published or list(rows)


def readiness_path(service: Service, image: Mapping[str, Any] | None = None) -> str:
    """Return the path that the health check of *service* requests; empty if it shows none."""
    found = REQUEST.search(" ".join(health_command_of(service, image)))
    return found["path"] if found else ""


# --- drafting ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Choices:
    """What `cutover init` cannot see in the compose file."""

    services: tuple[str, ...]
    """The released services; the first one receives the traffic."""
    ready: str
    project: str
    proxy: str = "none"
    image: Mapping[str, Any] | None = None
    """`docker image inspect` of the image, if it is on this host."""

    @property
    def two_colors(self) -> bool:
        """Whether blue and green run side by side, behind a proxy."""
        return self.proxy != "none"


@dataclass(frozen=True, slots=True)
class Draft:
    """Files to write, changes to the compose files, and what a person has to fill in."""

    files: Mapping[str, str]
    """Path relative to the folder → text."""
    compose: Mapping[Path, tuple[str, str]]
    """Compose file → its text before and after."""
    fill_in: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    """Changes to the compose file that cannot be made in its text."""
    moves: tuple[str, ...] = ()
    """Ports that blue gives up to the proxy."""

    def diff(self, project: ComposeProject) -> str:
        """The changes to the compose files as a unified diff; empty if there are none."""
        return "".join(
            line if line.endswith("\n") else f"{line}\n"
            for path, (old, new) in self.compose.items()
            for line in difflib.unified_diff(
                old.splitlines(keepends=True),
                new.splitlines(keepends=True),
                f"a/{project.shown(path)}",
                f"b/{project.shown(path)}",
            )
        )


@dataclass(frozen=True, slots=True)
class Names:
    """The variables of a service: which key holds the tag, and which one the port."""

    tag: str
    port: str
    number: int
    """The host port now; 0 if the service publishes none, or it is not known."""


def names_of(project: ComposeProject, choices: Choices) -> Names:
    """Return the variables that the compose file uses for tag and port, or those that it shall use."""
    main = choices.services[0]
    tag = variable_of(split_image(str(project.raw(main).get("image") or ""))[1]) or "IMAGE_TAG"
    host = next((host for _, host, protocol in raw_ports(project.raw(main)) if host and protocol == TCP), "")
    number = 0 if project.is_unknown(host) else next(_host_ports(project.services[main], TCP), 0)
    port = variable_of(host)
    return Names(tag, port or (port_variable(main) if choices.two_colors else ""), number)


def draft(project: ComposeProject, choices: Choices, shipped: Path) -> Draft:
    """Return the configuration, env files, proxy configuration and compose changes for *choices*.

    *shipped* is the folder with the proxy configurations.
    """
    names = names_of(project, choices)
    edits = ComposeEdits(project, choices, names)
    compose, by_hand = edits.texts(), tuple(edits.by_hand)
    is_known = names.port not in project.without_value
    own = ({names.port: names.number or FIRST_PORT} if names.port and is_known else {}) | edits.ports
    taken = {*own.values(), *(port for each in project.services.values() for port in _host_ports(each))}
    moved: dict[str, int] = {}
    if choices.two_colors:
        taken.add(PROXY_PORT)
        moved = _next_free({name: port for name, port in own.items() if port == PROXY_PORT}, taken)
    ports = {"blue": own | moved, "green": _next_free(own | moved, taken)}
    colors = ("blue", "green") if choices.two_colors else ("blue",)
    files = {"cutover.toml": config_text(project, choices, names, shared=edits.shared_network)}
    fill_in: list[str] = []
    for color in colors:
        text, missing = env_text(project, choices, names, ports[color])
        files[f".env.{color}"] = text
        fill_in += [f".env.{color}: {key}" for key in missing]
    if choices.two_colors:
        for name in PROXY_FILES[choices.proxy]:
            text = (shipped / choices.proxy / name).read_text(encoding="utf-8")
            default = dict(zip(colors, (FIRST_PORT, FIRST_PORT + 1), strict=True))
            number_of = {color: ports[color].get(names.port, default[color]) for color in colors}
            files[f"proxy/{name}"] = _proxy_text(text, choices.project, number_of)
            if not is_known and f":{FIRST_PORT}" in text:
                stand_ins = f"{FIRST_PORT} and {FIRST_PORT + 1}"
                fill_in.append(f"proxy/{name}: the ports of blue and green, in place of {stand_ins}")
    moves = tuple(f"blue to port {port}: the proxy takes over {PROXY_PORT}" for port in moved.values())
    return Draft(files, compose, tuple(fill_in), by_hand, moves)


def _host_ports(service: Service, protocol: str = "") -> Iterator[int]:
    rows = (row for row in service.get("ports") or () if protocol in {"", row.get("protocol", TCP)})
    firsts = (str(row.get("published") or "").split("-")[0] for row in rows)
    return (int(each) for each in firsts if each.isdigit())


def _next_free(ports: Mapping[str, int], taken: set[int]) -> dict[str, int]:
    """Other ports for the same variables, none of those *taken*; they are taken then."""
    found: dict[str, int] = {}
    for name, number in ports.items():
        found[name] = next(port for port in range(number + 1, 65536) if port not in taken)
        taken.add(found[name])
    return found


def _proxy_text(text: str, project: str, ports: Mapping[str, int]) -> str:
    marker = f"{default_state_root() / project}-live"
    text = text.replace("/var/lib/cutover/recall-live", marker)
    ours = {"8000": str(ports["blue"]), "8001": str(ports["green"])}
    text = re.sub(r"(?<=127\.0\.0\.1:)(?:8000|8001)\b", lambda found: ours[found[0]], text)
    return text.replace("    recall:\n", f"    {project}:\n")


def config_text(project: ComposeProject, choices: Choices, names: Names, *, shared: str) -> str:
    """Return the text of `cutover.toml`: at most 12 lines, only what differs from the defaults."""
    first, *further = map(project.shown, project.files)
    lines = [f"project = {_toml(choices.project)}", f"compose_file = {_toml(first)}"]
    if further:
        lines.append(f"compose_overrides = {_toml(further)}")
    lines.append(f"services = {_toml(list(choices.services))}")
    keys = {"tag": names.tag} if names.tag != "IMAGE_TAG" else {}
    keys |= {"port": names.port} if names.port and names.port != "API_HTTP_PORT" else {}
    if keys:
        lines.append(f"env_keys = {_toml(keys)}")
    if shared:
        lines.append(f"shared_network = {_toml(shared)}")
    lines.append(f"ready = {_toml({'path': choices.ready})}  # any status 2xx; or json, text, header, tcp")
    if runs_as_root(project.services[choices.services[0]], choices.image):
        lines.append(f"gate = {_toml({'user': 'root'})}  # as the image is")
    if choices.two_colors:
        lines.append(f"proxy = {_toml(PROXY_TABLES[choices.proxy])}")
    # blue is what runs now: its project keeps its name, so that its first release replaces it.
    lines.append(f"colors.blue = {_toml({'env_file': '.env.blue', 'project': project.name})}")
    if choices.two_colors:
        lines.append(f"colors.green = {_toml({'env_file': '.env.green'})}")
    return "\n".join([*lines, ""])


PROXY_URL = f"http://127.0.0.1:{PROXY_PORT}"
PROXY_TABLES: dict[str, dict[str, Any]] = {
    "nginx": {"driver": "nginx", "url": PROXY_URL, "access_log": "/var/log/nginx/cutover.log"},
    "traefik": {
        "driver": "traefik", "url": PROXY_URL, "dynamic_file": "/etc/traefik/cutover.yml",
        "access_log": "/var/log/traefik/access.log",
    },
    "haproxy": {
        "driver": "command", "url": PROXY_URL, "switch": ["/etc/haproxy/switch.sh", "{color}"],
        "status": ["/etc/haproxy/switch.sh"],
    },
}  # fmt: skip


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(value)


def env_text(
    project: ComposeProject, choices: Choices, names: Names, ports: Mapping[str, int]
) -> tuple[str, list[str]]:
    """Return the env file of a color, which begins as `.env` does, and the keys that a person has to fill in."""
    path = project.folder / ".env"
    kept = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    dropped = ("COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_PROJECT_NAME", *ports)
    pattern = re.compile(rf"\s*(?:export\s+)?(?:{'|'.join(map(re.escape, dropped))})\s*[=:]")
    lines = [line for line in kept if not pattern.match(line)]
    main = choices.services[0]
    now = split_image(str(project.services[main].get("image") or ""))[1]
    added: dict[str, str] = {}
    if names.tag not in project.values:
        known = not project.is_unknown(split_image(str(project.raw(main).get("image") or ""))[1])
        added[names.tag] = now if now and known else "<tag>"
    added |= {key: str(number) for key, number in ports.items()}
    for key in project.without_value:
        if key not in added:
            added[key] = f"<{key.lower()}>"
    missing = [key for key, value in added.items() if value.startswith("<")]
    return "\n".join([*lines, *(f"{key}={_plain(value)}" for key, value in added.items()), ""]), missing


def _plain(value: str) -> str:
    return value if re.fullmatch(r"[\w.:/<>-]*", value) else quote_value(value)


# --- changes to the text of a compose file ----------------------------------------------------------------------
@dataclass(slots=True)
class TextFile:
    """The text of one compose file, its nodes, and the replacements so far: start, end, new text."""

    path: Path
    text: str
    root: yaml.Node | None
    released: Sequence[str] = ()
    """The services that changes are for."""
    mark: str = ""
    """The byte order mark before the text, if there is one."""
    edits: list[tuple[int, int, str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, released: Sequence[str]) -> TextFile:
        """Parse *path* without losing its comments; raises ConfigError."""
        try:
            text = path.read_bytes().decode("utf-8")
            body = text.removeprefix("\ufeff")
            root = yaml.compose(body, Loader=yaml.SafeLoader)
            return cls(path, body, root, released, text[: len(text) - len(body)])
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error

    def node(self, *keys: str) -> tuple[yaml.Node, yaml.Node] | None:
        """Return key and value node below *keys*, None if this file has none, or only by a merged anchor."""
        found: tuple[yaml.Node, yaml.Node] | None = None
        here = self.root
        for key in keys:
            rows = here.value if isinstance(here, yaml.MappingNode) else ()
            found = next((row for row in rows if row[0].value == key), None)
            if found is None:
                return None
            here = found[1]
        return found

    def edit(self, begin: int, end: int, new: str, *, volume: str = "") -> bool:
        """Add a replacement; False, and none is added, if it breaks the file or changes what it is not for."""
        before = self._others(volume)
        self.edits.append((begin, end, new))
        with contextlib.suppress(yaml.YAMLError):
            if self._others(volume) == before:  # an anchor is used at other places too
                return True
        self.edits.pop()
        return False

    def _others(self, volume: str) -> dict[str, Any]:
        """What the file says beside what the changes are for; raises YAMLError."""
        root = yaml.compose(self._edited(), Loader=yaml.SafeLoader)
        found = _values(root) if isinstance(root, yaml.MappingNode) else {}
        services, volumes = found.get("services"), found.get("volumes")
        if isinstance(services, dict):
            for name in self.released:
                if isinstance(service := services.get(name), dict):
                    services[name] = {key: service[key] for key in service if key not in CHANGED_KEYS}
        if isinstance(volumes, dict):
            volumes.pop(volume, None)
        return {key: value for key, value in found.items() if key != "networks" and not key.startswith("x-")}

    def _begin(self, node: yaml.Node) -> int:
        """Where *node* begins, after its anchor and its tag."""
        found = PROPERTIES.match(self.text, node.start_mark.index)
        return found.end() if found else node.start_mark.index

    def replace(self, node: yaml.Node, new: str, *, volume: str = "") -> bool:
        """Replace *node* by the text *new*; False as in `edit`."""
        return self.edit(self._begin(node), node.end_mark.index, new, volume=volume)

    def replace_scalar(self, node: yaml.Node, value: str) -> bool:
        """Replace *node* by *value*, quoted as it was, or where it must be; False as in `edit`."""
        quote = getattr(node, "style", None)
        old = self.text[self._begin(node) : node.end_mark.index]
        plain = quote not in {"'", '"'} and old == node.value
        before = self.text.rfind("\n", 0, node.start_mark.index) + 1
        in_flow = any(letter in self.text[before : node.start_mark.index] for letter in "[{")
        quoted = not plain or in_flow or value[0] in "\"'{[&*!|>%@`"
        return self.replace(node, f'"{value}"' if quoted else value)

    def insert_below(self, key: yaml.Node, value: yaml.Node, line: str) -> bool:
        """Insert *line* (`key: value`) as the first one below *key*, also if *value* is empty; False if it cannot."""
        if value.start_mark.index == value.end_mark.index:
            at = self.text.index(":", key.end_mark.index) + 1
            return self.edit(at, at, f"\n{' ' * (key.start_mark.column + 2)}{line}", volume=key.value)
        if isinstance(value, yaml.MappingNode) and not value.value:
            return self.replace(value, f"{{{line}}}", volume=key.value)
        return self.insert_first(value, line, volume=key.value)

    def insert_first(self, mapping: yaml.Node, line: str, *, volume: str = "") -> bool:
        """Insert *line* (`key: value`) as the first one of a block mapping; False for any other node."""
        if not isinstance(mapping, yaml.MappingNode) or mapping.flow_style or not mapping.value:
            return False
        first = mapping.value[0][0].start_mark  # the mapping's own mark is that of its anchor
        text = "".join(f"{each}\n{' ' * first.column}" for each in line.split("\n"))
        return self.edit(first.index, first.index, text, volume=volume)

    def delete_line(self, key: yaml.Node, value: yaml.Node) -> bool:
        """Delete the line of a key with a scalar; False if it has more than that on it."""
        begin = self.text.rfind("\n", 0, key.start_mark.index) + 1
        end = self.text.find("\n", value.end_mark.index) + 1 or len(self.text)
        if self.text[begin : key.start_mark.index].strip() or key.start_mark.line != value.end_mark.line:
            return False
        return self.edit(begin, end, "")

    def result(self) -> str:
        """The text with all replacements."""
        return self.mark + self._edited()

    def _edited(self) -> str:
        text, end_of_line = self.text, "\r\n" if "\r\n" in self.text else "\n"
        replaced: set[int] = set()  # an anchor that two services use is changed once
        for begin, end, new in sorted(self.edits, key=lambda each: each[0], reverse=True):
            if end > begin and begin in replaced:
                continue
            replaced.add(begin if end > begin else -1)
            text = text[:begin] + new.replace("\n", end_of_line) + text[end:]
        return text


def _values(node: yaml.Node) -> Any:
    """The value of *node*, with the tags of its scalars."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _values(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_values(each) for each in node.value]
    return node.tag, node.value


class ComposeEdits:
    """The changes that compose files need, made in their text so that comments stay."""

    def __init__(self, project: ComposeProject, choices: Choices, names: Names) -> None:
        self.project, self.choices, self.names = project, choices, names
        self.by_hand: list[str] = []
        self.ports: dict[str, int] = {}
        """Variables of further published ports, with their values now."""
        self.shared_network = ""
        self._files = [TextFile.read(path, choices.services) for path in project.files]
        self._choose_tags()
        if choices.two_colors:
            for service in choices.services:
                self._free_name(service)
                self._publish_by_variable(service)
                self._share_volumes(service)
            self._share_network()

    def texts(self) -> dict[Path, tuple[str, str]]:
        """Changed file → its text before and after."""
        rows = {each.path: (each.mark + each.text, each.result()) for each in self._files}
        return {path: texts for path, texts in rows.items() if texts[0] != texts[1]}

    def _places(self, *keys: str) -> Iterator[tuple[TextFile, yaml.Node, yaml.Node]]:
        """The file, key and value of *keys*, in each file that has them; the one that wins comes first."""
        for each in reversed(self._files):
            if found := each.node(*keys):
                yield each, *found

    def _choose_tags(self) -> None:
        main = self.choices.services[0]
        for service in self.choices.services:
            if service == main or self._repository(service) == self._repository(main) != "":
                self._choose_tag(service)

    def _repository(self, service: str) -> str:
        """The repository of the image; as it is written if that needs a variable without a value."""
        written = split_image(str(self.project.raw(service).get("image") or ""))[0]
        known = split_image(str(self.project.services[service].get("image") or ""))[0]
        return written if self.project.is_unknown(written) else known

    def _choose_tag(self, service: str) -> None:
        repository, written = split_image(str(self.project.raw(service).get("image") or ""))
        if variable_of(written) == self.names.tag:
            return
        if "$" in repository and not written:  # the whole image is a variable
            if self.project.is_unknown(repository):
                todo = f"image: <repository>:${{{self.names.tag}:?}}, in place of {repository}, which has no value"
                self.by_hand.append(f"services.{service}: {todo}")
                return
            repository = self._repository(service)
        wanted = f"{repository or f'{self.project.name}/{service}'}:${{{self.names.tag}:?}}"
        for text, _, value in self._places("services", service, "image"):
            if not text.replace_scalar(value, wanted):
                self.by_hand.append(f"services.{service}: image: {wanted}")
            return
        places = self._places("services", service)  # a key of its own wins over an anchor
        if not any(text.insert_first(value, f"image: {wanted}") for text, _, value in places):
            self.by_hand.append(f"services.{service}: image: {wanted}")

    def _free_name(self, service: str) -> None:
        for text, key, value in self._places("services", service, "container_name"):
            if "$" not in str(value.value) and not text.delete_line(key, value):
                self.by_hand.append(f"services.{service}: remove container_name")

    def _publish_by_variable(self, service: str) -> None:
        places = self._places("services", service, "ports")
        lists = [(text, value) for text, _, value in places if isinstance(value, yaml.SequenceNode)]
        rows = [(text, row) for text, value in lists for row in value.value]
        published = [(text, row, found) for text, row in rows if (found := _published(row))]
        # `127.0.0.1::9000` is any free port, for each color its own.
        fixed = [each for each in published if each[2][0]]
        if fixed or service != self.choices.services[0]:
            published = fixed
        published.sort(key=lambda each: each[2][1].endswith("/udp"))
        for number, (text, row, (host, inner)) in enumerate(published):
            main = number == 0 and service == self.choices.services[0] and not inner.endswith("/udp")
            name = self.names.port if main else f"{port_variable(service)}_{inner.split('/')[0]}"
            variable = host if "$" in host else f"${{{name}:?}}"
            if "$" not in host and not main:
                self.ports[name] = int(host.split("-")[0])
            if isinstance(row, yaml.ScalarNode):
                wanted = f"127.0.0.1:{variable}:{inner}"
                changed = wanted == row.value or text.replace(row, f'"{wanted}"')
            else:
                wanted = f"published: {variable}"
                (node,) = (value for key, value in row.value if key.value == "published")
                changed = variable == host or text.replace(node, f'"{variable}"')
            if not changed:
                self.by_hand.append(f"services.{service}.ports: {wanted}")

    def _share_volumes(self, service: str) -> None:
        volumes = self.project.model.get("volumes") or {}
        for row in self.project.services[service].get("volumes") or ():
            name = str(row.get("source") or "")
            real = volumes.get(name) or {}
            own = real.get("name") == f"{self.project.name}_{name}" and not real.get("external")
            if row.get("type") != "volume" or not own or any(self._places("volumes", name, "name")):
                continue
            line, places = f"name: {real['name']}", [*self._places("volumes", name)]
            if not places or not places[0][0].insert_below(*places[0][1:], line):
                self.by_hand.append(f"volumes.{name}: {line}")

    def _share_network(self) -> None:
        """Share the networks on which the service meets services that are not released with it."""
        main, networks = self.choices.services[0], self.project.model.get("networks") or {}
        others = [each for name, each in self.project.services.items() if name not in self.choices.services]
        alias = f'aliases: ["${{COMPOSE_PROJECT_NAME}}-{main}"]'
        for key in self.project.services[main].get("networks") or {}:
            real = networks.get(key) or {}
            met = any(key in (each.get("networks") or {}) for each in others)
            if not met or real.get("external") or real.get("name") != f"{self.project.name}_{key}":
                continue
            name = str(real["name"])
            self.shared_network = self.shared_network or name
            if key != "default" or not self._insert_default_network(main, name, alias):
                self.by_hand += [
                    f"networks.{key}: name: {name}, external: true",
                    f"services.{main}.networks.{key}: {alias}",
                ]

    def _insert_default_network(self, service: str, name: str, alias: str) -> bool:
        """Declare the default network; False if the files name networks already."""
        named = [*self._places("networks"), *self._places("services", service, "networks")]
        places = list(self._places("services", service))
        if named or not places:
            return False
        text, _, value = places[0]
        if not text.insert_first(value, f"networks:\n  default:\n    {alias}"):
            return False
        end, newline = len(text.text), "" if text.text.endswith("\n") else "\n"
        block = f"{newline}\nnetworks:\n  default:\n    name: {name}\n    external: true\n"
        if not text.edit(end, end, block):
            text.edits.pop()  # that of the service
            return False
        return True


def _published(row: yaml.Node) -> tuple[str, str] | None:
    """Host port and container port of one row of `ports`; None if it publishes none."""
    if isinstance(row, yaml.MappingNode):
        pairs = {key.value: str(value.value) for key, value in row.value}
        inner = f"{pairs.get('target', '')}/{pairs.get('protocol') or TCP}"
        return (pairs["published"], inner) if pairs.get("published") else None
    parts = split_outside(str(row.value))
    return (parts[-2], parts[-1]) if len(parts) > 1 else None
