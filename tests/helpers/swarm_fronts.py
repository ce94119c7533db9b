"""Nodes with nginx and sshd, and a stand whose traffic they switch: a Swarm in containers, or Compose on this machine."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from examples.stand import Stand, free_ports
from tests.helpers.ssh_hosts import tag_at, write_ssh_config
from tests.helpers.ssh_server import ROOT, Server, docker, image
from tests.helpers.swarm import Node, SwarmStand, swarm

LOG = "/var/log/nginx/cutover.log"
SETUP = r"""
install -d -m 700 ~/.ssh
printf '%s\n' "$KEY" >~/.ssh/authorized_keys
install -d -m 755 "$MARKER"
cd "$MARKER" && touch here blue
printf '%s' "$CONFIG" >/etc/nginx/conf.d/cutover.conf
nginx
"""


def start_fronts(stand: Stand, servers: Mapping[str, Server], listen: Mapping[str, str]) -> None:
    """Start nginx on each of *servers*, where it listens as *listen* says, and write how ssh reaches them."""
    shipped, key = (ROOT / "deploy/proxy/nginx/cutover.conf").read_text(), stand.folder / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    for name, server in servers.items():
        config = shipped
        places = {
            "127.0.0.1:8000": f"127.0.0.1:{stand.ports['blue']}",
            "127.0.0.1:8001": f"127.0.0.1:{stand.ports['green']}",
            "127.0.0.1:8080": listen[name],
            "/var/lib/cutover/recall-live": str(stand.marker),
        }
        for example, ours in places.items():
            config = config.replace(example, ours)
        given = {"KEY": key.with_suffix(".pub").read_text(), "MARKER": str(stand.marker), "CONFIG": config}
        values = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
        server.run(values + SETUP, user="root")
    (stand.folder / "deploy").mkdir(exist_ok=True)
    write_ssh_config(stand.folder / "deploy", servers, key)


def fronts_toml(stand: Stand, kind: str, urls: Mapping[str, str]) -> str:
    """The configuration of *stand*, with fronts at *urls*; users call the first one."""
    fronts = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    own = f'\n[platform]\nkind = "{kind}"\nssh_config = "ssh_config"\n\n[platform.fronts]\n{fronts}'
    text = Stand.toml(stand).replace(str(stand.access_log), LOG)
    return f"{text.replace(stand.url, next(iter(urls.values())))}{own}"


@dataclass(slots=True)
class FrontsStand(SwarmStand):
    """A stand on a Swarm, with the proxy on its nodes: `web-1`, `web-2`, …, as ssh names them."""

    nodes: Mapping[str, Node] = field(default_factory=dict)

    def make(self) -> FrontsStand:
        """Write the files and start nginx on each node."""
        servers = {name: Server(node.name) for name, node in self.nodes.items()}
        start_fronts(self, servers, dict.fromkeys(servers, "8080"))
        SwarmStand.make(self)
        compose = self.folder / "deploy" / "docker-compose.yml"
        text = compose.read_text().replace("    read_only: true\n", "")  # a bench breaks it by a file in /tmp
        compose.write_text(text.replace("endpoint_mode: dnsrr", "endpoint_mode: dnsrr, mode: global"))
        return self

    def toml(self) -> str:
        """The configuration, with the fronts of the nodes."""
        return fronts_toml(self, "swarm", {name: self.front(name) for name in self.nodes})

    def _start_proxy(self) -> None:
        """The proxies run on the nodes."""

    def front(self, name: str) -> str:
        """The URL of the proxy of a node."""
        return f"http://{address(self.nodes[name])}:8080"

    def tags(self) -> dict[str, str]:
        """The tag that users of each front get; empty without an answer."""
        return {name: tag_at(self.front(name)) for name in self.nodes}


@dataclass(frozen=True)
class HostServer(Server):
    """A container with sshd on the network of this machine, where its ports are."""

    ssh_port: int

    @property
    def port(self) -> int:
        """Port on 127.0.0.1 of its sshd."""
        return self.ssh_port


@dataclass(slots=True)
class ComposeFrontsStand(Stand):
    """A stand whose colors run on this machine, with two proxies there that are reached over ssh."""

    urls: dict[str, str] = field(default_factory=dict)
    servers: dict[str, HostServer] = field(default_factory=dict)

    def toml(self) -> str:
        """The configuration, with these fronts."""
        return fronts_toml(self, "compose", self.urls)

    def _start_proxy(self) -> None:
        """Start a container with sshd and nginx for each front."""
        (self.folder / "image").mkdir()
        built = image(self.folder / "image")
        for server in self.servers.values():
            door = f"exec /usr/sbin/sshd -D -e -p {server.port} -o ListenAddress=127.0.0.1"
            docker("run", "--detach", "--name", server.name, "--network", "host", built, "sh", "-c", door)
        listen = {name: url.removeprefix("http://") for name, url in self.urls.items()}
        start_fronts(self, self.servers, listen)

    def tags(self) -> dict[str, str]:
        """The tag that users of each front get; empty without an answer."""
        return {name: tag_at(url) for name, url in self.urls.items()}


@contextmanager
def compose_fronts_stand(folder: Path, name: str) -> Iterator[ComposeFrontsStand]:
    """A stand with the fronts `web-1` and `web-2`; nothing runs on it yet. Removed afterwards."""
    made, ports = ComposeFrontsStand(folder, name, min_uptime="1s"), iter(free_ports(4))
    for front in ("web-1", "web-2"):
        made.urls[front] = f"http://127.0.0.1:{next(ports)}"
        made.servers[front] = HostServer(f"{name}-{front}", next(ports))
    try:
        made.make()
        yield made
    finally:
        for server in made.servers.values():
            subprocess.run(
                ("docker", "rm", "--force", "--volumes", server.name), check=False, capture_output=True
            )
        made.remove()


def address(node: Node) -> str:
    """The address of a node, which this machine reaches."""
    shown = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return docker("inspect", "--format", shown, node.name)


@contextmanager
def fronts_stand(folder: Path, name: str, images: Sequence[str], count: int = 2) -> Iterator[FrontsStand]:
    """A stand on *count* managers that have *images*, each with nginx; nothing runs on it yet."""
    made = FrontsStand(folder, name)
    (folder / "image").mkdir()
    with swarm(folder / "image", count, [made.ports["blue"], made.ports["green"]]) as nodes:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: node.load(images), nodes))
        made.nodes = {f"web-{number}": node for number, node in enumerate(nodes, 1)}
        made.host = nodes[0].host
        made.make()
        yield made
