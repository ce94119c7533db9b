"""A task of a Swarm is found again where the Swarm moves it; what it does by itself stays its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome
from cutover.system import docker
from cutover.system.container import HERE, LOST, Container, Engine
from cutover.system.docker import SwarmNode, SwarmTask
from cutover.system.nodes import NodeEngine, Nodes
from cutover.system.ssh import SshHost
from cutover.watch.check import at_once
from cutover.watch.containers import SILENCE_S, ContainerSource, TaskFinder, sibling_check
from tests.helpers.containers import container

HOST = SshHost("nowhere", Path("/nowhere/0"))
ENGINES = {name: Engine(name, f"unix:///nowhere/{name}") for name in ("web-2", "web-3")}
FIRST, NEXT = (replace(container(id=each * 64), engine=ENGINES["web-2"]) for each in "ab")
THERE = replace(container(id="c" * 64), engine=ENGINES["web-3"])
TASK = SwarmTask("running", "i", "h", "web-2", "", slot=2, container=FIRST.id, created="2026-01-01T00:00:01Z")
MOVED = replace(TASK, node="web-3", container=THERE.id, created="2026-01-01T00:00:30Z")


@dataclass
class FakeSwarm:
    """What the engines of a Swarm say now; None: they are silent."""

    there: Container | EngineUnavailable | None = FIRST
    """The container of the task on web-2."""
    moved: Container | None = THERE
    """The container of the task in its place on web-3."""
    state: str | None = "ready"
    """That of web-2; None: the Swarm has no leader."""
    tasks: list[SwarmTask] = field(default_factory=lambda: [TASK])
    now: float = 0.0

    def find(self) -> Container | None:
        """The container on web-2."""
        if isinstance(self.there, EngineUnavailable):
            raise self.there
        return self.there

    def nodes(self) -> list[SwarmNode]:
        """The nodes, if there is a leader."""
        if self.state is None:
            raise EngineUnavailable("the Swarm has no leader")
        return [SwarmNode("n2", "web-2", self.state, "active"), SwarmNode("n3", "web-3", "ready", "active")]

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


SILENT = EngineUnavailable("the Docker engine of web-2 does not answer: timed out")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    """A Swarm whose task runs on web-2."""
    made = FakeSwarm()
    monkeypatch.setattr(docker, "swarm_nodes", made.nodes)
    monkeypatch.setattr(docker, "swarm_tasks", lambda _name, _nodes: made.tasks)
    monkeypatch.setattr(docker, "inspect", lambda id_, _engine: made.moved if id_ == THERE.id else None)
    monkeypatch.setattr(NodeEngine, "connect", lambda _self: "no answer")
    return made


def finder(fake: FakeSwarm, *asked: str) -> TaskFinder:
    """The finder of the task, after its first look; the engines of *asked* are reached by ssh."""
    nodes = Nodes({name: NodeEngine(ENGINES[name], HOST) for name in asked})
    made = TaskFinder("recall_green_jobs", fake.find, nodes, lambda: fake.now, fake.sleep)
    assert made() == FIRST
    return made


def restarts(find: TaskFinder) -> Callable[[], tuple[Outcome, str, list[str]]]:
    """Asks for the verdict of "restarts", its reason and what is to be reported."""
    source, polls = ContainerSource(find, start=at_once), iter(range(99))
    check = sibling_check("restarts", "jobs on web-2", source)

    def ask() -> tuple[Outcome, str, list[str]]:
        check.poll(float(next(polls)))
        verdict = check.verdict()
        return verdict.outcome, verdict.reason, check.notes

    assert ask()[0] is Outcome.YES
    return ask


def test_a_task_is_followed_to_another_node(fake: FakeSwarm) -> None:
    """It is unknown until the Swarm calls the node down, then judged on its new node, where it may fail by itself."""
    ask = restarts(finder(fake, "web-2", "web-3"))
    fake.there = SILENT
    assert ask()[0] is Outcome.UNKNOWN
    fake.state, fake.tasks = "down", [replace(TASK, desired="shutdown"), replace(MOVED, state="starting")]
    note = "web-2 is down; the task of recall_green_jobs there is starting on web-3"
    assert ask() == (Outcome.NOT_ASKED, f"jobs on web-2: reported: {note}", [note])
    fake.tasks[1] = MOVED
    outcome, reason, notes = ask()
    assert (outcome, notes) == (
        Outcome.YES,
        ["web-2 is down; the task of recall_green_jobs there was moved to web-3"],
    )
    assert reason.endswith(notes[0])
    fake.moved = None
    assert ask()[:2] == (Outcome.NO, "jobs on web-2: its container is gone")


def test_a_container_that_was_known_before_the_first_look_is_followed(fake: FakeSwarm) -> None:
    """A check that begins when its node is dying is as patient as one that has asked before."""
    fake.there, nodes = SILENT, Nodes({name: NodeEngine(ENGINES[name], HOST) for name in ("web-2", "web-3")})
    find = TaskFinder("recall_green_jobs", fake.find, nodes, lambda: fake.now, fake.sleep, first=FIRST)
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            find()
    assert fake.now >= 2 * SILENCE_S
    fake.state, fake.tasks = "down", [replace(TASK, desired="shutdown"), MOVED]
    assert find() == replace(
        THERE, moved="web-2 is down; the task of recall_green_jobs there was moved to web-3"
    )


def test_a_task_that_nobody_can_ask_is_reported(fake: FakeSwarm) -> None:
    """It runs on a node without an ssh name: that is told, and decides nothing."""
    ask = restarts(finder(fake, "web-2"))
    fake.there, fake.state, fake.tasks = SILENT, "down", [TASK, MOVED]
    outcome, reason, notes = ask()
    assert outcome is Outcome.NOT_ASKED
    assert "moved to web-3, which is not asked: [platform] nodes has no ssh name of it" in reason
    assert notes


def test_a_global_task_is_lost_with_its_node_and_comes_back_with_it(fake: FakeSwarm) -> None:
    """No other node has to run it; its container after the reboot is another one, and no restart of the release."""
    fake.tasks = [replace(TASK, slot=0)]
    ask = restarts(finder(fake, "web-2"))
    fake.there, fake.state = SILENT, "down"
    assert "is not started elsewhere" in ask()[1]
    fake.there, fake.state = None, "ready"
    assert ask()[0] is Outcome.NOT_ASKED
    fake.there = replace(FIRST, status="exited")  # the node still has the container that it lost
    assert ask()[0] is Outcome.NOT_ASKED
    fake.there = NEXT
    assert ask()[0] is Outcome.YES


def test_a_task_that_ends_by_itself_is_a_no(fake: FakeSwarm) -> None:
    """Its node is up: the Swarm has started another container in its place."""
    ask = restarts(finder(fake, "web-2"))
    fake.there = NEXT
    assert ask()[0] is Outcome.NO


def test_another_container_after_a_silence_is_unknown(fake: FakeSwarm) -> None:
    """Whether the engine or the release ended the first one cannot be told."""
    ask = restarts(finder(fake, "web-2"))
    fake.there = SILENT
    assert ask()[0] is Outcome.UNKNOWN
    fake.there = NEXT
    assert ask()[0] is Outcome.UNKNOWN


def test_nothing_is_a_no_without_a_leader(fake: FakeSwarm) -> None:
    """Nobody can say what became of a container that is gone."""
    ask = restarts(finder(fake, "web-2"))
    fake.there, fake.state = None, None
    assert ask()[0] is Outcome.UNKNOWN


def test_silence_is_told_at_once_and_then_seldom(fake: FakeSwarm) -> None:
    """Four silences in a row end a watch, which must outlast the election of a leader."""
    find = finder(fake, "web-2")
    fake.there, fake.state = SILENT, None
    for seconds in (0.0, SILENCE_S, SILENCE_S):
        begun = fake.now
        with pytest.raises(EngineUnavailable):
            find()
        assert fake.now - begun == seconds


def test_a_connection_that_was_lost_is_made_again(fake: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the engine answers, the container is asked there, and has not changed."""
    ask = restarts(finder(fake, "web-2"))
    fake.there = SILENT
    assert ask()[0] is Outcome.UNKNOWN

    def connect(_self: NodeEngine) -> str:
        fake.there = FIRST
        return ""

    monkeypatch.setattr(NodeEngine, "connect", connect)
    assert ask()[0] is Outcome.UNKNOWN
    assert fake.now == 0.0
    assert ask()[0] is Outcome.YES


def test_the_own_engine_is_asked_for_its_own_containers_only(fake: FakeSwarm) -> None:
    """While it is silent, nothing else can be asked either."""
    fake.there = replace(FIRST, engine=HERE)
    find = TaskFinder("recall_green_api", fake.find, Nodes())
    assert find() == fake.there
    fake.there = SILENT
    with pytest.raises(EngineUnavailable):
        find()


def test_a_lost_container_is_no_running_one() -> None:
    """Nothing is run in it and nothing read of it."""
    assert not replace(FIRST, status=LOST).in_use
