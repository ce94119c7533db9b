"""Docker Swarm: command lines as values, and a rendered Compose model as what `docker stack deploy` takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cutover.core.errors import ConfigError
from cutover.core.text import join_list
from cutover.system import docker, process
from cutover.system.container import Container
from cutover.system.docker import SwarmNode
from cutover.system.process import Argv

Service = Mapping[str, Any]

KEPT = frozenset({
    "cap_add", "cap_drop", "command", "dns", "dns_search", "entrypoint", "environment", "extra_hosts",
    "healthcheck", "hostname", "image", "init", "isolation", "logging", "read_only", "stdin_open", "stop_grace_period",
    "stop_signal", "sysctls", "tty", "ulimits", "user", "working_dir",
})  # fmt: skip
"""Keys of a service that a stack has, with the same meaning."""
CONVERTED = frozenset({
    "configs", "cpus", "deploy", "depends_on", "labels", "mem_limit", "mem_reservation", "networks", "pids_limit",
    "ports", "restart", "scale", "secrets", "tmpfs", "volumes",
})  # fmt: skip
# A stack has no key tmpfs: `docker stack deploy` ignores it. What every tmpfs mount of a task has:
TMPFS_DEFAULTS = frozenset({"rw", "noexec", "nosuid", "nodev"})
# Its mode and owner are those of the folder in the image, and of these only the mode of one is known.
TMPFS_OPEN = {"/tmp": frozenset({"mode=1777", "mode=01777"})}  # noqa: S108
TMPFS_SIZE = re.compile(r"size=(\d+)([kmg]?)b?", re.IGNORECASE)
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
DROPPED = frozenset({"profiles", "pull_policy", "expose"})
"""Keys that say nothing about a container which runs already."""
REASONS = {
    "build": "a stack cannot build: name an image",
    "container_name": "a task has a name of its own: leave it out",
    "network_mode": "a task has networks only: name them in networks",
    "security_opt": "Swarm ignores it: set it for the engine of each node (no-new-privileges in daemon.json)",
    "memswap_limit": "Swarm has no limit of swap: leave it out",
}
COMPLETED = "service_completed_successfully"
CONDITIONS = {"no": "none", "always": "any", "unless-stopped": "any", "on-failure": "on-failure"}
"""`restart` of Compose → `condition` of a stack."""
SETTLE_S = 30.0
"""How long the engine may need beside the start: it stops the tasks before, and looks at the new ones for 5 s."""
KINDS: tuple[Literal["config", "secret"], ...] = ("config", "secret")
MOUNTED = tuple(f"{kind}s" for kind in KINDS)
"""Their keys in a compose file."""
MADE_BY_OTHERS = ("driver", "driver_opts", "template_driver")
"""Keys of a config or a secret whose content another program makes or fills in."""
MOST_NAME = 64
"""How long the name of a config or a secret may be."""
MIN_CLI = 26
"""The first version with `docker stack deploy --detach=false`."""
ANSWER_S = 15.0
"""A Swarm without a leader does not answer."""
LABEL = "com.docker.compose."
ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386", "ppc64le": "ppc64le",
    "s390x": "s390x", "riscv64": "riscv64",
}  # fmt: skip
"""What a node says of its processor → how an image calls it."""
MOUNT_KEYS = frozenset({
    "type", "source", "target", "read_only", "tmpfs.size", "volume.nocopy",
    "bind.create_host_path",  # Compose adds it
})  # fmt: skip
"""What a mount of a stack is made of, and what means nothing there."""
RESOURCE_KEYS = {
    "limits": frozenset({"cpus", "memory", "pids"}),
    "reservations": frozenset({"cpus", "memory", "generic_resources"}),
}
ENDPOINT_KEYS = frozenset({"aliases", "driver_opts"})
"""What a service says of a network that it joins, and a stack does."""
NETWORK_KEYS = frozenset({
    "name", "driver", "driver_opts", "external", "internal", "attachable", "labels", "ipam.driver",
    "ipam.config.subnet",
})  # fmt: skip
"""What a network of a stack is made of."""
NO_SUCH_KEY = "a stack has no such key: leave it out"


@dataclass(frozen=True, slots=True)
class Stack:
    """One color as a stack, with its file."""

    project: str
    file: Path
    restore_script = "restore-stack.sh"

    def at(self, file: Path) -> Stack:
        """Return the same stack with the release file *file*."""
        return Stack(self.project, file)

    def up(self, *_services: str, wait_s: float) -> Argv:
        """Return the argv that deploys the stack and waits until its tasks run, healthy, in about *wait_s* seconds.

        0: it does not wait. It exits with 1 if the engine has paused the update, and with 124 if the time is over.
        """
        deploy = ("docker", "stack", "deploy", "--resolve-image", "never", "--prune")
        where = ("--compose-file", str(self.file), self.project)
        if not wait_s:
            return (*deploy, "--detach=true", *where)
        return ("timeout", str(round(wait_s + SETTLE_S)), *deploy, "--detach=false", *where)

    def stop(self, *services: str) -> Argv:
        """Return the argv that stops all tasks of *services*; what the stack is stays."""
        return ("docker", "service", "scale", *(f"{self.project}_{each}=0" for each in services))

    def stop_without_file(self, services: Sequence[str], _running: Sequence[Container]) -> list[Argv]:
        """Return what stops the tasks of *services* on all nodes; a stopped container would be started again.

        A global service cannot be scaled: it is removed, and its release file makes it again. Raises EngineUnavailable.
        """
        found = {each: docker.swarm_service(f"{self.project}_{each}") for each in services}
        scaled = [name for name, each in found.items() if each is not None and not each.is_global]
        removed = [name for name, each in found.items() if each is not None and each.is_global]
        remove: Argv = ("docker", "service", "rm", *(f"{self.project}_{name}" for name in removed))
        return [argv for argv, names in ((self.stop(*scaled), scaled), (remove, removed)) if names]


@dataclass(frozen=True, slots=True)
class Content:
    """A config or a secret of the model. Swarm never changes one, so its name says what it holds."""

    kind: Literal["config", "secret"]
    key: str
    """Its name in the compose file."""
    name: str
    """Its name in the Swarm, which ends with a hash of its content."""
    data: bytes = field(repr=False)


def contents_of(
    model: Mapping[str, Any], project: str, services: Collection[str], variables: Mapping[str, str]
) -> tuple[Content, ...]:
    """Return the configs and secrets that *services* use; raises ConfigError for one that cannot be read."""
    return tuple(
        Content(kind, key, _content_name(project, key, data), data)
        for kind in KINDS
        for key in _sources(model, services, kind)
        for data in [_data(kind, key, model[f"{kind}s"][key], variables)]
    )


def _sources(model: Mapping[str, Any], services: Collection[str], kind: str) -> list[str]:
    rows = (row for name in services for row in model["services"][name].get(f"{kind}s") or ())
    return list(dict.fromkeys(row["source"] for row in rows))


def _content_name(project: str, key: str, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()[:12]
    return f"{f'{project}_{key}'[: MOST_NAME - len(digest) - 1]}-{digest}"


def _data(kind: str, key: str, given: Mapping[str, Any], variables: Mapping[str, str]) -> bytes:
    if lost := join_list([each for each in MADE_BY_OTHERS if given.get(each)]):
        why = f"it is created with its content as it is: leave {lost} out"
        raise ConfigError(f"{kind}s.{key}: {lost} on Swarm: {why}")
    if given.get("file"):
        try:
            return Path(given["file"]).read_bytes()
        except OSError as error:
            raise ConfigError(f"{kind}s.{key}: {given['file']} cannot be read: {error.strerror}") from error
    if "content" in given:
        return str(given["content"]).replace("$$", "$").encode()
    variable = str(given.get("environment") or "")
    if variable not in variables:
        way_out = "on Swarm give it a file, a content or a variable of the env file"
        why = f"{variable} is not set" if variable else "has no content"
        raise ConfigError(f"{kind}s.{key}: {why}: {way_out}")
    return variables[variable].encode()


def create_content(project: str, content: Content) -> None:
    """Create a config or a secret in the Swarm, unless it is there; raises ConfigError."""
    if process.run(("docker", content.kind, "inspect", content.name), deadline_s=ANSWER_S).ok:
        return
    argv = ("docker", content.kind, "create", "--label", f"cutover.keep={project}", content.name, "-")
    done = process.run(argv, deadline_s=ANSWER_S, stdin=content.data)
    if not done.ok:
        raise ConfigError(f"the {content.kind} {content.name} cannot be created: {done.last_line}")


def remove_contents(project: str, needed: Callable[[str], bool]) -> None:
    """Remove the configs and secrets of *project* that are not *needed*; the engine keeps those that a service uses."""
    for kind in KINDS:
        shown = ("--filter", f"label=cutover.keep={project}", "--format", "{{.Name}}")
        names = process.run(("docker", kind, "ls", *shown), deadline_s=ANSWER_S).out.split()
        for name in (each for each in names if not needed(each)):
            process.run(("docker", kind, "rm", name), deadline_s=ANSWER_S)


def require_manager() -> None:
    """Raise ConfigError unless the engine is a manager of a Swarm that has a leader, and the CLI can wait for it."""
    swarm = process.run(("docker", "info", "--format", "{{json .Swarm}}"), deadline_s=ANSWER_S)
    version = process.run(("docker", "version", "--format", "{{.Client.Version}}"), deadline_s=ANSWER_S)
    problem = why_no_manager(json.loads(swarm.out) if swarm.ok else {"Error": swarm.last_line})
    if problem or (problem := why_too_old(version.out.strip())):
        raise ConfigError(f'[platform] kind = "swarm": {problem}')


def why_too_old(version: str) -> str:
    """Why the docker CLI of this version cannot deploy a stack; empty if it can."""
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) >= MIN_CLI:
        return ""
    return f"the docker CLI is {version or 'unknown'}; {MIN_CLI} or newer is needed: it waits for the tasks of a stack"


def why_no_manager(swarm: Mapping[str, Any]) -> str:
    """Why the engine with this `Swarm` of `docker info` cannot deploy a stack; empty if it can."""
    state = swarm.get("LocalNodeState") or "unknown"
    if error := swarm.get("Error"):
        return f"the engine says: {error}"
    if state != "active":
        return f'the engine is in no Swarm (it is {state}): docker swarm init, or kind = "compose"'
    if not swarm.get("ControlAvailable"):
        managers = ", ".join(each["Addr"] for each in swarm.get("RemoteManagers") or ())
        return f"this node is no manager: run it on one ({managers}), or docker node promote this one"
    return ""


def platform_problem(
    service: str, image: str, platform: str, constraints: Sequence[str], nodes: Sequence[SwarmNode]
) -> str:
    """Why *image*, which is for *platform* (`linux/amd64`), may be started on a node that cannot run it; or empty.

    *constraints* are those of `deploy.placement`; a node that is drained or paused gets no task.
    """
    wrong = {
        each.name: its
        for each in nodes
        if each.availability == "active"
        and all(fits(each, text) for text in constraints)
        and (its := _platform_of(each)) not in {platform, ""}
    }
    if not wrong:
        return ""
    there = ", ".join(f"{name} is {its}" for name, its in sorted(wrong.items()))
    arch = next((name for name, short in ARCHITECTURES.items() if f"linux/{short}" == platform), platform)
    way_out = f'deploy.placement.constraints: ["node.platform.arch == {arch}"]'
    return f"services.{service}: {image} is for {platform}, and {there}: {way_out}"


def fits(node: SwarmNode, constraint: str) -> bool:
    """Whether a placement *constraint* lets a task run on *node*; true for one that only the Swarm can tell."""
    parts = [each.strip() for each in re.split(r"(==|!=)", constraint, maxsplit=1)]
    if len(parts) == 1:
        return True  # the engine refuses it in its own words
    key, operator, value = parts
    name = key if ".labels." in key else key.lower()
    if name == "node.ip":
        return True
    return (node.facts.get(name, "").casefold() == value.casefold()) is (operator == "==")


def _platform_of(node: SwarmNode) -> str:
    kind, arch = (node.facts.get(f"node.platform.{each}", "") for each in ("os", "arch"))
    return f"{kind}/{ARCHITECTURES.get(arch, arch)}" if kind and arch else ""


def stack_of(
    model: Mapping[str, Any],
    project: str,
    services: Collection[str],
    hashes: Mapping[str, str],
    contents: Collection[Content] = (),
) -> dict[str, Any]:
    """Return *services* of a rendered Compose *model* as a stack; raises ConfigError with all that it cannot have.

    Each container gets the labels that Compose gives to its own, so that it is found in the same way; *hashes* are
    its config hashes by service.
    """
    there = model.get("services") or {}
    used = {key for name in services for key in there[name].get("networks") or {}}
    joined = {key: each or {} for key, each in (model.get("networks") or {}).items() if key in used}
    found = [problem for name in services for problem in problems(name, there[name], services)]
    found += [problem for key, each in joined.items() for problem in _network_problems(key, each)]
    if found:
        raise ConfigError("\n".join(found))
    made = {name: _service(there[name], project, name, hashes.get(name, "")) for name in services}
    mounts = [each for name in services for each in there[name].get("volumes") or ()]
    mounted = {each["source"] for each in mounts if each.get("type") == "volume" and each.get("source")}
    networks = {key: _network(each) for key, each in joined.items()}
    given = model.get("volumes") or {}
    volumes = {key: _without_none(each or {}) for key, each in given.items() if key in mounted}
    named = {
        f"{kind}s": {
            each.key: {"name": each.name, "external": True} for each in contents if each.kind == kind
        }
        for kind in KINDS
    }
    stack = named | {"version": "3.13", "services": made, "networks": networks, "volumes": volumes}
    return {key: value for key, value in stack.items() if value}


def one_offs_of(model: Mapping[str, Any], contents: Collection[Content], folder: Path) -> dict[str, Any]:
    """Return a rendered Compose *model* for `docker compose run` on a manager, beside a stack.

    A network of the stack is left out: before the first deploy it is not there, it holds nothing but tasks of the
    stack, and no other container can join it. Without another one a container is on the engine's own network.
    *contents*, the configs and secrets, are files in *folder*.
    """
    networks = model.get("networks") or {}
    external = {key: each for key, each in networks.items() if (each or {}).get("external")}
    files = {
        f"{kind}s": {each.key: {"file": str(folder / each.name)} for each in contents if each.kind == kind}
        for kind in KINDS
    }
    services = {name: _off_stack(each, external) for name, each in model["services"].items()}
    return dict(model) | files | {"services": services, "networks": external}


def _off_stack(service: Service, external: Collection[str]) -> dict[str, Any]:
    kept = {key: value for key, value in service.items() if key not in {"networks", "deploy", *MOUNTED}}
    # Compose warns of each key that only Swarm knows.
    resources = (service.get("deploy") or {}).get("resources")
    kept |= {"deploy": {"resources": resources}} if resources else {}
    for kind in MOUNTED:
        if rows := service.get(kind):
            kept[kind] = [{key: row[key] for key in ("source", "target") if key in row} for row in rows]
    joined = {key: how for key, how in (service.get("networks") or {}).items() if key in external}
    return kept | {"networks": joined} if joined else {"network_mode": "bridge"} | kept


def network_problem(key: str, name: str, network: Mapping[str, Any] | None, service: str) -> str:
    """Why a one-off container of *service* cannot join `networks.<key>`, which Swarm calls *name*; empty if it can.

    *network* is what the engine says of it, None if it has none of that name.
    """
    create = "docker network create --driver overlay --attachable"
    joins = f"networks.{key}: {service} runs in a one-off container, which joins {name}"
    if network is None:
        return f"{joins}, and there is no such network: {create} {name}"
    if network.get("Scope") != "swarm":
        way_out = f"{create} NAME, and name that one"
        return f"{joins}, a {network.get('Driver')} network of this node only: {way_out}"
    if not network.get("Attachable"):
        way_out = f"attachable: true where it is declared, or {create} NAME, and name that one"
        return f"{joins}, and it is not attachable: {way_out}"
    return ""


def problems(name: str, service: Service, services: Collection[str]) -> Iterator[str]:
    """Why a stack of *services* cannot have *service* as it is, one line for each key."""
    where = f"services.{name}"
    for key, value in service.items():
        if key in KEPT | CONVERTED | DROPPED or key.startswith("x-") or not value:
            continue
        yield f"{where}: {key} on Swarm: {REASONS.get(key, NO_SUCH_KEY)}"
    if service.get("entrypoint") == []:
        why = "a task would have that of the image: write it out, or leave it out"
        yield f"{where}: an empty entrypoint on Swarm: {why}"
    for other, how in (service.get("depends_on") or {}).items():
        condition = how.get("condition", "")
        what = f"{where}: depends_on {other} ({condition}) on Swarm: all tasks are started at once"
        if condition not in {"service_started", COMPLETED}:
            yield f"{what}: let the service wait for it itself"
        elif condition == COMPLETED and other in services:
            yield f"{what}: leave {other} out of services in cutover.toml, and it is run before them"
    for row in service.get("ports") or ():
        yield from (f"{where}: {each}" for each in _port_problems(row))
    yield from (f"{where}: {each}" for each in (*_mount_problems(service), *_key_problems(service)))


def _key_problems(service: Service) -> Iterator[str]:
    """Why a stack cannot have the resources and the networks of *service* as they are."""
    for kind, rows in ((service.get("deploy") or {}).get("resources") or {}).items():
        for key in _said(rows or {}, RESOURCE_KEYS.get(kind, frozenset())):
            yield f"deploy.resources.{kind}.{key} on Swarm: {NO_SUCH_KEY}"
    for network, rows in (service.get("networks") or {}).items():
        for key in _said(rows or {}, ENDPOINT_KEYS):
            own = "a task gets an address of its own: leave it out"
            yield f"networks.{network}.{key} on Swarm: {own if key.endswith('address') else NO_SUCH_KEY}"


def _network_problems(key: str, network: Mapping[str, Any]) -> Iterator[str]:
    for name in _said(_flat(network), NETWORK_KEYS):
        yield f"networks.{key}: {name} on Swarm: {NO_SUCH_KEY}"
    if network.get("driver") == "bridge":
        why = "it would be of one node only: leave it out, and it is an overlay network"
        yield f"networks.{key}: driver bridge on Swarm: {why}"


def _said(rows: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """The keys of *rows* that say something and are not *known*."""
    return [key for key, value in rows.items() if value and key not in known and not key.startswith("x-")]


def _flat(network: Mapping[str, Any]) -> dict[str, Any]:
    """*network* with a key for each part of its `ipam`: `ipam.config.subnet`."""
    ipam = network.get("ipam") or {}
    inner = {f"ipam.{key}": value for key, value in ipam.items() if key != "config"}
    parts = {f"ipam.config.{key}": value for each in ipam.get("config") or () for key, value in each.items()}
    return {key: value for key, value in network.items() if key != "ipam"} | inner | parts


def _mount_problems(service: Service) -> Iterator[str]:
    for row in service.get("volumes") or ():
        if unknown := join_list([key for key in _mount_keys(row) if key not in MOUNT_KEYS]):
            what = f"a stack would have the mount without {unknown}: leave {unknown} out"
            yield f"volume {row.get('target')} on Swarm: {what}"
    for text in service.get("tmpfs") or ():
        if unknown := ", ".join(_tmpfs(text)[2]):
            what = "it has the mode and owner of the folder in the image, and noexec, nosuid, nodev"
            yield f"tmpfs {text} on Swarm: {what}: leave {unknown} out"


def _port_problems(row: Mapping[str, Any]) -> Iterator[str]:
    published, address = str(row.get("published") or ""), str(row.get("host_ip") or "")
    if address:
        way_out = "leave the address out, and close the port by a firewall"
        yield f"port {address}:{published} on Swarm: it would be published on all addresses: {way_out}"
    if not published.isdecimal():
        yield f"port {published or row.get('target')} on Swarm: a color needs one fixed published port"


def _service(service: Service, project: str, name: str, config_hash: str) -> dict[str, Any]:
    kept = {key: value for key, value in service.items() if key in KEPT and value not in (None, [])}
    labels = {
        f"{LABEL}project": project, f"{LABEL}service": name, f"{LABEL}oneoff": "False",
        f"{LABEL}config-hash": config_hash,
    }  # fmt: skip
    rows = {
        "labels": dict(service.get("labels") or {}) | labels,
        "networks": {
            key: _without_none({name: (each or {}).get(name) for name in sorted(ENDPOINT_KEYS)})
            for key, each in (service.get("networks") or {}).items()
        },
        "ports": [_port(row) for row in service.get("ports") or ()],
        "volumes": [
            *(_mount(each) for each in service.get("volumes") or ()),
            *(_tmpfs_mount(each) for each in service.get("tmpfs") or ()),
        ],
        "deploy": _deploy(service),
        **{f"{kind}s": [_mounted(row) for row in service.get(f"{kind}s") or ()] for kind in KINDS},
    }
    return kept | {key: value for key, value in rows.items() if value}


def _deploy(service: Service) -> dict[str, Any]:
    given = dict(service.get("deploy") or {})
    names = {"memory": "mem_limit", "cpus": "cpus", "pids": "pids_limit"}
    limits = {key: service.get(name) for key, name in names.items()}
    resources = {
        kind: _as_text(rows | dict((given.get("resources") or {}).get(kind) or {}))
        for kind, rows in (("limits", limits), ("reservations", {"memory": service.get("mem_reservation")}))
    }
    # A rollback by the engine would go one level back, for one service only, and it would still exit with 0.
    update = dict(given.get("update_config") or {}) | {"failure_action": "pause"}
    rows = {
        "replicas": given.get("replicas", service.get("scale")),
        "resources": {kind: each for kind, each in resources.items() if each} or None,
        "restart_policy": given.get("restart_policy") or _restart(str(service.get("restart") or "")) or None,
        "update_config": update,
    }
    return _without_none(given | rows)


def _restart(policy: str) -> dict[str, Any]:
    kind, _, attempts = policy.partition(":")
    if not kind:
        return {}  # the default of Swarm: a task that ends is replaced
    return {"condition": CONDITIONS.get(kind, "any")} | ({"max_attempts": int(attempts)} if attempts else {})


def _as_text(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Limits as a stack takes them: the number of processes is a number, a list stays one, the others are text."""
    return {
        key: int(value) if key == "pids" else value if isinstance(value, list) else str(value)
        for key, value in rows.items()
        if value not in (None, "", [])
    }


