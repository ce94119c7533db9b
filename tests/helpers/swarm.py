"""A Swarm in containers, and a stand whose colors run on it while nginx and the session stay on this machine."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from examples.stand import Stand
from tests.helpers.ssh_server import RIGHTS, docker, image

DEADLINE_S = 120.0
COMPOSE = """\
services:
  api:
    image: ${IMAGE_REPO:-recall/api}:${IMAGE_TAG:?}
    environment:
      IMAGE_TAG: ${IMAGE_TAG:?}
      COMPOSE_PROJECT_NAME: ${COMPOSE_PROJECT_NAME}
      DATABASE_URL: ""
      REDIS_URL: ""
      VLLM_ENDPOINT: ""
    ports: [{target: 8000, published: "${API_HTTP_PORT:?}", mode: host}]
    tmpfs: ["/tmp:size=16m,mode=1777"]
    volumes: [data:/data]
    configs: [{source: app, target: /etc/app.conf}]
    init: true
    read_only: true
    cap_drop: [ALL]
    restart: unless-stopped
    stop_grace_period: 10s
    healthcheck: {interval: 3s, timeout: 10s}  # one each second, of each task, would take half a processor
    pids_limit: 128
    mem_limit: 256m
    cpus: 1.0
    deploy: {endpoint_mode: dnsrr}  # the virtual addresses of the default need IP_VS in the kernel
configs:
  app: {file: ./app.conf}
volumes:
  data: {name: "${SHARED_VOLUME:?}"}
"""


@dataclass(frozen=True)
class Node:
    """A container with an engine of its own."""

    name: str

    @property
    def host(self) -> str:
        """`DOCKER_HOST` of its engine, reached through its root directory: no port is open for it."""
        return f"unix://{Path('/proc', self.pid, 'root', 'run', 'docker.sock')}"

    @property
    def pid(self) -> str:
        """Its first process."""
        return docker("inspect", "--format", "{{.State.Pid}}", self.name)

    def docker(self, *words: str) -> str:
        """Output of a docker command in the node, which must succeed."""
        return docker("exec", self.name, "docker", *words)

    def load(self, references: Sequence[str]) -> None:
        """Copy images from the engine of this machine."""
        load = ("docker", "exec", "--interactive", self.name, "docker", "load", "--quiet")
        with subprocess.Popen(("docker", "save", *references), stdout=subprocess.PIPE) as save:
            subprocess.run(load, stdin=save.stdout, check=True, capture_output=True, timeout=600)
        assert save.returncode == 0

    def wait(self) -> None:
        """Wait until its engine answers."""
        deadline = time.monotonic() + DEADLINE_S
        while subprocess.run(
            ("docker", "exec", self.name, "docker", "info"), capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, docker("logs", "--tail", "20", self.name)
            time.sleep(0.2)

    def join(self, token: str, manager: str) -> None:
        """Join the Swarm of *manager*; the client gives up after 20 s, while the engine goes on."""
        with suppress(subprocess.CalledProcessError):
            self.docker("swarm", "join", "--token", token, f"{manager}:2377")
        deadline = time.monotonic() + DEADLINE_S
        while (state := self.docker("info", "--format", "{{.Swarm.LocalNodeState}}")) != "active":
            assert time.monotonic() < deadline, f"{self.name} has not joined: {state}"
            time.sleep(0.5)


@contextmanager
def swarm(
    folder: Path, count: int, ports: Sequence[int] = (), mounts: Sequence[Path] = ()
) -> Iterator[list[Node]]:
    """A Swarm of *count* managers; the first one's *ports* are published on 127.0.0.1. Removed afterwards.

    *mounts* are folders that the nodes see as this machine does.
    """
    network = f"cutover-test-swarm-{secrets.token_hex(4)}"
    built, nodes = image(folder), [Node(f"{network}-{number}") for number in range(1, count + 1)]
    docker("network", "create", network)
    try:
        for each in nodes:
            open_ = ports if each is nodes[0] else ()
            doors = ("127.0.0.1::22", *(f"127.0.0.1:{port}:{port}" for port in open_))
            published = [word for door in doors for word in ("--publish", door)]
            published += [f"--volume={path}:{path}" for path in mounts]
            place = (
                "--hostname",
                each.name,
                "--network",
                network,
                "--volume",
                f"{each.name}:/var/lib/docker",
            )
            docker("run", "--detach", "--name", each.name, *place, *RIGHTS, *published, built)
        first, *others = nodes
        for each in nodes:
            each.wait()
        first.docker("swarm", "init", "--advertise-addr", "eth0")
        token = first.docker("swarm", "join-token", "--quiet", "manager")
        for each in others:
            each.join(token, first.name)
        yield nodes
    finally:
        for each in nodes:
            docker("rm", "--force", "--volumes", each.name)
            docker("volume", "rm", "--force", each.name)
        docker("network", "rm", network)


@dataclass(slots=True)
class SwarmStand(Stand):
    """A stand whose colors are stacks; the session talks to the engine at *host*."""

    host: str = ""

    def make(self) -> SwarmStand:
        """Write the files and start the proxy on this machine."""
        Stand.make(self)
        (self.folder / "deploy" / "docker-compose.yml").write_text(COMPOSE)
        (self.folder / "deploy" / "app.conf").write_text("a=1")
        return self

    def engine(self, *words: str) -> str:
        """Output of a docker command for the Swarm."""
        return docker("--host", self.host, *words)

    def shell(self, **more: str) -> dict[str, str]:
        """Environment of a session whose engine is that of the node."""
        return Stand.shell(self, **{"DOCKER_HOST": self.host, **more})
