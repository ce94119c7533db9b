"""Do both colours stay up: restarts, health, and whether the way back is still open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cutover.core.errors import EngineSilent
from cutover.core.verdict import Outcome, Verdict, no, not_asked, unknown, yes
from cutover.gate.container_checks import (
    ALIVE,
    ContainerLife,
    container_evidence,
    describe_exit,
    has_healthcheck,
    judge_health,
    life_of,
)
from cutover.probes.background import Background, Start, in_thread
from cutover.probes.excused import Forgiving
from cutover.system.container import Container
from cutover.watching import Watched

Find = Callable[[], Container | None]


@dataclass(slots=True)
class Watchman:
    """Looks at one colour's container for all questions about it."""

    find: Find
    start: Start = in_thread
    pace_s: float = 0.0
    first: ContainerLife | None = None
    first_oom: bool = False
    """Whether the engine had already called it out of memory when it was first seen."""
    now: Container | None = None
    asked: int = 0
    silent: str = ""
    """Why the engine's last answer is missing; empty while it answers."""
    unhealthy: int = 0
    """How often the container was seen to turn unhealthy."""
    background: Background[Container | None] = field(init=False)

    def __post_init__(self) -> None:
        self.background = Background(self.find, 1, self.start, self.pace_s)

    def look(self, now: float) -> None:
        """Ask the engine once more; take in its answer."""
        was = self.now.health_status if self.now else ""
        try:
            answers = self.background.tick(now)
        except EngineSilent as error:
            self.silent, self.asked = str(error), self.asked + 1
            return
        for container in answers:
            self.silent, self.now, self.asked = "", container, self.asked + 1
            if container is not None:
                if self.first is None:
                    self.first, self.first_oom = life_of(container), container.oom_killed
                self.unhealthy += container.health_status == "unhealthy" != was


def judge_restarts(first: ContainerLife | None, now: Container | None) -> Verdict:
    """No at any restart of the live colour: another id, start or count, or no longer running."""
    question = "restarts"
    if first is None or now is None:
        return no(question, "its container is gone", expected="a running container", seen="gone")
    if now.id != first.id:
        seen = f"container {first.id[:12]} was replaced by {now.short}"
        return no(question, seen, expected="the same container", seen=seen, **container_evidence(now))
    if now.status not in ALIVE:
        return no(
            question, describe_exit(now), expected="running", seen=now.status, **container_evidence(now)
        )
    if life_of(now) != first:
        times = max(1, now.restart_count - first.restart_count)
        why = ", out of memory" if now.oom_killed else f", last exit code {now.exit_code}"
        seen = f"started anew {times} time{'s' if times > 1 else ''} since the watch began{why}"
        return no(question, seen, expected="no restart", seen=seen, **container_evidence(now))
    return yes(
        question, f"none, running since {now.started_at[:19]}", expected="none", **container_evidence(now)
    )


def judge_flaps(now: Container | None, unhealthy: int) -> Verdict:
    """No once the live colour's own HEALTHCHECK has called it unhealthy: its retries are patience enough."""
    verdict = judge_health(now, None)
    if verdict.outcome is Outcome.UNKNOWN:
        return not_asked("health", verdict.reason)
    if unhealthy and now is not None and verdict.ok:
        seen = f"turned unhealthy {unhealthy} time{'s' if unhealthy > 1 else ''} since the watch began"
        return no("health", f"{seen}, healthy now", expected="healthy", seen=seen, **container_evidence(now))
    return verdict


def judge_way_back(first: ContainerLife | None, now: Container | None, colour: str) -> Verdict:
    """Whether the old colour could take over at once; never a no: a dead old colour is no reason to go there.

    What is wrong is reported: taking back then first brings the old colour up, and takes as long as that.
    """
    question = "way back"
    if now is None:
        return not_asked(question, f"reported: {colour} is gone; taking back would first have to start it")
    if now.status not in ALIVE:
        return not_asked(
            question, f"reported: {colour}: {describe_exit(now)}; taking back would first start it"
        )
    if now.health_status == "unhealthy":
        return not_asked(question, f"reported: {colour}: {judge_health(now, None).reason}")
    if first is not None and life_of(now) != first:
        return not_asked(question, f"reported: {colour} was started anew; it is {now.health_status} now")
    return yes(question, f"{colour} is warm: running, health {now.health_status}", **container_evidence(now))


