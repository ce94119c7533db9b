"""Releases on a real Swarm of three nodes: containers of other nodes are asked there, and nodes die."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.releases import build
from tests.helpers.ssh_hosts import write_ssh_config
from tests.helpers.ssh_server import Server, docker
from tests.helpers.swarm import COMPOSE, Node, SwarmStand, swarm

pytestmark = pytest.mark.engine
GOOD, NEXT = "sha-5a00001", "sha-5a00002"
JOBS = """\
  jobs:
    image: ${IMAGE_REPO:-recall/api}:${IMAGE_TAG:?}
    environment: {IMAGE_TAG: "${IMAGE_TAG:?}", DATABASE_URL: "", REDIS_URL: "", VLLM_ENDPOINT: ""}
    tmpfs: ["/tmp:size=16m,mode=1777", "/data:size=16m,mode=1777"]
    stop_grace_period: 2s
    deploy:
      endpoint_mode: dnsrr
      replicas: 2
      placement: {max_replicas_per_node: 1, preferences: [{spread: node.labels.zone}]}
configs:
"""


@dataclass(frozen=True)
class Place:
    """A stand on three managers.

    `api` runs on the first one, where the session is, `jobs` there and on one of the others.
    """

    stand: SwarmStand
    nodes: list[Node]
    ssh_config: Path

    def settings(self, names: dict[str, str]) -> None:
        """Let `[platform] nodes` be *names*."""
        text = self.stand.config.read_text().partition("[platform]")[0]
        rows = ", ".join(f'"{node}" = "{ssh}"' for node, ssh in names.items())
        more = f'[platform]\nkind = "swarm"\nnodes = {{ {rows} }}\nssh_config = "{self.ssh_config}"\n'
        self.stand.config.write_text(text + more)

    @property
    def ssh_names(self) -> dict[str, str]:
        """Host name of each node -> its ssh name."""
        return {each.name: f"web-{number}" for number, each in enumerate(self.nodes, 1)}

    def node_of_jobs(self, color: str) -> Node:
        """The other node on which `jobs` of *color* runs."""
        names = self.stand.engine(
            "service", "ps", f"{self.stand.project(color)}_jobs", "--filter", "desired-state=running", "--format", "{{.Node}}"
        )  # fmt: skip
        return next(each for each in self.nodes[1:] if each.name in names.split())

    def evidence(self) -> str:
        """The evidence of the last session."""
        return (self.stand.folder / "reports/latest/evidence.jsonl").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The stand, on which the first release runs."""
    folder = tmp_path_factory.mktemp("nodes")
    images = [build(GOOD), build(NEXT)]
    made = SwarmStand(folder, f"swarm{uuid.uuid4().hex[:6]}")
    (folder / "image").mkdir()
    with swarm(folder / "image", 3, [made.ports["blue"], made.ports["green"]]) as nodes:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda each: each.load(images), nodes))
        made.host = nodes[0].host
        made.make()
        for each, zone in zip(nodes, "abb", strict=True):
            nodes[0].docker("node", "update", "--label-add", f"zone={zone}", each.name)
        first = nodes[0].name
        text = COMPOSE.replace("dnsrr}", f"dnsrr, placement: {{constraints: [node.hostname == {first}]}}}}")
        (folder / "deploy" / "docker-compose.yml").write_text(text.replace("configs:\n  app", f"{JOBS}  app"))
        made.config.write_text(made.config.read_text().replace("\n\n", '\nservices = ["api", "jobs"]\n\n', 1))
        found = Place(made, nodes, ssh(folder, nodes))
        found.settings(found.ssh_names)
        try:
            yield found
        finally:
            made.docker("rm", "--force", f"{made.name}-proxy", check=False)


def ssh(folder: Path, nodes: list[Node]) -> Path:
    """The configuration of ssh for *nodes*, which are called web-1, web-2 and web-3."""
    key = folder / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    public = key.with_suffix(".pub").read_text()
    for each in nodes:
        docker(
            "exec",
            each.name,
            "sh",
            "-c",
            f"install -dm 700 ~/.ssh && echo '{public}' >~/.ssh/authorized_keys",
        )
    return write_ssh_config(folder, {f"web-{n}": Server(each.name) for n, each in enumerate(nodes, 1)}, key)


def test_containers_are_asked_on_their_nodes(place: Place) -> None:
    """Identity, health, restarts and log of a task on another node are judged as those of one here."""
    done = place.stand.pytest("smoke", "--target=blue", f"--deploy={GOOD}")
    assert done.code == 0, done.out
    assert "container, logs and resources of" not in done.out, done.out
    there = place.node_of_jobs("blue").docker("ps", "--quiet", "--filter", "name=_jobs.")
    rows = [row for row in map(json.loads, place.evidence().splitlines()) if there in json.dumps(row)]
    assert {"healthy", "settled", "logs", "restarts", "unchanged"} <= {row.get("question") for row in rows}, (
        rows
    )


def test_a_node_that_cannot_be_meant_is_refused(place: Place) -> None:
    """No such node, no such ssh host, and an ssh name that leads to another node: exit code 4, nothing changed."""
    second, third = (each.name for each in place.nodes[1:])
    before = place.stand.engine("service", "ls", "--quiet")
    for names, reason in (
        ({"web-9": "web-2"}, "the Swarm has no node web-9"),
        ({second: "web-2", third: "nowhere.invalid"}, "(nowhere.invalid): no host of that name"),
        ({second: "web-3"}, "the engine there is another node of the Swarm"),
    ):
        place.settings(names)
        done = place.stand.pytest("smoke", "--target=green", f"--deploy={NEXT}")
        assert done.code == 4, done.out
        assert reason in " ".join(done.out.split()), done.out
    place.settings(place.ssh_names)
    assert place.stand.engine("service", "ls", "--quiet") == before