def _port(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("target", "protocol", "mode") if row.get(key)}
    return kept | {"published": int(row["published"])}


def _mounted(row: Mapping[str, Any]) -> dict[str, Any]:
    mode = row.get("mode")
    # Octal digits as text, but of Compose before 2.34 the number itself.
    return dict(row) | ({"mode": mode if isinstance(mode, int) else int(str(mode), 8)} if mode else {})


def _mount(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = _without_none({key: row.get(key) for key in ("type", "source", "target", "read_only", "tmpfs")})
    nocopy = (row.get("volume") or {}).get("nocopy")
    return kept | ({"volume": {"nocopy": nocopy}} if nocopy else {})


def _mount_keys(row: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a mount that say something: `target`, `bind.propagation`."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner, each in value.items() if each)
        elif value:
            yield key


def _tmpfs(text: str) -> tuple[str, int | None, list[str]]:
    """Where a tmpfs of Compose is mounted, its size in bytes, and the options that a task cannot have."""
    target, _, options = text.partition(":")
    size, unknown = None, list[str]()
    for option in filter(None, options.split(",")):
        if found := TMPFS_SIZE.fullmatch(option):
            size = int(found[1]) * UNITS[found[2].lower()]
        elif option not in TMPFS_DEFAULTS | TMPFS_OPEN.get(target, frozenset()):
            unknown.append(option)
    return target, size, unknown


def _tmpfs_mount(text: str) -> dict[str, Any]:
    target, size, _ = _tmpfs(text)
    return {"type": "tmpfs", "target": target} | ({"tmpfs": {"size": size}} if size else {})


def _network(network: Mapping[str, Any]) -> dict[str, Any]:
    kept = {each.partition(".")[0] for each in NETWORK_KEYS}
    return {key: value for key, value in network.items() if key in kept and value not in (None, {}, [])}


def _without_none(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rows.items() if value is not None}
