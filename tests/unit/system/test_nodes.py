"""The other nodes of a Swarm: which are meant, and why which are not asked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import Platform
from cutover.core.errors import ConfigError
from cutover.system.container import Engine
from cutover.system.docker import SwarmNode, read_node
from cutover.system.nodes import NodeEngine, Nodes, node_ids, nodes_of
from cutover.system.process import Argv
from cutover.system.ssh import SshHost
from tests.helpers.near_host import NearHost

THERE = [
    SwarmNode(f"n{number}", name, "ready", "active")
    for number, name in enumerate(("web-1", "web-2", "old", "old"))
]
TABLE = {"project": "recall", "colors": {"blue": {"env_file": ".env.blue"}}}


def test_a_node_is_named_by_its_host_name() -> None:
    """Its ID tells later whether its ssh name leads there."""
    assert node_ids(["web-2", "web-1"], THERE) == {"web-1": "n0", "web-2": "n1"}
    row = {
        "ID": "n0",
        "Description": {"Hostname": "web-1"},
        "Status": {"State": "ready"},
        "Spec": {"Availability": "active"},
    }
    found = read_node(row)
    assert (found.id, found.name, found.state, found.availability) == ("n0", "web-1", "ready", "active")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("web-9", "has no node web-9; it has old, old, web-1, web-2"),
        ("old", "2 nodes of the Swarm are called old"),
    ],
)
def test_a_node_that_cannot_be_meant_is_refused(name: str, reason: str) -> None:
    """The line names what there is."""
    with pytest.raises(ConfigError, match=reason):
        node_ids(["web-1", name], THERE)


def test_what_is_not_asked_has_a_reason() -> None:
    """A node without an ssh name, and one that could not be reached."""
    web_1 = NodeEngine(Engine("web-1", "unix:///c/0"), SshHost("web-1", Path("/c/0")))
    nodes = Nodes({"web-1": web_1}, {"web-2": "no answer: timed out"})
    assert [nodes.why_not(each) for each in ("web-1", "web-2", "web-3")] == [
        "",
        "no answer: timed out",
        "[platform] nodes has no ssh name of it",
    ]


def test_nothing_is_asked_elsewhere_without_nodes() -> None:
    """With Compose, and on a Swarm without `[platform] nodes`, no engine is asked for them."""
    assert nodes_of(Platform()).replicas("recall_blue", "api") == []


@pytest.mark.parametrize(
    ("platform", "reason"),
    [
        ({"nodes": {"web-2": "web-2"}}, 'nodes needs kind = "swarm"'),
        ({"kind": "swarm", "nodes": {"web-2": "-oProxyCommand=id"}}, "is no ssh name of a host"),
    ],
)
def test_nodes_of_the_configuration(platform: dict[str, object], reason: str) -> None:
    """Other hosts without a Swarm are another table; a name is never an option of ssh."""
    with pytest.raises(ValueError, match=reason):
        Settings.model_validate(TABLE | {"platform": platform})


@dataclass(frozen=True, slots=True)
class SayingHost(NearHost):
    """A host whose start file says something on standard error, or that is not reached and says it."""

    def forward_argv(self, local: Path, remote: str) -> Argv:
        """Nothing is forwarded."""
        del local, remote
        return ("true",)


SAID = (
    "bash: /etc/motd: Permission denied",
    "Host key verification failed.",
    "ssh: Could not resolve hostname proxy: Name or service not known",
)


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("reached", [True, False])
def test_a_node_that_is_reached_is_not_refused_for_what_it_prints(
    tmp_path: Path, said: str, reached: bool
) -> None:
    """What ssh says of a host counts only where ssh has not reached it."""
    starts = f"echo {shlex.quote(said)} >&2{'' if reached else '; exit 255'}"
    node = NodeEngine(Engine("web-2", f"unix://{tmp_path}/no.sock"), SayingHost("web-2", None, starts=starts))
    if reached:
        assert node.connect().startswith("no engine answers at ")
        return
    with pytest.raises(ConfigError, match=r"nodes: web-2 \(web-2\): "):
        node.connect()
