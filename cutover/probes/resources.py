"""CPU and memory of the live colour against its own limits, and whether the kernel had to kill for memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cutover.core.config_schema import Slo
from cutover.core.errors import EngineSilent
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.evidence import Evidence
from cutover.probes import usage
from cutover.probes.background import Background, Start, in_thread
from cutover.probes.flaps import Watchman
from cutover.probes.leak import MB, Series, judge_leak
from cutover.probes.usage import Usage
from cutover.system.container import Container

WINDOW_S = 15.0
IN_A_ROW = 3
NANO_CPU = 1e9


@dataclass(slots=True)
class Gauge:
    """Reads what one colour's container uses; keeps no more than the rules need."""

    watchman: Watchman
    evidence: Evidence
    colour: str
    read: Callable[[str], Usage | None] = usage.read
    start: Start = in_thread
    last: Usage | None = None
    window: Usage | None = None
    """The reading with which the open window of CPU time began."""
    cores: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    """Cores used on average in the last two closed windows."""
    memory: deque[int] = field(default_factory=lambda: deque(maxlen=IN_A_ROW))
    anonymous: Series = field(default_factory=Series)
    oom_before: int | None = None
    silent: str = ""
    asked: int = 0
    background: Background[Usage | None] = field(init=False)

    def __post_init__(self) -> None:
        self.background = Background(self._ask, 1, self.start)

    def _ask(self) -> Usage | None:
        return self.read(self.watchman.now.id) if self.watchman.now else None

    def look(self, now: float) -> None:
        """Take one more reading."""
        try:
            readings = self.background.tick(now)
        except EngineSilent as error:
            self.silent, self.asked = str(error), self.asked + 1
            return
        for reading in readings:
            self.silent, self.asked = "", self.asked + 1
            if reading is not None:
                self._take(reading)

    def _take(self, reading: Usage) -> None:
        if self.last is not None and reading.at > self.last.at and reading.cpu_s >= self.last.cpu_s:
            used = (reading.cpu_s - self.last.cpu_s) / (reading.at - self.last.at)
            self.evidence.sample("cpu cores", self.colour, used)
        elif self.last is not None:
            self.window = None  # a new life: its CPU time began anew
        self.evidence.sample("memory MB", self.colour, reading.memory / MB)
        self.last = reading
        self.window = self.window or reading
        if reading.at - self.window.at >= WINDOW_S:
            self.cores.append((reading.cpu_s - self.window.cpu_s) / (reading.at - self.window.at))
            self.window = reading
        self.memory.append(reading.memory)
        self.anonymous.add(reading.at, reading.anonymous)
        if self.oom_before is None:
            self.oom_before = reading.oom_kills


def judge_cpu(cores: tuple[float, ...], container: Container, allowed: float) -> Verdict:
    """No when more than *allowed* of the container's own CPU limit was used in two windows of 15 s in a row."""
    question = "cpu"
    if not cores:
        return not_asked(question, f"no window of {WINDOW_S:.0f} s yet")
    if not container.nano_cpus:
        return not_asked(question, f"{cores[-1]:.2f} cores; the container has no CPU limit of its own")
    limit = container.nano_cpus / NANO_CPU
    shares = [used / limit for used in cores]
    expected, seen = f"at most {allowed:.0%} of {limit:g} cores", f"{shares[-1]:.0%}"
    if len(shares) == 2 and min(shares) > allowed:  # noqa: PLR2004 - two in a row
        reason = (
            f"expected {expected}, got {shares[0]:.0%} and {shares[1]:.0%} in two windows of {WINDOW_S:.0f} s"
        )
        return no(question, reason, expected=expected, seen=seen, cores=round(cores[-1], 3))
    if shares[-1] > allowed:
        return not_asked(question, f"expected {expected}, got {seen}, once; two windows in a row are a no")
    return yes(
        question, f"{seen} of {limit:g} cores", expected=expected, seen=seen, cores=round(cores[-1], 3)
    )


