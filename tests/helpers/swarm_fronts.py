"""A Swarm in containers whose nodes have nginx and sshd too, and a stand whose traffic they switch."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from examples.stand import Stand
from tests.helpers.ssh_hosts import tag_at, write_ssh_config
from tests.helpers.ssh_server import ROOT, Server, docker
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


@dataclass(slots=True)
class FrontsStand(SwarmStand):
    """A stand on a Swarm, with the proxy on its nodes: `web-1`, `web-2`, …, as ssh names them."""

    nodes: Mapping[str, Node] = field(default_factory=dict)

    def make(self) -> FrontsStand:
        """Write the files and start nginx on each node."""
        config = (ROOT / "deploy/proxy/nginx/cutover.conf").read_text()
        places = {
            "127.0.0.1:8000": f"127.0.0.1:{self.ports['blue']}",
            "127.0.0.1:8001": f"127.0.0.1:{self.ports['green']}",
            "127.0.0.1:8080": "8080",
            "/var/lib/cutover/recall-live": str(self.marker),
        }
        for shipped, ours in places.items():
            config = config.replace(shipped, ours)
        key = self.folder / "key"
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
        given = {"KEY": key.with_suffix(".pub").read_text(), "MARKER": str(self.marker), "CONFIG": config}
        values = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
        servers = {name: Server(node.name) for name, node in self.nodes.items()}
        for each in servers.values():
            each.run(values + SETUP, user="root")
        SwarmStand.make(self)
        write_ssh_config(self.folder / "deploy", servers, key)
        compose = self.folder / "deploy" / "docker-compose.yml"
        text = compose.read_text().replace(
            "    read_only: true\n", ""
        )  # a release is broken by a file in /tmp
        compose.write_text(text.replace("endpoint_mode: dnsrr", "endpoint_mode: dnsrr, mode: global"))
        return self

    def toml(self) -> str:
        """The configuration, with the fronts of the nodes."""
        fronts = "".join(f'{name} = "{self.front(name)}"\n' for name in self.nodes)
        own = f'\n[platform]\nkind = "swarm"\nssh_config = "ssh_config"\n\n[platform.fronts]\n{fronts}'
        text = Stand.toml(self).replace(f'access_log = "{self.access_log}"\n', "")
        return f"{text.replace(self.url, self.front('web-1'))}{own}"

    def _start_proxy(self) -> None:
        """The proxies run on the nodes."""

    def front(self, name: str) -> str:
        """The URL of the proxy of a node."""
        return f"http://{address(self.nodes[name])}:8080"

    def tags(self) -> dict[str, str]:
        """The tag that users of each front get; empty without an answer."""
        return {name: tag_at(self.front(name)) for name in self.nodes}


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
        for each in nodes:
            each.load(images)
        made.nodes = {f"web-{number}": node for number, node in enumerate(nodes, 1)}
        made.host = nodes[0].host
        made.make()
        yield made
