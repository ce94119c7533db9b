"""Releases on a real Swarm whose nodes are containers, with nginx in front on this machine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutover.gate.task_checks import ExpectedTasks, judge_tasks
from cutover.system import docker
from examples.releases import build
from examples.stand import Stand
from tests.helpers.load import Ask, load
from tests.helpers.ssh_server import docker as run
from tests.helpers.swarm import Node, SwarmStand, swarm

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
GOOD, NEXT, NEVER_READY, BREAKS_LATER = "sha-5a00001", "sha-5a00002", "sha-5a0bad1", "sha-5a0bad2"

# Ends at once on the first node; on the others its first process ignores SIGTERM, until the engine kills it.
STOPS_LATE = """\
    entrypoint: [sh, -c, 'g="gunicorn --config python:recall.serving"; case $$NODE in *-1) exec $$g; esac; $$g & wait']
"""


@contextmanager
def stand_on(folder: Path, nodes: int, mode: str = "replicated") -> Iterator[tuple[SwarmStand, list[Node]]]:
    """A stand on a Swarm of *nodes* nodes that have the images; *mode* is that of its service."""
    images = [
        build(GOOD),
        build(NEXT),
        build(NEVER_READY, "never-ready"),
        build(BREAKS_LATER, "breaks-later", seconds=30),
    ]
    made = SwarmStand(folder, f"swarm{uuid.uuid4().hex[:6]}", '\n[platform]\nkind = "swarm"\n')
    (folder / "image").mkdir()
    with swarm(folder / "image", nodes, [made.ports["blue"], made.ports["green"]]) as there:
        for each in there:
            each.load(images)
        made.host = there[0].host
        made.make()
        path = folder / "deploy" / "docker-compose.yml"
        path.write_text(
            path.read_text().replace("endpoint_mode: dnsrr", f"endpoint_mode: dnsrr, mode: {mode}")
        )
        try:
            yield made, there
        finally:
            made.docker("rm", "--force", f"{made.name}-proxy", check=False)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmStand]:
    """A stand on a Swarm of one node, on which nothing runs yet."""
    with stand_on(tmp_path_factory.mktemp("swarm"), 1) as (made, _):
        yield made


def release(stand: Stand, tag: str, *more: str) -> str:
    """Release *tag* to the idle color and watch it; exit code and output in one text."""
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", *more)
    return f"{done.out}\nexit code {done.code}"


def test_first_release_that_is_bad_leaves_nothing(single: SwarmStand) -> None:
    """The service is removed again, and its tasks are gone when the session ends."""
    done = single.pytest("smoke", "--target=blue", f"--deploy={NEVER_READY}")
    assert done.code == 1, done.out
    assert single.engine("service", "ls", "--quiet") == ""
    assert single.engine("ps", "--all", "--quiet") == ""


def test_good_release_loses_no_request(single: SwarmStand) -> None:
    """The first release starts blue; the next one is switched to under load, and no request fails."""
    first = single.pytest("smoke", "--target=blue", f"--deploy={GOOD}")
    assert first.code == 0, first.out
    with load(single.url, connections=20, rate=100, asks=(Ask("GET", "/version"),)) as seen:
        said = release(single, NEXT)
    assert "exit code 0" in said, said
    assert seen.failed == []
    assert seen.by("green") > 0
    assert seen.by("blue") > 0
    assert single.ask()["version"] == NEXT


def test_bad_release_is_reverted_before_the_switch(single: SwarmStand) -> None:
    """The engine pauses the update; the stack of the idle color is deployed again as it was."""
    said = release(single, NEVER_READY)
    assert "exit code 1" in said, said
    assert "service update paused" in said, said
    status = single.status()
    assert status["live"] == "green"
    assert status["colors"]["blue"]["tag"] == GOOD  # type: ignore[index]
    assert status["colors"]["blue"]["runs"]  # type: ignore[index]
    assert single.ask()["version"] == NEXT


def test_bad_release_is_reverted_after_the_switch(single: SwarmStand) -> None:
    """The watch sees the 500s; traffic goes back, then the stack is deployed again as it was."""
    said = release(single, BREAKS_LATER, "--watch=90s")
    assert "exit code 1" in said, said
    assert "switch and deploy reverted" in said, said
    assert single.ask()["version"] == NEXT
    assert single.status()["colors"]["blue"]["tag"] == GOOD  # type: ignore[index]


def test_rollback_starts_a_color_that_was_stopped(single: SwarmStand) -> None:
    """`cutover retire` scales the old color to no task; the rollback deploys its file again and switches to it."""
    assert single.cutover("retire").code == 0
    assert (
        single.engine(
            "ps", "--quiet", "--filter", f"label=com.docker.stack.namespace={single.project('blue')}"
        )
        == ""
    )
    done = single.cutover("rollback")
    assert done.code == 0, done.out
    assert single.ask()["version"] == GOOD


def test_changed_config_gets_a_name_of_its_own(single: SwarmStand) -> None:
    """The same tag with another config is another release; the config of the other color stays as it is."""
    before = {*single.engine("config", "ls", "--format", "{{.Name}}").split()}
    (single.folder / "deploy" / "app.conf").write_text("a=2")
    done = single.pytest("smoke", "--target=idle", f"--deploy={NEXT}")
    assert done.code == 0, done.out
    (new,) = {*single.engine("config", "ls", "--format", "{{.Name}}").split()} - before
    assert new.startswith(f"{single.project('green')}_app-")
    for color, content in (("blue", "a=1"), ("green", "a=2")):
        found = single.engine(
            "ps", "--quiet", "--filter", f"label=com.docker.compose.project={single.project(color)}"
        )
        assert single.engine("exec", found, "cat", "/etc/app.conf") == content


def test_refuses_what_a_stack_cannot_have(single: SwarmStand) -> None:
    """Everything that Swarm ignores or misreads is named at once, before anything changes."""
    path = single.folder / "deploy" / "docker-compose.yml"
    text = path.read_text()
    bad = text.replace("    init: true\n", "    init: true\n    container_name: api\n    shm_size: 64m\n")
    path.write_text(bad.replace("{target: 8000, published:", "{target: 8000, host_ip: 127.0.0.1, published:"))
    try:
        done = single.pytest("smoke", "--target=idle", f"--deploy={NEXT}")
    finally:
        path.write_text(text)
    assert done.code == 4, done.out
    for each in ("container_name on Swarm", "shm_size on Swarm", "port 127.0.0.1:"):
        assert each in done.out, done.out


def test_refuses_an_engine_that_is_in_no_swarm(single: SwarmStand) -> None:
    """A plain engine runs no stacks: exit code 4."""
    done = Stand.pytest(single, "smoke", "--target=idle", f"--deploy={NEXT}", DOCKER_HOST="")
    assert done.code == 4, done.out
    assert "the engine is in no Swarm" in done.out


def test_an_update_that_the_engine_rolls_back_is_a_no(
    single: SwarmStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker service update` exits with 0 after the rollback; the state of the update tells."""
    monkeypatch.setenv("DOCKER_HOST", single.host)
    name = f"{single.name}-other"
    create = (
        "service",
        "create",
        "--detach=false",
        "--no-resolve-image",
        "--endpoint-mode",
        "dnsrr",
        "--name",
        name,
    )
    single.engine(*create, "--env", f"IMAGE_TAG={GOOD}", f"recall/api:{GOOD}")
    before = docker.swarm_service(name)
    assert before is not None
    image = f"recall/api:{NEVER_READY}"
    how = (
        "--update-failure-action",
        "rollback",
        "--update-monitor",
        "5s",
        "--image",
        image,
        "--no-resolve-image",
    )
    single.engine("service", "update", "--detach=false", *how, name)
    verdict = judge_tasks(
        docker.swarm_service(name), ExpectedTasks(image, before.tasks[0].config_hash, before.update_began)
    )
    assert not verdict.ok
    assert "the engine rolled the update back" in verdict.reason