def judge_memory(readings: tuple[int, ...], container: Container, allowed: float) -> Verdict:
    """No when three readings in a row were above *allowed* of the container's own memory limit."""
    question = "memory"
    if not readings:
        return not_asked(question, "no reading yet")
    used = readings[-1] / MB
    if not container.memory_limit:
        return not_asked(question, f"{used:.0f} MB; the container has no memory limit of its own")
    limit = container.memory_limit / MB
    expected, seen = f"at most {allowed:.0%} of {limit:.0f} MB", f"{used:.0f} MB ({used / limit:.0%})"
    if len(readings) == IN_A_ROW and min(readings) > allowed * container.memory_limit:
        reason = f"expected {expected}, got {seen}, {IN_A_ROW} readings in a row above it"
        return no(question, reason, expected=expected, seen=seen, bytes=readings[-1])
    if readings[-1] > allowed * container.memory_limit:
        return not_asked(question, f"expected {expected}, got {seen}; {IN_A_ROW} readings in a row are a no")
    return yes(question, f"{seen} of {limit:.0f} MB", expected=expected, seen=seen, bytes=readings[-1])


def judge_oom(first_oom: bool, now: Container, killed: int) -> Verdict:
    """No when the kernel killed any process of the container for its memory limit since the watch began."""
    question, expected = "oom", "no process killed for memory"
    if killed > 0:
        seen = f"the kernel killed {killed} process{'es' if killed > 1 else ''} for the memory limit"
        return no(question, seen, expected=expected, seen=seen, limit=now.memory_limit)
    if now.oom_killed and not first_oom:
        seen = f"out of memory: {now.status}, exit {now.exit_code}"
        return no(question, seen, expected=expected, seen=seen, limit=now.memory_limit)
    return yes(question, "nothing killed for memory", expected=expected)


@dataclass(slots=True)
class ResourceQuestion:
    """One question about what *gauge* reads; the one with `looks` reads for all."""

    name: str
    gauge: Gauge
    judge: Callable[[Gauge, Container], Verdict]
    looks: bool = False
    every_s: float = 1.0
    beside: Gauge | None = None
    """The old colour's, read for the charts alone."""

    @property
    def asked(self) -> int:
        """How many readings were taken or missed."""
        return self.gauge.watchman.asked if self.gauge.watchman.silent else self.gauge.asked

    def tick(self, now: float) -> None:
        """Take one more reading."""
        if self.looks:
            self.gauge.look(now)
        if self.beside:
            self.beside.look(now)

    def verdict(self) -> Verdict:
        """The judgement of the readings so far."""
        silent = self.gauge.silent or self.gauge.watchman.silent
        if silent:
            return unknown(self.name, silent, expected="the engine's stats")
        container = self.gauge.watchman.now
        if container is None:
            return not_asked(self.name, "no container seen yet, or none any more")
        return self.judge(self.gauge, container)


def questions(gauge: Gauge, slo: Slo, old: Gauge | None = None) -> list[ResourceQuestion]:
    """CPU, memory, kills for memory, and the leak; *old* is read for the charts."""
    return [
        ResourceQuestion(
            "cpu", gauge, lambda g, c: judge_cpu(tuple(g.cores), c, slo.cpu), looks=True, beside=old
        ),
        ResourceQuestion("memory", gauge, lambda g, c: judge_memory(tuple(g.memory), c, slo.memory)),
        ResourceQuestion("oom", gauge, lambda g, c: judge_oom(g.watchman.first_oom, c, killed_since(g))),
        ResourceQuestion(
            "leak", gauge, lambda g, c: judge_leak(g.anonymous.points, c.memory_limit), every_s=10.0
        ),
    ]


def killed_since(gauge: Gauge) -> int:
    """Processes killed since the first reading; a new life counts from zero again."""
    if gauge.last is None or gauge.last.oom_kills is None or gauge.oom_before is None:
        return 0
    return max(0, gauge.last.oom_kills - gauge.oom_before)
