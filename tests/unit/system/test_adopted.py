"""A container that runs, as the Compose file that makes it again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cutover.system.adopted import Adopted, Running, adopt

ID = "c" * 64
IMAGE: dict[str, Any] = {
    "Config": {
        "Env": ["PATH=/bin", "LEVEL=info"],
        "Entrypoint": ["/entry"],
        "Cmd": ["serve"],
        "Labels": {"vendor": "us"},
        "User": "app",
        "WorkingDir": "/srv",
        "ExposedPorts": {"8000/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "ok"], "Interval": 10**9},
    }
}
COMPOSE_LABELS = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
    "com.docker.compose.config-hash": "d" * 64,
}
PLAIN = {"image": "shop:1", "restart": "no"}


def adopted(replicas: int = 1, peers: tuple[str, ...] = (), **given: Any) -> Adopted:
    """What is made of a container that differs from its image as *given* says."""
    config = IMAGE["Config"] | {"Image": "shop:1", "Hostname": ID[:12]} | given.pop("Config", {})
    config["Labels"] = IMAGE["Config"]["Labels"] | COMPOSE_LABELS | given.pop("Labels", {})
    host = {"NetworkMode": "none", "ShmSize": 64 * 2**20} | given.pop("HostConfig", {})
    attributes = {"Id": ID, "Name": "/shop-web-1", "Config": config, "HostConfig": host} | given
    rows = {"web": Running(attributes, IMAGE, "shop:1", replicas)}
    other: dict[str, Any] = {"Config": {}, "HostConfig": {}}
    return adopt("shop", rows | {name: Running({"Id": name, **other}, {}, "x:1") for name in peers})


def test_what_the_image_says_is_left_to_the_image() -> None:
    """A container without settings of its own is its image, in its network mode."""
    assert adopted().model == {
        "name": "shop",
        "services": {"web": PLAIN | {"network_mode": "none"}},
    }


CONFIG: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"Env": ["PATH=/bin", "LEVEL=debug", "A=b=c", "E="]},
        {"environment": {"LEVEL": "debug", "A": "b=c", "E": ""}},
    ),
    ({"Env": ["PATH=/bin"]}, {"environment": {"LEVEL": None}}),
    ({"Cmd": ["work", "$HOME"]}, {"command": ["work", "$HOME"]}),
    ({"Entrypoint": ["sh"], "Cmd": None}, {"entrypoint": ["sh"]}),
    ({"Entrypoint": ["sh"], "Cmd": ["serve"]}, {"entrypoint": ["sh"], "command": ["serve"]}),
    ({"Entrypoint": None, "Cmd": ["sh"]}, {"entrypoint": [""], "command": ["sh"]}),
    ({"Cmd": None}, {"entrypoint": ["/entry"]}),
    ({"User": "0"}, {"user": "0"}),
    ({"WorkingDir": "/"}, {"working_dir": "/"}),
    ({"Hostname": "web"}, {"hostname": "web"}),
    ({"Domainname": "example.org"}, {"domainname": "example.org"}),
    ({"Tty": True, "OpenStdin": True}, {"tty": True, "stdin_open": True}),
    ({"StopSignal": "SIGINT", "StopTimeout": 0}, {"stop_signal": "SIGINT", "stop_grace_period": "0s"}),
    ({"ExposedPorts": {"8000/tcp": {}, "9/udp": {}}}, {"expose": ["9/udp"]}),
    ({"Healthcheck": {"Test": ["NONE"]}}, {"healthcheck": {"disable": True}}),
    (
        {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 1_500_000_000, "Retries": 2}},
        {"healthcheck": {"test": ["CMD-SHELL", "x"], "interval": "1500000us", "retries": 2}},
    ),
    (
        {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Retries": 2, "StartInterval": 10**9}},
        {"healthcheck": {"test": ["CMD-SHELL", "x"], "retries": 2}},
    ),
    (
        {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "StartPeriod": 10**9, "StartInterval": 10**9}},
        {
            "healthcheck": {
                "test": ["CMD-SHELL", "x"],
                "start_period": "1000000us",
                "start_interval": "1000000us",
            }
        },
    ),
]


@pytest.mark.parametrize(("config", "expected"), CONFIG)
def test_the_configuration_of_the_container(config: dict[str, Any], expected: dict[str, Any]) -> None:
    """What differs from the image is said, and nothing else."""
    found = adopted(Config=config)
    assert found.model["services"]["web"] == PLAIN | {"network_mode": "none"} | expected


HOST: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}, {"restart": "on-failure:3"}),
    ({"RestartPolicy": {"Name": "unless-stopped"}}, {"restart": "unless-stopped"}),
    ({"LogConfig": {"Type": "none", "Config": {}}}, {"logging": {"driver": "none"}}),
    (
        {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}},
        {"logging": {"driver": "json-file", "options": {"max-size": "1m"}}},
    ),
    ({"CapDrop": ["ALL"], "CapAdd": ["CAP_CHOWN"]}, {"cap_drop": ["ALL"], "cap_add": ["CAP_CHOWN"]}),
    ({"SecurityOpt": ["no-new-privileges:true"]}, {"security_opt": ["no-new-privileges:true"]}),
    ({"MaskedPaths": []}, {"security_opt": ["systempaths=unconfined"]}),
    ({"MaskedPaths": [], "Privileged": True}, {"privileged": True}),
    ({"Memory": 2**27, "MemorySwap": -1, "PidsLimit": 50}, {"mem_limit": 2**27, "memswap_limit": -1, "pids_limit": 50}),
    ({"NanoCpus": 500_000_000, "CpusetCpus": "0,1"}, {"cpus": 0.5, "cpuset": "0,1"}),
    ({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}]}, {"ulimits": {"nofile": {"soft": 1, "hard": 2}}}),
    ({"Init": False, "MemorySwappiness": 0}, {"init": False, "mem_swappiness": 0}),
    ({"ReadonlyRootfs": True, "ShmSize": 2**25}, {"read_only": True, "shm_size": 2**25}),
    ({"Tmpfs": {"/run": "size=1m", "/x": ""}}, {"tmpfs": ["/run:size=1m", "/x"]}),
    ({"Sysctls": {"net.core.somaxconn": "9"}}, {"sysctls": {"net.core.somaxconn": "9"}}),
    ({"ExtraHosts": ["a:10.0.0.1", "b:::1"]}, {"extra_hosts": ["a=10.0.0.1", "b=::1"]}),
    ({"Dns": ["10.0.0.2"], "DnsSearch": ["a"]}, {"dns": ["10.0.0.2"], "dns_search": ["a"]}),
    ({"IpcMode": "host", "PidMode": "host"}, {"ipc": "host", "pid": "host"}),
    (
        {"Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}]},
        {"devices": ["/dev/a:/dev/b:r"]},
    ),
    (
        {"DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]},
        {"deploy": {"resources": {"reservations": {"devices": [
            {"capabilities": ["gpu"], "driver": "nvidia", "count": "all"}]}}}},
    ),
    (
        {"BlkioWeight": 300, "BlkioDeviceReadBps": [{"Path": "/dev/a", "Rate": 9}]},
        {"blkio_config": {"weight": 300, "device_read_bps": [{"path": "/dev/a", "rate": 9}]}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("host", "expected"), HOST)
def test_the_host_configuration_of_the_container(host: dict[str, Any], expected: dict[str, Any]) -> None:
    """Limits, rights and surroundings are those that the container has."""
    found = adopted(HostConfig=host)
    assert found.model["services"]["web"] == PLAIN | {"network_mode": "none"} | expected
    assert not found.lost


@pytest.mark.parametrize(
    ("bound", "now", "replicas", "published"),
    [
        ("8000", "8000", 1, "8000"),
        ("", "32768", 1, "32768"),
        ("8000-8001", "8001", 2, "8000-8001"),
        ("", "", 1, None),
    ],
)
def test_ports_stay_those_that_users_know(bound: str, now: str, replicas: int, published: str | None) -> None:
    """Also one that the engine chose; of several replicas each has its own of the range."""
    ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": now}]} if now else {}
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": bound}]}
    found = adopted(replicas, HostConfig={"PortBindings": bindings}, NetworkSettings={"Ports": ports})
    (row,) = found.model["services"]["web"]["ports"]
    assert (row.get("published"), row["target"], row["host_ip"]) == (published, 80, "127.0.0.1")
    assert found.model["services"]["web"].get("scale") == (replicas if replicas > 1 else None)


def test_networks_are_joined_as_they_are() -> None:
    """With the aliases of the service, not those that Compose and the engine add, and the first network first."""
    joined = {
        "shop_default": {"Aliases": ["shop-web-1", "web", ID[:12], "api"], "Links": ["shop-db-1:db"]},
        "back": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}},
    }
    found = adopted(HostConfig={"NetworkMode": "back"}, NetworkSettings={"Networks": joined}).model
    assert found["services"]["web"]["networks"] == {
        "shop_default": {"aliases": ["api"]},
        "back": {"ipv4_address": "10.0.0.9", "priority": 1},
    }
    assert found["services"]["web"]["external_links"] == ["shop-db-1:db"]
    assert found["networks"]["back"] == {"name": "back", "external": True}


def test_a_namespace_of_another_service_is_named_by_the_service() -> None:
    """The other container is made anew as well, so its id would be gone; any other container stays."""
    shared = {"NetworkMode": "container:side", "PidMode": "container:far"}
    service = adopted(peers=("side",), HostConfig=shared, Config={"Hostname": "x"}).model["services"]["web"]
    assert service == PLAIN | {"network_mode": "service:side", "pid": "container:far"}


MOUNTS: list[tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = [
    (
        {"Type": "volume", "Name": "shop_data", "Mode": "z", "RW": True},
        None,
        {"type": "volume", "target": "/d", "source": "shop_data"},
    ),
    (
        {"Type": "bind", "Source": "/etc", "Mode": "ro,Z", "RW": False},
        None,
        {"type": "bind", "target": "/d", "source": "/etc", "read_only": True,
         "bind": {"create_host_path": True, "selinux": "Z"}},
    ),
    (
        {"Type": "bind", "Source": "/etc", "RW": True, "Propagation": "rshared"},
        {"BindOptions": {"NonRecursive": True}},
        {"type": "bind", "target": "/d", "source": "/etc",
         "bind": {"create_host_path": False, "propagation": "rshared", "recursive": "disabled"}},
    ),
    (
        {"Type": "volume", "Name": "shop_data", "RW": True},
        {"VolumeOptions": {"NoCopy": True, "Subpath": "a"}},
        {"type": "volume", "target": "/d", "source": "shop_data", "volume": {"nocopy": True, "subpath": "a"}},
    ),
    (
        {"Type": "tmpfs", "RW": True},
        {"TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o700}},
        {"type": "tmpfs", "target": "/d", "tmpfs": {"size": 1024, "mode": 0o700}},
    ),
    (
        {"Type": "image", "Source": "data:1", "RW": False},
        {"ImageOptions": {"Subpath": "a"}},
        {"type": "image", "target": "/d", "source": "data:1", "read_only": True, "image": {"subpath": "a"}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "said", "expected"), MOUNTS)
def test_data_stays_where_it_is(
    row: dict[str, Any], said: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    """Each mount has its source and options; a volume is used by its name, also one without a name of its own."""
    structured = {"Mounts": [{"Target": "/d", **said}]} if said is not None else {}
    found = adopted(HostConfig=structured, Mounts=[row | {"Destination": "/d"}]).model
    assert found["services"]["web"]["volumes"] == [expected]
    assert list(found.get("volumes", {})) == ([row["Name"]] if row["Type"] == "volume" else [])


def test_volumes_of_another_container_are_taken_from_it() -> None:
    """Only what the container brings itself is said beside it."""
    rows = [
        {"Type": "volume", "Name": name, "Destination": f"/{name}", "RW": True} for name in ("own", "its")
    ]
    host = {"VolumesFrom": ["far:ro"], "Binds": ["own:/own:rw"]}
    service = adopted(HostConfig=host, Mounts=rows).model["services"]["web"]
    assert service["volumes_from"] == ["container:far:ro"]
    assert [row["source"] for row in service["volumes"]] == ["own"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("shop-web-1", None), ("0123456789ab_shop-web-1", None), ("web", "web"), ("shop_web_1", "shop_web_1")],
)
def test_a_name_of_its_own_is_kept(name: str, expected: str | None) -> None:
    """That of Compose, also the one that it gives for a moment, is left to Compose."""
    assert adopted(Name=f"/{name}").model["services"]["web"].get("container_name") == expected


def test_labels_of_the_team_are_kept() -> None:
    """Those of Compose and of the image are made anew."""
    assert adopted(Labels={"team": "a"}).model["services"]["web"]["labels"] == {"team": "a"}


@pytest.mark.parametrize(
    ("host", "lost"),
    [
        ({"AutoRemove": True}, "web: --rm"),
        ({"PublishAllPorts": True}, "web: --publish-all"),
        (
            {"SecurityOpt": ['seccomp={"defaultAction": 1}']},
            "web: its seccomp profile, whose file is unknown",
        ),
    ],
)
def test_what_no_compose_file_says_is_named(host: dict[str, Any], lost: str) -> None:
    """So that nobody is told that all will be as before."""
    found = adopted(HostConfig=host)
    assert found.lost == (lost,)
    assert "security_opt" not in found.model["services"]["web"]


def test_the_file_means_what_the_container_has() -> None:
    """Compose replaces variables in a release file too, so a dollar is doubled."""
    found = adopted(Config={"Env": ["PATH=/bin", "LEVEL=info", "KEY=a$b"], "Cmd": ["$HOME"]})
    service = json.loads(found.text)["services"]["web"]
    assert (service["environment"], service["command"]) == ({"KEY": "a$$b"}, ["$$HOME"])
    assert found.environment == {"KEY": "a$b"}


def test_the_name_of_the_host_is_not_given_to_it() -> None:
    """The engine refuses a host name in the UTS namespace of the host, and fills in that of the host."""
    found = adopted(HostConfig={"NetworkMode": "host", "UTSMode": "host"}, Config={"Hostname": "vm"})
    assert found.model["services"]["web"] == PLAIN | {"network_mode": "host", "uts": "host"}
