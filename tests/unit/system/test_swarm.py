"""A rendered Compose model as a stack: what is converted, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutover.core.errors import ConfigError
from cutover.system.compose import Rendered, with_digests
from cutover.system.docker import SwarmNode, read_node
from cutover.system.swarm import (
    KEPT,
    Content,
    Stack,
    contents_of,
    fits,
    network_problem,
    one_offs_of,
    platform_problem,
    stack_of,
    why_no_manager,
    why_too_old,
)

FILE = Path("/state/releases/blue/1.yml")
PORT = {"mode": "host", "target": 8000, "published": "8001", "protocol": "tcp"}


def stack(**service: Any) -> dict[str, Any]:
    """The stack of one service `api` with these keys."""
    model = {
        "name": "recall_blue",
        "services": {"api": {"image": "recall/api:sha-1", "command": None} | service, "db": {"build": "."}},
        "networks": {"default": {"name": "recall_blue_default", "ipam": {}}, "other": {"name": "x"}},
        "volumes": {"data": {"name": "shared", "external": True}, "other": {"name": "y"}},
    }
    return stack_of(model, "recall_blue", ["api"], {"api": "4f1c"})


def api(**service: Any) -> dict[str, Any]:
    """The converted service."""
    found: dict[str, Any] = stack(**service)["services"]["api"]
    return found


def test_keeps_the_service_and_what_it_uses() -> None:
    """Other services, networks and volumes are left out, like the name of the project and empty keys."""
    made = stack(
        networks={"default": None},
        volumes=[{"type": "volume", "source": "data", "target": "/data", "volume": {}}],
    )
    assert made == {
        "version": "3.13",
        "services": {
            "api": {
                "image": "recall/api:sha-1",
                "labels": {
                    "com.docker.compose.project": "recall_blue",
                    "com.docker.compose.service": "api",
                    "com.docker.compose.oneoff": "False",
                    "com.docker.compose.config-hash": "4f1c",
                },
                "networks": {"default": {}},
                "volumes": [{"type": "volume", "source": "data", "target": "/data"}],
                "deploy": {
                    "update_config": {"failure_action": "pause"},
                },
            }
        },
        "networks": {"default": {"name": "recall_blue_default"}},
        "volumes": {"data": {"name": "shared", "external": True}},
    }


def test_tmpfs_becomes_a_mount() -> None:
    """A stack ignores the key `tmpfs`, and the container would have no such folder."""
    volume = {"type": "volume", "source": "data", "target": "/data"}
    made = api(volumes=[volume], tmpfs=["/tmp:size=16m,mode=1777,noexec,nosuid,nodev", "/run"])
    assert "tmpfs" not in made
    assert made["volumes"] == [
        volume,
        {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 16 * 2**20}},
        {"type": "tmpfs", "target": "/run"},
    ]


def test_limits_become_resources() -> None:
    """The keys of Compose beside `deploy` count where `deploy` does not say otherwise."""
    given = {"deploy": {"resources": {"limits": {"memory": "1G"}}, "placement": None}}
    made = api(mem_limit="268435456", cpus=0.5, pids_limit=128, mem_reservation="1000", **given)["deploy"]
    assert made["resources"] == {
        "limits": {"memory": "1G", "cpus": "0.5", "pids": 128},
        "reservations": {"memory": "1000"},
    }
    assert "placement" not in made


@pytest.mark.parametrize(
    ("restart", "policy"),
    [
        ("no", {"condition": "none"}),
        ("always", {"condition": "any"}),
        ("unless-stopped", {"condition": "any"}),
        ("on-failure:3", {"condition": "on-failure", "max_attempts": 3}),
    ],
)
def test_restart_becomes_a_policy(restart: str, policy: dict[str, Any]) -> None:
    """Each policy of Compose has one of Swarm."""
    assert api(restart=restart)["deploy"]["restart_policy"] == policy


def test_the_engine_never_rolls_back_itself() -> None:
    """`failure_action` is `pause`, whatever the file says; the rest of `update_config` stays."""
    made = api(
        deploy={"replicas": 2, "update_config": {"order": "start-first", "failure_action": "rollback"}}
    )["deploy"]
    assert made["update_config"] == {"order": "start-first", "failure_action": "pause"}
    assert made["replicas"] == 2
    assert api(scale=3)["deploy"]["replicas"] == 3


def test_a_port_is_a_number() -> None:
    """Compose writes the published port as text."""
    assert api(ports=[PORT])["ports"] == [
        {"mode": "host", "target": 8000, "published": 8001, "protocol": "tcp"}
    ]


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ({"container_name": "api"}, "services.api: container_name on Swarm: a task has a name of its own"),
        ({"build": {"context": "."}}, "services.api: build on Swarm: a stack cannot build"),
        ({"network_mode": "host"}, "services.api: network_mode on Swarm: a task has networks only"),
        (
            {"security_opt": ["no-new-privileges:true"]},
            "services.api: security_opt on Swarm: Swarm ignores it",
        ),
        ({"memswap_limit": "1g"}, "services.api: memswap_limit on Swarm: Swarm has no limit of swap"),
        ({"shm_size": "64m"}, "services.api: shm_size on Swarm: a stack has no such key"),
        (
            {"entrypoint": []},
            "services.api: an empty entrypoint on Swarm: a task would have that of the image",
        ),
        (
            {"ports": [PORT | {"host_ip": "127.0.0.1"}]},
            "port 127.0.0.1:8001 on Swarm: it would be published on all",
        ),
        ({"ports": [PORT | {"published": "8001-8003"}]}, "port 8001-8003 on Swarm: a color needs one fixed"),
        (
            {"depends_on": {"db": {"condition": "service_healthy"}}},
            "depends_on db (service_healthy) on Swarm: all tasks are started at once: let the service wait",
        ),
        (
            {"depends_on": {"api": {"condition": "service_completed_successfully"}}},
            "depends_on api (service_completed_successfully) on Swarm: all tasks are started at once: leave api out of",
        ),
    ],
)
def test_refuses_what_swarm_ignores_or_misreads(service: dict[str, Any], said: str) -> None:
    """The message names the key and the way out."""
    with pytest.raises(ConfigError) as raised:
        stack(**service)
    assert said in str(raised.value)


# What `docker stack deploy` of the docker CLI 26 takes, version 3.13 of its schema; anything else ends the deploy.
SCHEMA_OF_A_SERVICE = frozenset({
    "cap_add", "cap_drop", "command", "configs", "deploy", "dns", "dns_search", "entrypoint", "environment", "extra_hosts",
    "healthcheck", "hostname", "image", "init", "isolation", "labels", "logging", "networks", "ports", "read_only",
    "secrets", "stdin_open", "stop_grace_period", "stop_signal", "sysctls", "tty", "ulimits", "user", "volumes",
    "working_dir",
})  # fmt: skip


def test_no_key_is_taken_over_that_a_stack_refuses() -> None:
    """It would be refused by the deploy only, when the release has begun."""
    assert KEPT <= SCHEMA_OF_A_SERVICE
    with pytest.raises(ConfigError, match=r"services\.api: dns_opt on Swarm: a stack has no such key"):
        api(dns_opt=["ndots:1"])


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        (None, ""),
        ({"aliases": ["x"], "driver_opts": {"a": "b"}, "priority": 0, "x-note": "y"}, ""),
        ({"ipv4_address": "10.0.0.9"}, "ipv4_address on Swarm: a task gets an address of its own"),
        ({"ipv6_address": "fd00::9"}, "ipv6_address on Swarm: a task gets an address of its own"),
        ({"mac_address": "02:42:ac:11:00:03"}, "mac_address on Swarm: a task gets an address of its own"),
        ({"link_local_ips": ["169.254.8.8"]}, "link_local_ips on Swarm: a stack has no such key"),
        ({"priority": 100}, "priority on Swarm: a stack has no such key"),
        ({"gw_priority": 1}, "gw_priority on Swarm: a stack has no such key"),
        ({"interface_name": "eth9"}, "interface_name on Swarm: a stack has no such key"),
    ],
)
def test_refuses_what_a_task_cannot_have_on_a_network(rows: dict[str, Any] | None, refused: str) -> None:
    """Each key that the Swarm ignores or that ends its deploy; no default."""
    if not refused:
        assert api(networks={"default": rows})["networks"]["default"].keys() <= {"aliases", "driver_opts"}
        return
    with pytest.raises(ConfigError) as error:
        api(networks={"default": rows})
    assert str(error.value).startswith(f"services.api: networks.default.{refused}")


@pytest.mark.parametrize(
    ("network", "refused"),
    [
        ({"ipam": {}, "internal": False, "enable_ipv6": False, "x-note": "y"}, []),
        ({"ipam": {"driver": "default", "config": [{"subnet": "10.9.0.0/24"}]}, "labels": {"a": "b"}}, []),
        ({"driver": "overlay", "driver_opts": {"encrypted": ""}, "attachable": True, "internal": True}, []),
        ({"ipam": {"config": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]}}, ["ipam.config.gateway"]),
        ({"ipam": {"config": [{"ip_range": "10.9.0.0/25"}], "options": {"a": "b"}}},
         ["ipam.options", "ipam.config.ip_range"]),
        ({"enable_ipv6": True, "enable_ipv4": True}, ["enable_ipv6", "enable_ipv4"]),
        ({"driver": "bridge"}, ["driver bridge"]),
    ],
)  # fmt: skip
def test_refuses_what_a_network_of_a_stack_cannot_have(network: dict[str, Any], refused: list[str]) -> None:
    """Of a network that a released service joins; one line for each key."""
    model = {
        "services": {"api": {"image": "x", "networks": {"own": None}}},
        "networks": {"own": network, "other": {"enable_ipv6": True}},
    }
    if not refused:
        made = stack_of(model, "recall_blue", ["api"], {})["networks"]["own"]
        assert made.keys() <= network.keys() - {"enable_ipv6", "x-note"}
        return
    with pytest.raises(ConfigError) as error:
        stack_of(model, "recall_blue", ["api"], {})
    assert [line.partition(" on Swarm")[0] for line in str(error.value).splitlines()] == [
        f"networks.own: {each}" for each in refused
    ]


GPU = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
GENERIC = [{"discrete_resource_spec": {"kind": "gpu", "value": 1}}]


@pytest.mark.parametrize(
    ("resources", "made", "refused"),
    [
        (
            {"reservations": {"generic_resources": GENERIC}},
            {"reservations": {"generic_resources": GENERIC}},
            "",
        ),
        ({"reservations": {"devices": []}}, None, ""),
        ({"reservations": {"cpus": 0.5, "devices": GPU}}, None, "reservations.devices"),
        ({"reservations": {"pids": 10}}, None, "reservations.pids"),
        ({"limits": {"devices": GPU}}, None, "limits.devices"),
    ],
)
def test_resources_of_a_stack(resources: dict[str, Any], made: dict[str, Any] | None, refused: str) -> None:
    """A list of them is taken over or refused by name, as all that a stack cannot reserve."""
    if refused:
        with pytest.raises(
            ConfigError, match=f"services.api: deploy.resources.{refused} on Swarm: a stack has no"
        ):
            api(deploy={"resources": resources})
    else:
        assert api(deploy={"resources": resources})["deploy"].get("resources") == made


def test_a_key_of_a_persons_own_says_nothing_about_a_container() -> None:
    """An extension (`x-…`) is left out, as a stack does."""
    assert set(api(**{"x-owner": "ana"})) == {"image", "labels", "deploy"}
    assert set(api(command=[], cap_add=[])) == {"image", "labels", "deploy"}  # an empty list ends a deploy


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o444, 0o555, 0o755])
def test_the_mode_of_a_secret_is_what_the_file_says(mode: int) -> None:
    """Compose up to 2.33 writes it as a number, later ones as octal digits."""
    for written in (mode, f"0{mode:o}", f"{mode:o}"):
        secret = {"source": "key", "target": "/run/secrets/key", "mode": written}
        assert api(secrets=[secret])["secrets"] == [secret | {"mode": mode}]


BIND = {"type": "bind", "source": "/srv", "target": "/data", "bind": {"create_host_path": True}}
VOLUME = {"type": "volume", "source": "data", "target": "/data", "volume": {}}


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        (BIND, ""),
        (
            BIND | {"read_only": True, "bind": {"create_host_path": False, "propagation": "", "selinux": ""}},
            "",
        ),
        (VOLUME, ""),
        (VOLUME | {"volume": {"nocopy": True}}, ""),
        ({"type": "tmpfs", "target": "/data", "tmpfs": {"size": 1024}}, ""),
        (BIND | {"bind": {"propagation": "rshared", "create_host_path": True}}, "bind.propagation"),
        (BIND | {"bind": {"selinux": "Z", "recursive": "disabled"}}, "bind.selinux and bind.recursive"),
        (VOLUME | {"volume": {"nocopy": True, "subpath": "a"}}, "volume.subpath"),
        (VOLUME | {"volume": {"labels": {"a": "b"}}}, "volume.labels"),
        (BIND | {"consistency": "cached"}, "consistency"),
        ({"type": "tmpfs", "target": "/data", "tmpfs": {"mode": 0o700}}, "tmpfs.mode"),
        (
            {"type": "image", "source": "data:1", "target": "/data", "image": {"subpath": "a"}},
            "image.subpath",
        ),
    ],
)
def test_refuses_what_a_mount_of_a_stack_cannot_have(row: dict[str, Any], refused: str) -> None:
    """Each key that would be left out, so that another folder would be mounted, or in another way; no default."""
    if not refused:
        assert api(volumes=[row])["volumes"][0]["target"] == "/data"
        return
    with pytest.raises(ConfigError) as error:
        api(volumes=[row])
    without = f"a stack would have the mount without {refused}: leave {refused} out"
    assert str(error.value) == f"services.api: volume /data on Swarm: {without}"


def test_refuses_what_a_tmpfs_of_a_task_cannot_have() -> None:
    """Each option that would be lost is named."""
    with pytest.raises(
        ConfigError, match=r"tmpfs /run:uid=5,exec,mode=1777 on Swarm: .* leave uid=5, exec, mode=1777 out"
    ):
        api(tmpfs=["/run:uid=5,exec,mode=1777", "/tmp:rw,mode=1777"])


def test_refuses_all_at_once() -> None:
    """One line for each key."""
    with pytest.raises(ConfigError) as raised:
        stack(container_name="api", shm_size="64m", ports=[PORT | {"host_ip": "127.0.0.1"}])
    assert len(str(raised.value).splitlines()) == 3


def test_drops_what_says_nothing_about_a_container() -> None:
    """Profiles and the pull policy have decided already; what must complete is run before a stack is deployed."""
    started, completed = "service_started", "service_completed_successfully"
    given = {
        "profiles": ["x"],
        "pull_policy": "never",
        "depends_on": {"db": {"condition": started}, "seed": {"condition": completed}},
    }
    assert set(api(**given)) == {"image", "labels", "deploy"}


def test_argv_of_a_stack() -> None:
    """What is run to deploy a stack with and without waiting, and to stop its services."""
    made = Stack("recall_blue", Path("/other")).at(FILE)
    deploy = ("docker", "stack", "deploy", "--resolve-image", "never", "--prune")
    where = ("--compose-file", str(FILE), "recall_blue")
    assert made.up("api", wait_s=20.4) == ("timeout", "50", *deploy, "--detach=false", *where)
    assert made.up("api", wait_s=0) == (*deploy, "--detach=true", *where)
    assert made.stop("api", "web") == ("docker", "service", "scale", "recall_blue_api=0", "recall_blue_web=0")


@pytest.mark.parametrize(
    ("swarm", "why"),
    [
        ({"LocalNodeState": "active", "ControlAvailable": True, "Error": ""}, ""),
        ({"LocalNodeState": "inactive"}, "the engine is in no Swarm (it is inactive): docker swarm init"),
        (
            {
                "LocalNodeState": "active",
                "ControlAvailable": False,
                "RemoteManagers": [{"Addr": "10.0.0.1:2377"}],
            },
            "this node is no manager: run it on one (10.0.0.1:2377)",
        ),
        (
            {"LocalNodeState": "active", "Error": "context deadline exceeded"},
            "the engine says: context deadline exceeded",
        ),
    ],
)
def test_why_an_engine_cannot_deploy_a_stack(swarm: dict[str, Any], why: str) -> None:
    """It must be a manager of a Swarm that has a leader."""
    found = why_no_manager(swarm)
    assert why in found
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    ("version", "good"), [("26.0.0", True), ("28.2.2", True), ("20.10.24+dfsg1", False), ("", False)]
)
def test_an_old_cli_cannot_wait_for_a_stack(version: str, good: bool) -> None:  # a column of the table
    """`docker stack deploy` waits since 26."""
    assert bool(why_too_old(version)) is not good


MOUNTED = {
    "configs": [{"source": "app"}, {"source": "inline", "target": "/etc/x", "mode": "0440"}],
    "secrets": [{"source": "key", "target": "/run/secrets/key"}],
}


def contents(**given: dict[str, str]) -> tuple[Content, ...]:
    """The configs and secrets of a model in which *given* are defined."""
    kinds = {"configs": ("app", "inline"), "secrets": ("key",)}
    model = {
        "services": {"api": MOUNTED, "db": {"configs": [{"source": "of db"}]}},
        **{kind: {key: given[key] for key in keys} for kind, keys in kinds.items()},
    }
    return contents_of(model, "recall_blue", ["api"], {"KEY": "s3cret"})


def test_a_config_is_named_by_its_content(tmp_path: Path) -> None:
    """From a file, from the compose file and from a variable; another content gets another name."""
    file = tmp_path / "app.conf"
    file.write_bytes(b"a=1\xff")
    given = {"app": {"file": str(file)}, "inline": {"content": "5$$"}, "key": {"environment": "KEY"}}
    made = contents(**given)
    assert [(each.kind, each.key, each.data) for each in made] == [
        ("config", "app", b"a=1\xff"),
        ("config", "inline", b"5$"),
        ("secret", "key", b"s3cret"),
    ]
    assert "s3cret" not in repr(made)
    file.write_bytes(b"a=2")
    changed = contents(**given)
    assert changed[0].name.startswith("recall_blue_app-")
    assert changed[0].name != made[0].name
    assert changed[1:] == made[1:]


def test_the_name_of_a_config_is_not_too_long() -> None:
    """Swarm allows 64 characters; the hash is never cut off."""
    (made,) = contents_of(
        {"services": {"api": {"configs": [{"source": "c" * 80}]}}, "configs": {"c" * 80: {"content": "x"}}},
        "recall_blue",
        ["api"],
        {},
    )
    assert len(made.name) == 64
    assert made.name.endswith("-2d711642b726")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"file": "/none/key"}, "secrets.key: /none/key cannot be read: No such file"),
        ({"environment": "OTHER"}, "secrets.key: OTHER is not set"),
        ({"external": "true"}, "secrets.key: has no content"),
    ],
)
def test_a_secret_without_content_is_refused(key: dict[str, str], said: str) -> None:
    """The line names it and the way out."""
    with pytest.raises(ConfigError) as raised:
        contents(app={"content": ""}, inline={"content": ""}, key=key)
    assert said in str(raised.value)


@pytest.mark.parametrize("kind", ["app", "key"])
@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"template_driver": "golang"}, "template_driver"),
        ({"driver": "vault", "driver_opts": {"a": "b"}}, "driver and driver_opts"),
        ({"labels": {"a": "b"}, "name": "x"}, ""),
    ],
)
def test_refuses_a_config_whose_content_another_program_makes(kind: str, more: Any, lost: str) -> None:
    """It would be created without it, and the tasks would read a template as it is written."""
    given: dict[str, Any] = {
        "app": {"content": "x"},
        "inline": {"content": "y"},
        "key": {"environment": "KEY"},
    }
    given[kind] = given[kind] | more
    if not lost:
        assert len(contents(**given)) == 3
        return
    with pytest.raises(ConfigError, match=rf"{kind}: {lost} on Swarm: it is created .*: leave {lost} out"):
        contents(**given)


def test_a_stack_names_configs_that_exist() -> None:
    """They are created before, so that the file of an old release never changes one."""
    given = (Content("config", "app", "app-1", b""), Content("secret", "key", "key-2", b""))
    model = {"services": {"api": {"image": "x"} | MOUNTED}}
    made = stack_of(model, "recall_blue", ["api"], {}, given)
    assert made["configs"] == {"app": {"name": "app-1", "external": True}}
    assert made["secrets"] == {"key": {"name": "key-2", "external": True}}
    assert made["services"]["api"]["configs"][1] == {"source": "inline", "target": "/etc/x", "mode": 0o440}


NETWORKS = {
    "default": {"name": "recall_blue_default"},
    "own": {"name": "recall_own", "attachable": True, "driver": "overlay"},
    "shared": {"name": "recall_shared", "external": True},
}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (
            {"networks": {"default": None, "shared": {"aliases": ["x"]}}},
            {"networks": {"shared": {"aliases": ["x"]}}},
        ),
        ({"networks": {"default": None, "own": None}}, {"network_mode": "bridge"}),
        ({"network_mode": "host"}, {"network_mode": "host"}),
        ({"networks": {"shared": None}, "deploy": {"mode": "global"}}, {"networks": {"shared": None}}),
        (
            {"deploy": {"replicas": 2, "resources": {"limits": {"cpus": 1}}}},
            {"network_mode": "bridge", "deploy": {"resources": {"limits": {"cpus": 1}}}},
        ),
        (
            {"configs": [{"source": "app", "target": "/a", "mode": "0440"}], "read_only": True},
            {"network_mode": "bridge", "configs": [{"source": "app", "target": "/a"}], "read_only": True},
        ),
    ],
)
def test_a_one_off_container_stays_beside_the_stack(
    service: dict[str, Any], expected: dict[str, Any]
) -> None:
    """It joins the networks that are there before the stack, and has no key that only Swarm knows."""
    model = {"name": "recall_blue", "services": {"api": service}, "networks": NETWORKS}
    made = one_offs_of(model, [Content("config", "app", "app-1", b"")], FILE.parent)
    assert made["services"]["api"] == expected
    assert made["networks"] == {"shared": NETWORKS["shared"]}
    assert made["configs"] == {"app": {"file": str(FILE.parent / "app-1")}}


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ({"Scope": "swarm", "Driver": "overlay", "Attachable": True}, ""),
        ({"Scope": "swarm", "Driver": "overlay", "Attachable": False}, "it is not attachable: attachable: true where"),
        ({"Scope": "local", "Driver": "bridge", "Attachable": False}, "a bridge network of this node only: docker"),
        (None, "there is no such network: docker network create --driver overlay --attachable recall_shared"),
    ],
)  # fmt: skip
def test_a_network_that_a_one_off_container_cannot_join(network: dict[str, Any] | None, problem: str) -> None:
    """The line names the network by its key, the service that joins it, and the way out."""
    said = network_problem("shared", "recall_shared", network, "api")
    assert bool(said) is bool(problem)
    assert problem in said
    assert not said or said.startswith(
        "networks.shared: api runs in a one-off container, which joins recall_shared"
    )


def node(name: str, arch: str, availability: str = "active", **labels: str) -> dict[str, Any]:
    """A node as the engine describes it."""
    return {
        "ID": f"id-{name}",
        "Description": {
            "Hostname": name,
            "Platform": {"Architecture": arch, "OS": "linux"},
            "Engine": {"Labels": {"disk": "ssd"}},
        },
        "Spec": {"Role": "worker", "Availability": availability, "Labels": labels},
        "Status": {"State": "ready"},
    }


MIXED = [read_node(node("web-1", "x86_64")), read_node(node("pi", "aarch64", zone="b"))]


@pytest.mark.parametrize(
    ("constraints", "nodes", "problem"),
    [
        ([], MIXED, "pi is linux/arm64"),
        (["node.platform.os == linux", "node.ip == 10.0.0.0/8"], MIXED, "pi is linux/arm64"),
        (["node.platform.arch == x86_64"], MIXED, ""),
        (["node.labels.zone!=b"], MIXED, ""),
        ([], MIXED[:1], ""),
        ([], [MIXED[0], read_node(node("pi", "aarch64", "drain"))], ""),
        ([], [MIXED[0], read_node(node("pi", "aarch64", "pause"))], ""),
        ([], [MIXED[0], read_node(node("new", ""))], ""),
    ],
)
def test_a_node_that_cannot_run_the_image_is_named(
    constraints: list[str], nodes: list[SwarmNode], problem: str
) -> None:
    """Only nodes that the constraints let have a task count; the way out is such a constraint."""
    said = platform_problem("api", "recall/api:sha-1", "linux/amd64", constraints, nodes)
    assert bool(said) is bool(problem)
    assert problem in said
    assert not said or said.endswith('constraints: ["node.platform.arch == x86_64"]')


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        ("node.hostname == PI", True),
        ("NODE.ROLE==worker", True),
        ("node.role != worker", False),
        ("node.id == id-pi", True),
        ("node.labels.zone == b", True),
        ("node.labels.Zone == b", False),
        ("node.labels.gpu != yes", True),
        ("engine.labels.disk == ssd", True),
        ("node.role=manager", True),
    ],
)
def test_constraints_are_read_as_the_swarm_does(constraint: str, *, allowed: bool) -> None:
    """Values and fixed keys without regard to case, labels as they are; a label that is not there is empty."""
    assert fits(MIXED[1], constraint) is allowed


def test_an_image_is_named_by_its_digest_beside_its_tag() -> None:
    """File and model name it, the tag stays readable, and what has no digest, or has one already, stays as it is."""
    images = {"api": "ghcr.io/o/api:sha-1", "mail": "mail:1", "web": "web@sha256:77"}
    services = {name: {"image": image} for name, image in images.items()}
    text = json.dumps({"services": services})
    digests = {"api": "ghcr.io/o/api@sha256:ab", "mail": "", "web": "web@sha256:99"}
    found = with_digests(
        Rendered("blue", "recall_blue", text, {"services": services}, {}, {"api": "hash"}), digests
    )
    assert found.image("api") == "ghcr.io/o/api:sha-1@sha256:ab"
    assert found.tag("api") == "sha-1"
    assert [found.image(each) for each in ("mail", "web")] == ["mail:1", "web@sha256:77"]
    assert json.loads(found.text)["services"]["api"]["image"] == found.image("api")
    assert found.hashes == {"api": "hash"}
    assert services["api"]["image"] == "ghcr.io/o/api:sha-1"
