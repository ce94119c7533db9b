"""Releases on a real Swarm of three nodes: containers of other nodes are asked there, and nodes die."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from examples.releases import build
from examples.stand import latest
from tests.helpers.ssh_hosts import write_ssh_config
from tests.helpers.ssh_server import Server, docker
from tests.helpers.swarm import COMPOSE, Node, SwarmStand, swarm

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
GOOD, NEXT = "sha-5a00001", "sha-5a00002"
WAIT_S = 300.0
POWER_CUT = """\
import os, subprocess

def test_power_cut():
    shown = ("docker", "service", "ps", "{project}_jobs", "--filter", "desired-state=running", "--format", "{{{{.Node}}}}")
    names = subprocess.run(shown, capture_output=True, text=True).stdout.split()
    outside = {{key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}}
    for node in {{*names}} - {{"{first}"}}:
        subprocess.run(("docker", "kill", node), check=True, capture_output=True, env=outside)
"""
"""A checklist by which the other node of `jobs` dies in the gate; the gate after the revert finds none."""
JOBS = """\
  jobs:
    image: ${IMAGE_REPO:-recall/api}:${IMAGE_TAG:?}
    environment: {IMAGE_TAG: "${IMAGE_TAG:?}", DATABASE_URL: "", REDIS_URL: "", VLLM_ENDPOINT: ""}
    tmpfs: ["/tmp:size=16m,mode=1777"]
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
    first: str = ""
    """The output of the first release."""

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

    def heal(self) -> None:
        """Start the nodes that were killed, and wait until all are ready and reach each other."""
        for each in self.nodes:
            docker("start", each.name)
            each.wait()
        self.until(
            "node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}",
            good=lambda said: sorted(said.splitlines()) == ["Ready Leader", "Ready Reachable", "Ready Reachable"],
        )  # fmt: skip
        self.until_all_tasks_run()
        servers = {ssh: Server(name) for name, ssh in self.ssh_names.items()}
        write_ssh_config(self.ssh_config.parent, servers, self.ssh_config.parent / "key")  # ports are new

    def until_all_tasks_run(self) -> None:
        """Wait until each service has as many tasks as it should."""
        self.until(
            "service", "ls", "--format", "{{.Replicas}}",
            good=lambda said: all(len({*each.split()[0].split("/")}) == 1 for each in said.splitlines()),
        )  # fmt: skip

    def until(self, *words: str, good: Callable[[str], bool]) -> None:
        """Wait until the output of a docker command for the Swarm is *good*."""
        deadline, said = time.monotonic() + WAIT_S, "no answer"
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.SubprocessError):
                if good(said := self.stand.engine(*words)):
                    return
            time.sleep(0.3)  # poll: the Swarm raises no event here
        raise AssertionError(f"docker {' '.join(words)}: {said}")

    def start(self, tag: str, watch: str) -> subprocess.Popen[str]:
        """Start a release to the idle color, and wait until its watch begins."""
        before = self.report
        session = self.stand.start(
            "smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", f"--watch={watch}"
        )
        deadline = time.monotonic() + WAIT_S
        while self.report == before or '"drain ' not in self.evidence():
            assert session.poll() is None, session.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)  # poll: a step of another process raises no event here
        return session

    def node_of_jobs(self, color: str) -> Node:
        """The other node on which `jobs` of *color* runs."""
        names = self.stand.engine(
            "service", "ps", f"{self.stand.project(color)}_jobs", "--filter", "desired-state=running", "--format", "{{.Node}}"
        )  # fmt: skip
        return next(each for each in self.nodes[1:] if each.name in names.split())

    @property
    def report(self) -> Path:
        """The folder of the last session."""
        return latest(self.stand.folder)

    def evidence(self) -> str:
        """The evidence of the last session."""
        path = self.report / "evidence.jsonl"
        return path.read_text() if path.exists() else ""


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
            done = made.pytest("smoke", "--target=blue", f"--deploy={GOOD}")
            assert done.code == 0, done.out
            yield replace(found, first=done.out)
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
    assert "container, logs and resources of" not in place.first, place.first
    shown = ("--filter", "name=_jobs.", "--format", "{{.ID}} {{.Names}}")
    there = place.node_of_jobs("blue").docker("ps", *shown).split()
    rows = [json.loads(row) for row in place.evidence().splitlines() if any(name in row for name in there)]
    asked = {row["verdict"]["question"] for row in rows}
    assert {"healthy", "settled", "logs", "restarts", "unchanged"} <= asked


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


