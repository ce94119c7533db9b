"""A running container as a Compose service: from `docker inspect` to a release file that makes it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Inspected = Mapping[str, Any]
"""One `docker inspect` or `docker image inspect`."""

COMPOSE_LABEL = "com.docker.compose."
OWN_NETWORK = ("host", "none", "bridge", "default")
"""Values of NetworkMode that name no network of a project."""
SHM_BYTES = 64 * 2**20  # default of the engine
HOST_KEYS = {
    "Annotations": "annotations",
    "CapAdd": "cap_add",
    "CapDrop": "cap_drop",
    "CgroupParent": "cgroup_parent",
    "CgroupnsMode": "cgroup",
    "CpuPeriod": "cpu_period",
    "CpuQuota": "cpu_quota",
    "CpuRealtimePeriod": "cpu_rt_period",
    "CpuRealtimeRuntime": "cpu_rt_runtime",
    "CpuShares": "cpu_shares",
    "CpusetCpus": "cpuset",
    "DeviceCgroupRules": "device_cgroup_rules",
    "Dns": "dns",
    "DnsOptions": "dns_opt",
    "DnsSearch": "dns_search",
    "GroupAdd": "group_add",
    "Memory": "mem_limit",
    "MemoryReservation": "mem_reservation",
    "MemorySwap": "memswap_limit",
    "OomKillDisable": "oom_kill_disable",
    "OomScoreAdj": "oom_score_adj",
    "PidsLimit": "pids_limit",
    "Privileged": "privileged",
    "ReadonlyRootfs": "read_only",
    "Runtime": "runtime",
    "StorageOpt": "storage_opt",
    "Sysctls": "sysctls",
    "UTSMode": "uts",
    "UsernsMode": "userns_mode",
}
"""Key of HostConfig -> key of Compose with the same value, left out where it is empty."""
ZERO_KEYS = frozenset({"init", "mem_swappiness"})
"""Keys of Compose for which false or 0 differs from none."""
UNWRITABLE = {"AutoRemove": "--rm", "CpusetMems": "--cpuset-mems", "PublishAllPorts": "--publish-all"}
"""Key of HostConfig that Compose has no key for -> the option of `docker run` that sets it."""
BLKIO_KEYS = {
    "BlkioDeviceReadBps": "device_read_bps",
    "BlkioDeviceReadIOps": "device_read_iops",
    "BlkioDeviceWriteBps": "device_write_bps",
    "BlkioDeviceWriteIOps": "device_write_iops",
    "BlkioWeightDevice": "weight_device",
}


@dataclass(frozen=True, slots=True)
class Adopted:
    """A Compose file that makes running containers again."""

    model: Mapping[str, Any]
    lost: tuple[str, ...]
    """What the containers have and a Compose file cannot say, one phrase each."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables of all services, which may hold secrets."""
        rows = (each.get("environment") or {} for each in self.model["services"].values())
        return {key: value for row in rows for key, value in row.items() if value}

    @property
    def text(self) -> str:
        """The release file: JSON, which Compose reads as YAML; `$` is escaped as `$$`."""
        return json.dumps(_escaped(self.model), indent=1)


@dataclass(frozen=True, slots=True)
class Running:
    """What is known of the containers of one service."""

    attributes: Inspected
    """Of its serving container."""
    image: Inspected
    """`docker image inspect` of the image that it runs; empty if it is unknown."""
    reference: str
    """The name by which the file gives the image."""
    replicas: int = 1


def adopt(project: str, running: Mapping[str, Running]) -> Adopted:
    """Return the Compose file of the services that are *running* in *project*; networks and volumes are not made."""
    peers = {str(each.attributes["Id"]): service for service, each in running.items()}
    services, lost = {}, []
    networks: dict[str, Any] = {}
    volumes: dict[str, Any] = {}
    for name, each in running.items():
        one = _Service(project, name, each, peers)
        services[name] = one.model()
        lost += [f"{name}: {what}" for what in one.lost()]
        for key in services[name].get("networks") or ():
            networks[key] = {"name": key, "external": True}
        for row in services[name].get("volumes") or ():
            if row["type"] == "volume":
                volumes[row["source"]] = {"name": row["source"], "external": True}
    model = {"name": project, "services": services, "networks": networks, "volumes": volumes}
    return Adopted({key: value for key, value in model.items() if value}, tuple(lost))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _escaped(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(each) for each in value]
    return value