@dataclass(slots=True)
class Seen:
    """A question about what *watchman* sees; the one with `looks` asks the engine for all of them."""

    name: str
    watchman: Watchman
    judge: Callable[[Watchman], Verdict]
    looks: bool = False
    every_s: float = 0.5
    reports_only: bool = False

    @property
    def asked(self) -> int:
        """How often the engine answered or was silent."""
        return self.watchman.asked

    def tick(self, now: float) -> None:
        """Look once more."""
        if self.looks:
            self.watchman.look(now)

    def verdict(self) -> Verdict:
        """The judgement of what the engine said last."""
        if not self.watchman.asked:
            return not_asked(self.name, "the engine has not answered yet")
        if self.watchman.silent:
            if self.reports_only:
                return not_asked(self.name, f"reported: {self.watchman.silent}")
            return unknown(self.name, self.watchman.silent, expected="an answer of the engine")
        return self.judge(self.watchman)

    def forgive(self) -> None:
        """Begin to count anew."""
        self.watchman.unhealthy = 0


@dataclass(slots=True)
class Together:
    """One question about all services of a colour, which are one release: a no of any of them is the answer."""

    first: Watched
    beside: Sequence[Watched]

    @property
    def name(self) -> str:
        """What the question is called."""
        return self.first.name

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""
        return self.first.every_s

    @property
    def asked(self) -> int:
        """How often the engine answered or was silent."""
        return int(getattr(self.first, "asked", 0))

    def tick(self, now: float) -> None:
        """Look at each of them once more."""
        for each in (self.first, *self.beside):
            each.tick(now)

    def verdict(self) -> Verdict:
        """A no or an unknown of any; else what the service that takes the traffic says."""
        found = [each.verdict() for each in (self.first, *self.beside)]
        order = (Outcome.NO, Outcome.UNKNOWN)
        return next((each for wanted in order for each in found if each.outcome is wanted), found[0])

    def forgive(self) -> None:
        """Begin to count anew."""
        for each in (self.first, *self.beside):
            if isinstance(each, Forgiving):
                each.forgive()


def beside(question: str, service: str, watchman: Watchman) -> Seen:
    """*question* about another service of the colour: not asked of one that was never there."""
    rule = {"restarts": lambda man: judge_restarts(man.first, man.now), "health": _health, "oom": _oom}[
        question
    ]

    def judge(man: Watchman) -> Verdict:
        return (rule(man) if man.first else not_asked(question, "no container is there")).of(service)

    return Seen(question, watchman, judge, looks=question == "restarts")


def _health(man: Watchman) -> Verdict:
    """Nobody sends a worker requests: it may have no HEALTHCHECK."""
    if man.now is not None and not has_healthcheck(man.now):
        return not_asked("health", "it has no HEALTHCHECK")
    return judge_flaps(man.now, man.unhealthy)


def _oom(man: Watchman) -> Verdict:
    if man.now is not None and man.now.oom_killed and not man.first_oom:
        return no(
            "oom", f"out of memory: {man.now.status}, exit {man.now.exit_code}", **container_evidence(man.now)
        )
    return not_asked("oom", "nothing was seen")


def questions(live: Watchman, old: Watchman | None, old_colour: str) -> list[Seen]:
    """Restarts and health of the live colour; the old one only as the way back."""
    found = [
        Seen("restarts", live, lambda man: judge_restarts(man.first, man.now), looks=True),
        Seen("health", live, lambda man: judge_flaps(man.now, man.unhealthy)),
    ]
    if old is not None:
        back = Seen("way back", old, lambda man: judge_way_back(man.first, man.now, old_colour), looks=True)
        back.reports_only = True
        found.append(back)
    return found
