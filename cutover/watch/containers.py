"""Whether both colors stay up: restarts, health, and whether the old color could take over at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.text import seconds_of
from cutover.core.verdict import Outcome, Verdict, no, not_asked, yes
from cutover.gate.container_checks import (
    ALIVE,
    ContainerLife,
    container_evidence,
    describe_exit,
    describe_oom,
    judge_health,
    life_of,
)
from cutover.gate.task_checks import MovedTask, moved_task
from cutover.system import docker
from cutover.system.container import HERE, LOST, Container
from cutover.system.nodes import NodeEngine, Nodes
from cutover.watch.check import Source, WatchCheck

SAME_SECONDS = 30.0  # between two probes of a HEALTHCHECK
# A node that dies is silent until the Swarm calls it down (13 s), a leader until there is another one (21 s): four
# silences in a row, which end a watch, must be longer.
SILENCE_S = 12.0
Find = Callable[[], Container | None]


@dataclass(slots=True, eq=False)
class TaskFinder:
    """Finds the container of a task of a Swarm, also where the Swarm has moved it because its node went down.

    Such a task is no failure of the release: the container says so in `moved`, and its life begins anew. As long as
    it runs nowhere where it could be asked, its status is `lost`.
    """

    service: str
    """The name of the service in the Swarm."""
    find: Find
    """Finds the container on the node where it was when the watch began."""
    nodes: Nodes
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    first: Container | None = None
    """The container whose life is watched."""
    moved: str = ""
    away: bool = False
    """Whether its node was silent since *first* was seen last."""
    lost: bool = False

    def __call__(self) -> Container | None:
        """The container now, None if it ended by itself and is gone; raises EngineUnavailable."""
        try:
            found = self.find()
        except EngineUnavailable as error:
            return self._while_silent(error)
        alive = found is not None and found.status in ALIVE
        same = self.first is None or (found is not None and found.id == self.first.id and alive)
        # A node that comes back still has the ended container of the task that it lost.
        if same or (self.lost and alive):
            self.first, self.away, self.lost = found, False, False
            return replace(found, moved=self.moved) if found else None
        if (moved := self._ask_swarm()) is not None:
            return self._follow(moved)
        if self.lost:
            return self._as_lost()
        if self.away:
            since = f"{self.service} has another container since"
            raise EngineUnavailable(f"its engine was silent, and {since}: why is not known")
        return found

    def _while_silent(self, error: EngineUnavailable) -> Container | None:
        if self.first is None or self.first.engine == HERE:
            raise error
        node = self.nodes.asked[self.first.engine.node]
        until = self.clock() + (SILENCE_S if self.away else 0.0)
        self.away = True
        while True:
            try:
                if (moved := self._ask_swarm()) is not None:
                    return self._follow(moved)
            except EngineUnavailable as mute:
                error = mute
            if self.clock() >= until or _answers_again(node):
                raise error
            self.sleep(1.0)

    def _ask_swarm(self) -> MovedTask | None:
        if self.first is None:
            return None
        nodes = docker.swarm_nodes()
        return moved_task(self.first.id, docker.swarm_tasks(self.service, nodes), nodes)

    def _follow(self, moved: MovedTask) -> Container:
        self.lost, to = True, moved.to
        if to is None:
            self.moved = f"{moved.why}; the task of {self.service} there is not started elsewhere"
        elif to.state != "running":
            where = f" on {to.node}" if to.node else ""
            self.moved = f"{moved.why}; the task of {self.service} there is {to.state}{where}{to.why}"
        else:
            self.moved = f"{moved.why}; the task of {self.service} there was moved to {to.node}"
            if (engine := self.nodes.engine(to.node)) is None:
                self.moved += f", which is not asked: {self.nodes.why_not(to.node)}"
            elif found := docker.inspect(to.container, engine):
                self.find = partial(docker.inspect, to.container, engine)
                self.first, self.away, self.lost = found, False, False
                return replace(found, moved=self.moved)
        return self._as_lost()

    def _as_lost(self) -> Container:
        assert self.first is not None  # noqa: S101  only a container that was seen can be lost
        return replace(self.first, status=LOST, moved=self.moved)


def _answers_again(node: NodeEngine) -> bool:
    try:
        return not node.connect()
    except ConfigError:
        return False


@dataclass(eq=False)
class ContainerSource(Source[Container | None]):
    """Inspects one container for all checks of it; *ask* finds it, and returns None while there is none."""

    first: ContainerLife | None = None
    first_oom: bool = False
    """Whether the engine called it out of memory when it was first seen."""
    unhealthy: int = 0
    """How often it was seen to turn unhealthy."""
    _health_status: str = ""

    expected: ClassVar[str] = "an answer of the engine"
    pending: ClassVar[str] = "the engine has not answered yet"

    def take(self, answer: Container | None) -> None:
        """Compare the container with its last state."""
        if answer is not None:
            self.note = answer.moved
            if self.first is None or (answer.moved and answer.id != self.first.id):
                self.first, self.first_oom = life_of(answer), answer.oom_killed
            self.unhealthy += answer.health_status == "unhealthy" != self._health_status
        self._health_status = answer.health_status if answer else ""

    def reset(self) -> None:
        """Forget how often it turned unhealthy."""
        self.unhealthy = 0


def judge_restarted(first: ContainerLife | None, now: Container | None) -> Verdict:
    """No at any restart of the live color: another id, start or restart count, or no longer running."""
    question = "restarts"
    if first is None or now is None:
        return no(question, "its container is gone", expected="a running container", seen="gone")
    if now.id != first.id:
        seen = f"container {first.id[:12]} was replaced by {now.short}"
        return no(question, seen, expected="the same container", seen=seen, **container_evidence(now))
    if now.status == LOST:
        return not_asked(question, f"reported: {now.moved}")
    if now.status not in ALIVE:
        exit_ = describe_exit(now)
        return no(question, exit_, expected="running", seen=now.status, **container_evidence(now))
    if life_of(now) != first:
        by_engine = now.restart_count - first.restart_count
        times = f"{max(1, by_engine)} time{'s' if by_engine > 1 else ''}"
        # Its exit code is forgotten at its next start. The engine counts those by its restart policy alone.
        how = "it ended by itself" if by_engine > 0 else "somebody restarted it, or the engine"
        why = "out of memory" if now.oom_killed else how
        seen = f"started anew {times} since the watch began: {why}"
        return no(question, seen, expected="no restart", seen=seen, **container_evidence(now))
    since = f"none, running since {now.started_at[:19]}{f'; {now.moved}' if now.moved else ''}"
    return yes(question, since, expected="none", **container_evidence(now))


def judge_flaps(now: Container | None, unhealthy: int) -> Verdict:
    """No once the HEALTHCHECK of the live color has called it unhealthy: its retries are patience enough."""
    if now is not None and now.status == LOST:
        return not_asked("health", f"reported: {now.moved}")
    verdict = judge_health(now, None)
    if verdict.outcome in {Outcome.UNKNOWN, Outcome.NOT_ASKED}:
        return not_asked("health", verdict.reason)
    if unhealthy and now is not None and verdict.ok:
        seen = f"turned unhealthy {unhealthy} time{'s' if unhealthy > 1 else ''} since the watch began"
        return no("health", f"{seen}, healthy now", expected="healthy", seen=seen, **container_evidence(now))
    return verdict


def shared_health_trouble(live: Container | None, old: Container | None) -> str:
    """How the HEALTHCHECK of *old* failed in the seconds in which that of *live* did, in the same way; or empty."""
    if live is None or old is None:
        return ""
    failed, others = _failed_probes(live), _failed_probes(old)
    since = min((at for at, _ in failed), default=math.inf) - SAME_SECONDS
    codes = {code for _, code in failed}
    shared = [code for at, code in others if at >= since and code in codes]
    if not shared:
        return ""
    how = "timed out" if shared[-1] < 0 else f"failed with exit code {shared[-1]}"
    return f"the old color's HEALTHCHECK {how} in the same seconds"


def _failed_probes(container: Container) -> list[tuple[float, int]]:
    """When the last probes that failed began (epoch), and their exit codes; -1 for a timeout."""
    log = (container.health or {}).get("Log") or ()
    return [(seconds_of(row["Start"]), int(row["ExitCode"])) for row in log if row.get("ExitCode")]


def judge_old_color(first: ContainerLife | None, now: Container | None, color: str) -> Verdict:
    """Whether the old color could take over at once; never a no, as a dead old color is no reason to switch to it.

    What is wrong is reported: reverting then has to start the old color first.
    """
    question = "old color"
    if now is None:
        return not_asked(question, f"reported: {color} is gone; reverting would first have to start it")
    if now.status not in ALIVE:
        reason = f"reported: {color}: {describe_exit(now)}; reverting would first start it"
        return not_asked(question, reason)
    if now.health_status == "unhealthy":
        return not_asked(question, f"reported: {color}: {judge_health(now, None).reason}")
    if first is not None and life_of(now) != first:
        return not_asked(question, f"reported: {color} was started anew; it is {now.health_status} now")
    return yes(question, f"{color} is warm: running, health {now.health_status}", **container_evidence(now))


def container_checks(live: ContainerSource) -> tuple[WatchCheck, WatchCheck]:
    """The checks "restarts" and "health" of the live color."""
    return (
        WatchCheck("restarts", live, lambda _: judge_restarted(live.first, live.last)),
        WatchCheck("health", live, lambda _: judge_flaps(live.last, live.unhealthy)),
    )


def old_color_check(old: ContainerSource, color: str) -> WatchCheck:
    """Whether the old color *color* could take over at once; only reports."""

    def judge(source: ContainerSource) -> Verdict:
        if source.silent:
            return not_asked("old color", f"reported: {source.silent}")
        return judge_old_color(source.first, source.last, color)

    return WatchCheck("old color", old, judge, even_if_silent=True)


def sibling_check(name: str, service: str, source: ContainerSource) -> WatchCheck:
    """The check *name* ("restarts", "health" or "oom") of another service; not asked if it never had a container."""

    def judge(_: ContainerSource) -> Verdict:
        now = source.last
        if source.first is None:
            return not_asked(name, "no container is there")
        if name == "restarts":
            return judge_restarted(source.first, now)
        if name == "oom":
            if now is None or not now.oom_killed or source.first_oom:
                return not_asked(name, "nothing was seen")
            return no(name, describe_oom(now), **container_evidence(now))
        return judge_flaps(now, source.unhealthy)

    return WatchCheck(name, source, judge, service=service)