def test_a_node_that_dies_in_the_gate_is_unknown(place: Place, tmp_path: Path) -> None:
    """Its containers cannot be asked any more: exit code 10, and the release is reverted."""
    stand = place.stand
    (tmp_path / "test_power_cut.py").write_text(
        POWER_CUT.format(project=stand.project("green"), first=place.nodes[0].name)
    )
    done = stand.pytest(str(tmp_path), "smoke", "--target=idle", f"--deploy={NEXT}")
    place.heal()
    assert done.code == 10, done.out
    assert "the Docker engine of" in done.out
    assert stand.engine("service", "ls", "--quiet", "--filter", f"name={stand.project('green')}") == ""
    assert stand.ask()["version"] == GOOD


def test_a_task_that_moves_in_the_watch_is_followed(place: Place) -> None:
    """Its node dies; the Swarm starts it on the third node, where it is asked: that is told, and the release stays."""
    session = place.start(NEXT, "50s")
    node = place.node_of_jobs("green")
    docker("kill", node.name)
    said, _ = session.communicate(timeout=WAIT_S)
    place.heal()
    assert session.returncode == 0, said
    (third,) = {each.name for each in place.nodes[1:]} - {node.name}
    green = f"{place.stand.project('green')}_jobs"
    assert f"{node.name} is down; the task of {green} there was moved to {third}" in " ".join(said.split())
    assert f"memory MB of jobs on {node.name}" in place.evidence()
    assert place.stand.ask()["version"] == NEXT


def test_the_death_of_the_leader_changes_nothing(place: Place) -> None:
    """The Swarm is mute for many seconds; what runs is asked without it, and the release stays."""
    stand, first = place.stand, place.nodes[0]
    first.docker("node", "demote", first.name)
    demoted = time.monotonic() + WAIT_S
    while first.docker("info", "--format", "{{.Swarm.ControlAvailable}}").strip() != "false":
        assert time.monotonic() < demoted, "it is no manager any more"
        time.sleep(0.3)  # poll: the engine raises no event here
    refused = stand.pytest("smoke", "--target=idle", f"--deploy={GOOD}")
    other = next(
        each
        for each in place.nodes[1:]
        if "Leader" in each.docker("node", "ls", "--filter", f"name={each.name}")
    )
    promote = ("docker", "exec", other.name, "docker", "node", "promote", first.name)
    promoted = time.monotonic() + WAIT_S
    while subprocess.run(promote, check=False, capture_output=True).returncode:
        assert time.monotonic() < promoted, "it is a manager again"
        time.sleep(0.3)  # the Swarm may be writing down itself what the node is now: "update out of sequence"
    assert refused.code == 4, refused.out
    assert "this node is no manager" in refused.out
    place.heal()
    first.docker("node", "update", "--availability", "drain", other.name)
    place.until(
        "node", "ps", other.name, "--filter", "desired-state=running", "--quiet", good=lambda said: said == ""
    )
    place.until_all_tasks_run()
    tag = NEXT if stand.ask()["version"] == GOOD else GOOD
    session = place.start(tag, "25s")
    docker("kill", other.name)
    said, _ = session.communicate(timeout=WAIT_S)
    place.heal()
    assert session.returncode == 0, said
    assert stand.ask()["version"] == tag


def test_a_swarm_without_a_quorum_is_refused(place: Place) -> None:
    """Two of three managers are away: exit code 4 in one line, nothing changed."""
    before = place.stand.ask()
    for each in place.nodes[1:]:
        docker("kill", each.name)
    deadline = time.monotonic() + WAIT_S
    with pytest.raises(subprocess.CalledProcessError):  # the last manager notices it after some seconds
        while time.monotonic() < deadline:
            place.nodes[0].docker("node", "ls")
            time.sleep(0.3)  # poll: the engine raises no event here
    done = place.stand.pytest("smoke", "--target=idle", f"--deploy={NEXT}")
    assert done.code == 4, done.out
    assert '[platform] kind = "swarm": the engine says: ' in done.out
    assert place.stand.ask() == before