@dataclass(frozen=True, slots=True)
class _Service:
    project: str
    name: str
    running: Running
    peers: Mapping[str, str]
    """Container id -> service, of the services of the same file."""
    config: Inspected = field(init=False)
    host: Inspected = field(init=False)
    base: Inspected = field(init=False)
    """What the image configures."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.running.attributes["Config"])
        object.__setattr__(self, "host", self.running.attributes.get("HostConfig") or {})
        object.__setattr__(self, "base", self.running.image.get("Config") or {})

    def model(self) -> dict[str, Any]:
        """The service, without what the image says already and without what Compose adds."""
        found: dict[str, Any] = {"image": self.running.reference}
        found |= dict(self._command())
        found |= {"environment": self._environment(), "labels": self._labels()}
        found |= {"healthcheck": self._healthcheck(), "expose": self._expose(), "ports": self._ports()}
        found |= {key: value for name, key in HOST_KEYS.items() if (value := self.host.get(name))}
        found |= dict(self._identity()) | dict(self._limits()) | dict(self._network())
        found |= {"volumes": self._volumes(), "tmpfs": self._tmpfs(), "security_opt": self._security()}
        zero = {key for key in ZERO_KEYS if found.get(key) is not None}
        return {key: value for key, value in found.items() if value or key in zero}

    def lost(self) -> Iterator[str]:
        """What no key of Compose says."""
        yield from (option for key, option in UNWRITABLE.items() if self.host.get(key))
        if any(_inline_seccomp(each) for each in self.host.get("SecurityOpt") or ()):
            yield "its seccomp profile, whose file is unknown"
        if any(len(each.get("Capabilities") or ()) > 1 for each in self.host.get("DeviceRequests") or ()):
            yield "--gpus with alternative capabilities"
        mounts = self.running.attributes.get("Mounts") or ()
        lost = (row for row in mounts if row.get("Type") in {"cluster", "npipe"})
        yield from (f"the {row['Type']} mount on {row['Destination']}" for row in lost)

    # --- what runs ------------------------------------------------------------------------------------------------
    def _command(self) -> Iterator[tuple[str, Any]]:
        entrypoint, command = self.config.get("Entrypoint") or [], self.config.get("Cmd") or []
        image = (self.base.get("Entrypoint") or [], self.base.get("Cmd") or [])
        # The engine takes the command of the image only with its entrypoint, and an empty one means that of the image.
        if entrypoint != image[0] or (not command and image[1]):
            yield "entrypoint", entrypoint or [""]
            yield "command", command or None
        elif command != image[1]:
            yield "command", command

    def _environment(self) -> dict[str, str | None]:
        ours, image = _pairs(self.config.get("Env")), _pairs(self.base.get("Env"))
        unset = {key: None for key in image if key not in ours}
        return {key: value for key, value in ours.items() if image.get(key) != value} | unset

    def _labels(self) -> dict[str, str]:
        image, ours = self.base.get("Labels") or {}, self.config.get("Labels") or {}
        rows = {key: value for key, value in ours.items() if not key.startswith(COMPOSE_LABEL)}
        return {key: value for key, value in rows.items() if image.get(key) != value}

    def _healthcheck(self) -> dict[str, Any]:
        ours, image = self.config.get("Healthcheck") or {}, self.base.get("Healthcheck") or {}
        if ours == image:
            return {}
        if (ours.get("Test") or ["NONE"])[0] == "NONE":
            return {"disable": True}
        names = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
        # Compose refuses it without the period in which alone it counts.
        names |= {"start_interval": "StartInterval"} if ours.get("StartPeriod") else {}
        durations = {key: f"{ours[name] // 1000}us" for key, name in names.items() if ours.get(name)}
        retries = {"retries": ours["Retries"]} if ours.get("Retries") else {}
        return {"test": ours["Test"], **durations, **retries}

    def _identity(self) -> Iterator[tuple[str, Any]]:
        """Name, user and folder, and how the container starts and ends."""
        given, config, host = self.running.attributes, self.config, self.host
        number = (config.get("Labels") or {}).get(f"{COMPOSE_LABEL}container-number", "1")
        name = str(given.get("Name", "")).lstrip("/")
        # Compose names a container that it replaces `<id>_<name>`, and keeps that name if it is interrupted.
        usual = re.sub(r"^[0-9a-f]{12}_", "", name) == f"{self.project}-{self.name}-{number}"
        if self.running.replicas > 1:
            yield "scale", self.running.replicas
        elif not usual:
            yield "container_name", name
        if config.get("User", "") != self.base.get("User", ""):
            yield "user", config["User"]
        if (config.get("WorkingDir") or "/") != (self.base.get("WorkingDir") or "/"):
            yield "working_dir", config["WorkingDir"]
        shares = str(host.get("NetworkMode", "")).startswith("container:") or host.get("UTSMode") == "host"
        if not shares and config.get("Hostname") != str(given["Id"])[:12]:
            yield "hostname", config.get("Hostname")
        yield "domainname", config.get("Domainname")
        yield "mac_address", config.get("MacAddress")
        yield "tty", config.get("Tty")
        yield "stdin_open", config.get("OpenStdin")
        if config.get("StopSignal", "") != self.base.get("StopSignal", ""):
            yield "stop_signal", config.get("StopSignal")
        if config.get("StopTimeout") is not None:
            yield "stop_grace_period", f"{config['StopTimeout']}s"
        restart = host.get("RestartPolicy") or {}
        tries = f":{restart['MaximumRetryCount']}" if restart.get("MaximumRetryCount") else ""
        yield "restart", f"{restart.get('Name') or 'no'}{tries}"
        log = host.get("LogConfig") or {}
        if log.get("Type"):
            options = {"options": log["Config"]} if log.get("Config") else {}
            yield "logging", {"driver": log["Type"], **options}

    def _limits(self) -> Iterator[tuple[str, Any]]:
        host = self.host
        if host.get("NanoCpus"):
            yield "cpus", host["NanoCpus"] / 1e9
        if host.get("MemorySwappiness") not in {None, -1}:
            yield "mem_swappiness", host["MemorySwappiness"]
        if host.get("Init") is not None:
            yield "init", host["Init"]
        if host.get("ShmSize") != SHM_BYTES:
            yield "shm_size", host.get("ShmSize")
        ulimits = host.get("Ulimits") or ()
        yield "ulimits", {row["Name"]: {"soft": row["Soft"], "hard": row["Hard"]} for row in ulimits}
        parts = ("PathOnHost", "PathInContainer", "CgroupPermissions")
        yield "devices", [":".join(row[part] for part in parts) for row in host.get("Devices") or ()]
        requests = [_device_request(each) for each in host.get("DeviceRequests") or ()]
        if requests:
            yield "deploy", {"resources": {"reservations": {"devices": requests}}}
        blkio: dict[str, Any] = {"weight": host["BlkioWeight"]} if host.get("BlkioWeight") else {}
        for theirs, ours in BLKIO_KEYS.items():
            if rows := host.get(theirs):
                blkio[ours] = [{name.lower(): value for name, value in row.items()} for row in rows]
        yield "blkio_config", blkio

    def _security(self) -> list[str]:
        given = [each for each in self.host.get("SecurityOpt") or () if not _inline_seccomp(each)]
        unmasked = self.host.get("MaskedPaths") == [] and not self.host.get("Privileged")
        return [*given, *(["systempaths=unconfined"] if unmasked else [])]

    # --- how it is reached ----------------------------------------------------------------------------------------
    def _expose(self) -> list[str]:
        known = {*(self.base.get("ExposedPorts") or {}), *(self.host.get("PortBindings") or {})}
        return sorted({*(self.config.get("ExposedPorts") or {})} - known)

    def _ports(self) -> list[dict[str, Any]]:
        now = (self.running.attributes.get("NetworkSettings") or {}).get("Ports") or {}
        return [
            self._port(inner, binding, (now.get(inner) or ())[number : number + 1])
            for inner, bindings in (self.host.get("PortBindings") or {}).items()
            for number, binding in enumerate(bindings or ())
        ]

    def _port(
        self, inner: str, binding: Mapping[str, str], now: Sequence[Mapping[str, str]]
    ) -> dict[str, Any]:
        target, _, protocol = inner.partition("/")
        published = binding.get("HostPort") or ""
        # Users know the port that the engine chose; of a range each replica has its own.
        if not published.isdigit() or int(published) == 0:
            chosen = now[0]["HostPort"] if now else ""
            published = chosen if self.running.replicas == 1 else published
        row = {"mode": "ingress", "target": int(target), "protocol": protocol or "tcp"}
        row |= {"published": published} if published else {}
        return row | ({"host_ip": binding["HostIp"]} if binding.get("HostIp") else {})

    def _network(self) -> Iterator[tuple[str, Any]]:
        host, mode = self.host, str(self.host.get("NetworkMode") or "")
        for key, name in {"network_mode": "NetworkMode", "pid": "PidMode", "ipc": "IpcMode"}.items():
            value = str(host.get(name) or "")
            kind, _, container = value.partition(":")
            if kind == "container":
                yield key, f"service:{self.peers[container]}" if container in self.peers else value
            elif key != "network_mode" or mode in OWN_NETWORK:
                yield key, value
        yield "volumes_from", [self._volumes_from(each) for each in host.get("VolumesFrom") or ()]
        yield "extra_hosts", [each.replace(":", "=", 1) for each in host.get("ExtraHosts") or ()]
        if mode in OWN_NETWORK or mode.startswith("container:"):
            return
        joined = (self.running.attributes.get("NetworkSettings") or {}).get("Networks") or {}
        networks = {name: self._endpoint(row or {}) for name, row in joined.items()}
        if len(joined) > 1 and mode in networks:
            networks[mode]["priority"] = 1
        yield "networks", networks
        links = {each.lstrip("/") for row in joined.values() for each in (row or {}).get("Links") or ()}
        yield "external_links", sorted(links)

    def _endpoint(self, row: Inspected) -> dict[str, Any]:
        ours = {str(self.running.attributes["Id"])[:12], self.name}
        ours.add(str(self.running.attributes.get("Name", "")).lstrip("/"))
        address = row.get("IPAMConfig") or {}
        found = {
            "aliases": sorted({*(row.get("Aliases") or ())} - ours),
            "ipv4_address": address.get("IPv4Address"),
            "ipv6_address": address.get("IPv6Address"),
            "link_local_ips": address.get("LinkLocalIPs"),
            "driver_opts": row.get("DriverOpts"),
            "gw_priority": row.get("GwPriority"),
        }
        return {key: value for key, value in found.items() if value}

    # --- where its data is ----------------------------------------------------------------------------------------
    def _volumes_from(self, given: str) -> str:
        container, colon, mode = given.partition(":")
        service = self.peers.get(container)
        return f"{service or f'container:{container}'}{colon}{mode}"

    def _volumes(self) -> list[dict[str, Any]]:
        said = {each["Target"]: each for each in self.host.get("Mounts") or ()}
        own = {*said, *(self.config.get("Volumes") or {})}
        own |= {each.split(":")[1] for each in self.host.get("Binds") or () if ":" in each}
        rows = self.running.attributes.get("Mounts") or ()
        kinds = {"bind", "volume", "tmpfs", "image"}
        taken = [row for row in rows if row["Type"] in kinds]
        if self.host.get("VolumesFrom"):
            taken = [row for row in taken if row["Destination"] in own]
        return [_mount(row, said.get(row["Destination"])) for row in taken]

    def _tmpfs(self) -> list[str]:
        rows = (self.host.get("Tmpfs") or {}).items()
        return [f"{path}:{options}" if options else path for path, options in rows]


def _pairs(rows: Sequence[str] | None) -> dict[str, str]:
    return {key: value for key, _, value in (row.partition("=") for row in rows or ())}


def _inline_seccomp(option: str) -> bool:
    """Whether *option* holds a seccomp profile itself; Compose reads one from a file only."""
    return option.startswith("seccomp") and "{" in option


def _device_request(row: Inspected) -> dict[str, Any]:
    ids = row.get("DeviceIDs") or []
    found = {
        "capabilities": [*(row.get("Capabilities") or [[]])[0]],
        "driver": row.get("Driver"),
        "device_ids": ids,
        "options": row.get("Options"),
    }
    count = {} if ids else {"count": "all" if row.get("Count") == -1 else row.get("Count") or "all"}
    return {key: value for key, value in found.items() if value or key == "capabilities"} | count


def _mount(row: Inspected, said: Inspected | None) -> dict[str, Any]:
    """A row of `Mounts` in the long form; *said* is what the container was created with, if that was a structure."""
    kind, modes = str(row["Type"]), {*str(row.get("Mode") or "").split(",")}
    found: dict[str, Any] = {"type": kind, "target": row["Destination"]}
    if kind != "tmpfs":
        found["source"] = row.get("Name") if kind == "volume" else row.get("Source")
    if not row.get("RW", True):
        found["read_only"] = True
    options: dict[str, Any] = {}
    if kind == "bind":
        bind = (said or {}).get("BindOptions") or {}
        options["create_host_path"] = said is None or bool(bind.get("CreateMountpoint"))
        if row.get("Propagation") not in {None, "", "rprivate"}:
            options["propagation"] = row["Propagation"]
        if label := next(iter(modes & {"z", "Z"}), None):
            options["selinux"] = label
        options |= {"recursive": "disabled"} if bind.get("NonRecursive") else {}
    elif kind == "volume":
        volume = (said or {}).get("VolumeOptions") or {}
        options |= {"nocopy": True} if "nocopy" in modes or volume.get("NoCopy") else {}
        options |= {"subpath": volume["Subpath"]} if volume.get("Subpath") else {}
    elif kind == "tmpfs":
        tmpfs = (said or {}).get("TmpfsOptions") or {}
        options |= {"size": tmpfs["SizeBytes"]} if tmpfs.get("SizeBytes") else {}
        options |= {"mode": tmpfs["Mode"]} if tmpfs.get("Mode") else {}
    elif (said or {}).get("ImageOptions", {}).get("Subpath"):
        options["subpath"] = (said or {})["ImageOptions"]["Subpath"]
    return found | ({kind: options} if options else {})