def take_port(node: Node, port: int) -> None:
    """Listen on *port* in a node as long as it lives."""
    listen = f"IO::Socket::INET->new(Listen => 1, LocalAddr => '0.0.0.0:{port}') or die; sleep"
    run("exec", "--detach", node.name, "perl", "-MIO::Socket::INET", "-e", f"$taken = {listen}")


def test_three_nodes_run_a_task_each(tmp_path: Path) -> None:
    """With `mode: global` all three tasks are verified by the manager, what is not asked of two is said, and why one does not start."""
    with stand_on(tmp_path, 3, "global") as (stand, nodes):
        first = stand.pytest("smoke", "--target=blue", f"--deploy={GOOD}")
        assert first.code == 0, first.out
        said = " ".join(first.out.split())
        for each in nodes[1:]:
            assert f"resources of api on {each.name}: [platform] nodes has no ssh name of it" in said
        checks = (
            json.loads(row)
            for row in (stand.folder / "reports/latest/evidence.jsonl").read_text().splitlines()
        )
        tasks = next(row for row in checks if "deploy::tasks" in json.dumps(row))
        assert all(each.name in json.dumps(tasks) for each in nodes)

        config = stand.config.read_text()
        stand.config.write_text(config.replace("[gate]\n", '[gate]\nstart_timeout = "2s"\n'))
        compose = stand.folder / "deploy" / "docker-compose.yml"
        text = compose.read_text().replace("    init: true\n", STOPS_LATE)
        text = text.replace("environment:\n", 'environment:\n      NODE: "{{.Node.Hostname}}"\n')
        compose.write_text(text.replace("stop_grace_period: 10s", "stop_grace_period: 25s"))
        take_port(nodes[1], stand.ports["green"])
        done = stand.pytest("smoke", "--target=green", f"--deploy={NEXT}")
        said = " ".join(done.out.split())
        assert done.code == 1, said
        assert f"a task on {nodes[1].name} failed" in said
        assert "address already in use" in said
        assert "ROLLED BACK" in said
        green = f"label=com.docker.stack.namespace={stand.project('green')}"
        assert [each.docker("ps", "--quiet", "--filter", green) for each in nodes] == ["", "", ""]
