"""The engines of the other nodes of a Swarm, each reached over one ssh connection by a socket on this host."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cutover.core.config_schema import Platform
from cutover.core.errors import ConfigError
from cutover.system import docker, process
from cutover.system.container import HERE, Container, Engine
from cutover.system.docker import SwarmNode
from cutover.system.process import of_each
from cutover.system.ssh import SshHost, connections, misconfigured, ssh_environment, unreached

REMOTE_SOCKET = "/var/run/docker.sock"
CONNECT_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class NodeEngine:
    """The engine of one other node."""

    engine: Engine
    host: SshHost
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self) -> str:
        """Connect unless it is connected; why it cannot be reached now, empty if it answers.

        Raises ConfigError for what a person must change first.
        """
        with self._lock:
            if docker.answers(self.engine):
                return ""
            if self.host.socket and self.host.socket.exists():
                self.host.close()  # a connection that hangs would be used once more
            socket = Path(self.engine.address.removeprefix("unix://"))
            done = self.host.run("true", deadline_s=CONNECT_DEADLINE_S)
            if problem := misconfigured(done):
                raise ConfigError(f"{self}: {problem}")
            if done.ok:
                argv = self.host.forward_argv(socket, REMOTE_SOCKET)
                done = process.run(argv, deadline_s=CONNECT_DEADLINE_S, environment=ssh_environment())
            if not done.ok:
                return unreached(done) or done.last_line
            return "" if docker.answers(self.engine) else f"no engine answers at {REMOTE_SOCKET} there"

    def in_use(self, project: str, service: str) -> list[Container]:
        """The containers of *service* that are in use there, and not those that are left of earlier tasks."""
        return [each for each in docker.replicas(project, service, self.engine) if each.in_use]

    def __str__(self) -> str:
        return f"[platform] nodes: {self.engine.node} ({self.host.name})"


@dataclass(frozen=True, slots=True)
class Nodes:
    """The other nodes whose engines are asked, and why which are not."""

    asked: Mapping[str, NodeEngine] = field(default_factory=dict)
    """By host name."""
    silent: Mapping[str, str] = field(default_factory=dict)
    """Host name -> why it could not be reached when the session began."""
    own: str = ""
    """The host name of the node of this process, if any is named."""

    def engine(self, node: str) -> Engine | None:
        """The engine of *node*; None if it is not asked."""
        if node == self.own:
            return HERE
        return self.asked[node].engine if node in self.asked else None

    def why_not(self, node: str) -> str:
        """Why the engine of *node* is not asked; empty if it is."""
        if node == self.own or node in self.asked:
            return ""
        return self.silent.get(node, "[platform] nodes has no ssh name of it")

    def replicas(self, project: str, service: str) -> list[Container]:
        """The containers of *service* on these nodes; raises EngineUnavailable."""
        return [found for each in self.asked.values() for found in each.in_use(project, service)]


def nodes_of(platform: Platform) -> Nodes:
    """The nodes of `[platform] nodes`, connected when they are first asked for and until this process ends.

    Raises ConfigError for a node that the Swarm does not have or that ssh cannot find, and EngineUnavailable.
    """
    return _connected(tuple(platform.nodes.items()), platform.ssh_config)


@cache
def _connected(named: tuple[tuple[str, str], ...], config: Path | None) -> Nodes:
    if not named:
        return Nodes()
    nodes = docker.swarm_nodes()
    ids = node_ids([name for name, _ in named], nodes)
    stack, own = ExitStack(), docker.node_id()
    hosts = stack.enter_context(connections(list(dict.fromkeys(ssh for _, ssh in named)), config))
    atexit.register(stack.close)
    others = {name: hosts[ssh] for name, ssh in named if ids[name] != own}
    there = [NodeEngine(Engine(name, f"unix://{host.socket}.engine"), host) for name, host in others.items()]
    silent = dict(zip(there, of_each(NodeEngine.connect, there), strict=True))
    asked = {each.engine.node: each for each in there if not silent[each]}
    for name, each in asked.items():
        if (found := docker.node_id(each.engine)) != ids[name]:
            raise ConfigError(f"{each}: the engine there is another node of the Swarm ({found or 'none'})")
    own_name = next((each.name for each in nodes if each.id == own), "")
    return Nodes(asked, {each.engine.node: why for each, why in silent.items() if why}, own_name)


def node_ids(named: Sequence[str], there: Sequence[SwarmNode]) -> dict[str, str]:
    """Host name → ID of each node in *named*; raises ConfigError for one that is not *there*, or there twice."""
    for name in named:
        same = [each for each in there if each.name == name]
        if not same:
            known = ", ".join(sorted(each.name for each in there))
            raise ConfigError(f"[platform] nodes: the Swarm has no node {name}; it has {known}")
        if len(same) > 1:
            what = f"{len(same)} nodes of the Swarm are called {name}"
            raise ConfigError(f"[platform] nodes: {what}; leave it out")
    return {each.name: each.id for each in there if each.name in named}
