"""CPU and memory of the live color against its own limits, kills for memory, and memory leaks.

Usage is read from the files of the container's cgroup on this host (0.1 ms), else from the engine's stats (2 s).

The rule for a leak and its numbers come from simulated series with warm-up, saw-teeth, steps and noise. Of the
watched time the first third is left out (warm-up); the rest is cut into eight windows, and only the lowest reading
of each counts (the valleys of a saw-tooth). The largest step between two of them is lowered to the middle one: a
cache that is filled once is no leak. It is a leak when the Theil-Sen slope of the result is surely above zero (lower
end of its 95 % interval) and at least 1 MB a minute, memory grew by at least 2 %, and the newer half still grows by
1 MB a minute and half as fast as the whole: what slows down is a warm-up.

Of 200 simulated runs of 14.5 minutes each the rule finds 99 % of the leaks of 2 MB a minute, all after a warm-up,
97 % under a saw-tooth of 40 s. It calls none of the flat, noisy, saw-toothed or stepping series a leak, and no
warm-up of 60 MB with a time constant of up to three minutes; one of five minutes still grows, and is called a leak
two times of three. In less time the rule cannot tell: in five minutes a warm-up looks like a leak. A watch of 15
minutes always has 14.5 minutes of readings.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from cutover.core.config_schema import Slo
from cutover.core.evidence import Evidence
from cutover.core.stats import minima, quantile, theil_sen
from cutover.core.text import percent
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.gate.container_checks import describe_oom
from cutover.system import docker
from cutover.system.container import HERE, LOST, ZERO_TIME, Container, Engine
from cutover.watch.check import Source, WatchCheck
from cutover.watch.containers import ContainerSource

CGROUP_ROOT = Path("/sys/fs/cgroup")
NANO, MICRO, MB = 1e-9, 1e-6, 1e6
CPU_WINDOW_S = 15.0
MEMORY_STREAK = 3

LEAK_NEEDS_S = 870.0
LEAK_WINDOWS = 8
LEAK_SLOPE_MB = 1.0
LEAK_GROWTH = 0.02
LEAK_SLOWER = 0.5
MOST_READINGS = 1000


@dataclass(frozen=True, slots=True)
class Usage:
    """One reading of what a container uses, in bytes and seconds."""

    at: float
    """Seconds of a monotonic clock."""
    cpu_s: float
    """CPU time since the start of the container."""
    memory: int
    """What counts against the limit: usage without the page cache that can be dropped."""
    anonymous: int
    """Memory that is not backed by a file: what leaks."""
    oom_kills: int | None = None
    """Processes that the kernel has killed for the limit; None where that is not counted."""


def read_usage(container_id: str, engine: Engine = HERE) -> Usage | None:
    """A reading of the container, None while it does not run; raises EngineUnavailable."""
    found = usage_of_cgroup(container_id) if engine == HERE else None
    return found if found is not None else usage_of_engine(container_id, engine)


def usage_of_cgroup(container_id: str, root: Path = CGROUP_ROOT) -> Usage | None:
    """The reading from the files of the cgroup, version 1 or 2; None where they cannot be read."""
    is_version_1 = (root / "memory").is_dir()
    memory = root / "memory" if is_version_1 else root
    names = (f"docker/{container_id}", f"system.slice/docker-{container_id}.scope")
    try:
        name = next(each for each in names if (memory / each).is_dir())
        memory /= name
        stat = _table(memory / "memory.stat")
        if is_version_1:
            used, anonymous = "memory.usage_in_bytes", "total_rss"
            cpu_s = int((root / "cpuacct" / name / "cpuacct.usage").read_text()) * NANO
            events = _table(memory / "memory.oom_control")
        else:
            used, anonymous = "memory.current", "anon"
            cpu_s = _table(memory / "cpu.stat")["usage_usec"] * MICRO
            events = _table(memory / "memory.events")
        in_use = _without_cache(int((memory / used).read_text()), stat)
        return Usage(time.monotonic(), cpu_s, in_use, stat[anonymous], events.get("oom_kill"))
    except (OSError, KeyError, ValueError, StopIteration):
        return None


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file with lines of `name number`."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}  # noqa: PLR2004 - a pair


def _without_cache(used: int, stat: Mapping[str, int]) -> int:
    # Version 1 names the sums of a cgroup and those below it `total_…`.
    cache = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in ("inactive_file", "active_file"))
    return used - cache if cache < used else used


def usage_of_engine(container_id: str, engine: Engine = HERE) -> Usage | None:
    """The reading from `docker stats`; None for a container that does not run; raises EngineUnavailable."""
    from docker.errors import NotFound

    with docker.engine_errors():
        try:
            stats = docker.client(engine).api.stats(container_id, stream=False)
        except NotFound:
            return None
    return usage_of_stats(stats)


def usage_of_stats(stats: Mapping[str, Any]) -> Usage | None:
    """The reading in one answer of the engine; None for the zeros that it answers for a stopped container."""
    memory = stats.get("memory_stats") or {}
    if stats.get("read", ZERO_TIME) == ZERO_TIME or "usage" not in memory:
        return None
    inner = memory.get("stats") or {}
    return Usage(
        at=time.monotonic(),
        cpu_s=stats["cpu_stats"]["cpu_usage"]["total_usage"] * NANO,
        memory=_without_cache(memory["usage"], inner),
        anonymous=inner.get("total_rss", inner.get("anon", memory["usage"])),
    )


@dataclass(slots=True)
class Series:
    """Points of time and value; beyond a thousand every second one is dropped, so memory stays constant."""

    points: list[tuple[float, float]] = field(default_factory=list)
    every_s: float = 1.0

    def add(self, at: float, value: float) -> None:
        """Keep the point unless the last one is too near."""
        if self.points and at - self.points[-1][0] < self.every_s * 0.9:
            return
        self.points.append((at, value))
        if len(self.points) > MOST_READINGS:
            self.points = self.points[::2]
            self.every_s *= 2

    @property
    def seconds(self) -> float:
        """The time between the first and the last point."""
        return self.points[-1][0] - self.points[0][0] if self.points else 0.0


@dataclass(eq=False)
class UsageSource(Source[Usage | None]):
    """Reads what the container of *containers* uses, and keeps no more readings than the judges need."""

    ask: Callable[[], Usage | None] = field(init=False)
    containers: ContainerSource
    evidence: Evidence
    color: str
    service: str = ""
    """Which of several containers of the color it is; empty for the one that takes the traffic."""
    read: Callable[[str, Engine], Usage | None] = read_usage
    beside: UsageSource | None = None
    """The old color's, polled for the charts alone."""
    every_s: float = field(default=1.0, kw_only=True)
    window: Usage | None = None
    """The reading with which the open window of CPU time began."""
    cores: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    """Cores used on average in the last two closed windows."""
    memory: deque[int] = field(default_factory=lambda: deque(maxlen=MEMORY_STREAK))
    anonymous: Series = field(default_factory=Series)
    oom_before: int | None = None
    """Kills for memory at the first reading."""
    _newest: Usage | None = None

    expected: ClassVar[str] = "the engine's stats"

    def __post_init__(self) -> None:
        self.ask = self._read

    def _read(self) -> Usage | None:
        found = self.containers.last
        return self.read(found.id, found.engine) if found and found.status != LOST else None

    @property
    def _of(self) -> str:
        return f" of {self.service}" if self.service else ""

    @property
    def polls(self) -> int:
        """Number of readings; while the engine is silent, of its silences."""
        return self.containers.polls if self.containers.silent else self.count

    @property
    def silent(self) -> str:
        """Why there is no reading, or why it is unknown whether the container still serves."""
        return self.silence or self.containers.silent

    @property
    def killed(self) -> int:
        """Processes killed for memory since the first reading; a restarted container counts from zero again."""
        if self._newest is None or self._newest.oom_kills is None or self.oom_before is None:
            return 0
        return max(0, self._newest.oom_kills - self.oom_before)

    def poll(self, now: float) -> None:
        """Take one more reading, also of the old color."""
        super().poll(now)
        if self.beside is not None:
            self.beside.poll(now)

    def take(self, answer: Usage | None) -> None:
        """Keep one reading for the judges and the charts."""
        if answer is None:
            return
        last = self._newest
        if last is not None and answer.at > last.at and answer.cpu_s >= last.cpu_s:
            used = (answer.cpu_s - last.cpu_s) / (answer.at - last.at)
            self.evidence.sample(f"cpu cores{self._of}", self.color, used)
        elif last is not None:
            self.window = None  # the container was restarted: its CPU time began anew
        self.evidence.sample(f"memory MB{self._of}", self.color, answer.memory / MB)
        self._newest = answer
        self.window = self.window or answer
        if answer.at - self.window.at >= CPU_WINDOW_S:
            self.cores.append((answer.cpu_s - self.window.cpu_s) / (answer.at - self.window.at))
            self.window = answer
        self.memory.append(answer.memory)
        self.anonymous.add(answer.at, answer.anonymous)
        if self.oom_before is None:
            self.oom_before = answer.oom_kills


def judge_cpu(cores: tuple[float, ...], container: Container, allowed: float) -> Verdict:
    """No when more than *allowed* of the container's own CPU limit was used in two windows of 15 s in a row."""
    question = "cpu"
    if not cores:
        return not_asked(question, f"no window of {CPU_WINDOW_S:.0f} s yet")
    if not container.nano_cpus:
        return not_asked(question, f"{cores[-1]:.2f} cores; the container has no CPU limit of its own")
    limit = container.nano_cpus * NANO
    shares = [used / limit for used in cores]
    expected, seen = f"at most {allowed:.0%} of {limit:g} cores", percent(shares[-1], most=allowed)
    used = round(cores[-1], 3)
    if len(shares) == 2 and min(shares) > allowed:  # noqa: PLR2004 - two in a row
        both = " and ".join(percent(each, most=allowed) for each in shares)
        reason = f"expected {expected}, got {both} in two windows of {CPU_WINDOW_S:.0f} s"
        return no(question, reason, expected=expected, seen=seen, cores=used)
    if shares[-1] > allowed:
        return not_asked(question, f"expected {expected}, got {seen}, once; two windows in a row are a no")
    return yes(question, f"{seen} of {limit:g} cores", expected=expected, seen=seen, cores=used)


def judge_memory(readings: tuple[int, ...], container: Container, allowed: float) -> Verdict:
    """No when three readings in a row were above *allowed* of the container's own memory limit."""
    question = "memory"
    if not readings:
        return not_asked(question, "no reading yet")
    used = readings[-1] / MB
    if not container.memory_limit:
        return not_asked(question, f"{used:.0f} MB; the container has no memory limit of its own")
    limit = container.memory_limit / MB
    expected = f"at most {allowed:.0%} of {limit:.0f} MB"
    seen = f"{used:.0f} MB ({percent(used / limit, most=allowed)})"
    if len(readings) == MEMORY_STREAK and min(readings) > allowed * container.memory_limit:
        reason = f"expected {expected}, got {seen}, {MEMORY_STREAK} readings in a row above it"
        return no(question, reason, expected=expected, seen=seen, bytes=readings[-1])
    if readings[-1] > allowed * container.memory_limit:
        reason = f"expected {expected}, got {seen}; {MEMORY_STREAK} readings in a row are a no"
        return not_asked(question, reason)
    return yes(question, f"{seen} of {limit:.0f} MB", expected=expected, seen=seen, bytes=readings[-1])


def judge_oom(first_oom: bool, now: Container, killed: int) -> Verdict:
    """No when the kernel killed any process of the container for its memory limit since the watch began.

    *first_oom*: whether the engine called the container out of memory before; it never reverts that.
    """
    question, expected = "oom", "no process killed for memory"
    seen = ""
    if killed > 0:
        seen = f"the kernel killed {killed} process{'es' if killed > 1 else ''} for the memory limit"
    elif now.oom_killed and not first_oom:
        seen = describe_oom(now)
    if seen:
        return no(question, seen, expected=expected, seen=seen, limit=now.memory_limit)
    return yes(question, "nothing killed for memory", expected=expected)


def without_step(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """*points* with everything behind the largest rise lowered, so that it rises like the middle one."""
    rises = [right[1] - left[1] for left, right in pairwise(points)]
    if not rises:
        return list(points)
    largest = max(range(len(rises)), key=rises.__getitem__)
    lower = rises[largest] - quantile(rises, 0.5)
    return [(x, y - lower if index > largest else y) for index, (x, y) in enumerate(points)]


def judge_leak(points: Sequence[tuple[float, float]], limit: int) -> Verdict:
    """Judge *points* of seconds and bytes by the rule at the head of this file; *limit* in bytes, 0 for none."""
    question, expected = "leak", f"less than {LEAK_SLOPE_MB:g} MB a minute"
    seconds = points[-1][0] - points[0][0] if points else 0.0
    if seconds < LEAK_NEEDS_S:
        needed = f"{LEAK_NEEDS_S / 60:g} min needed to tell a leak from a warm-up"
        return not_asked(question, f"{seconds / 60:.0f} min seen, {needed}")
    begin = points[0][0] + seconds / 3
    low = without_step(minima([(at / 60, value / MB) for at, value in points if at >= begin], LEAK_WINDOWS))
    slope, growth = theil_sen(low), (low[-1][1] - low[0][1]) / max(low[0][1], 1.0)
    seen = f"{slope.middle:+.1f} MB a minute at {points[-1][1] / MB:.0f} MB"
    goes_on = theil_sen(low[len(low) // 2 :]).middle >= max(LEAK_SLOPE_MB, slope.middle * LEAK_SLOWER)
    if slope.lower > 0 and slope.middle >= LEAK_SLOPE_MB and growth >= LEAK_GROWTH and goes_on:
        hours = (limit - points[-1][1]) / MB / slope.middle / 60 if limit else 0.0
        grown = f"{growth:.0%} over {seconds * 2 / 180:.0f} min"
        reason = f"memory grows by {slope.middle:.1f} MB a minute, {grown}"
        reason += f": at its limit in {hours:.1f} h" if limit else ""
        return no(question, reason, expected=expected, seen=seen)
    return yes(question, f"{seen}, no sure growth in {seconds / 60:.0f} min", expected=expected, seen=seen)


def resource_checks(source: UsageSource, slo: Slo) -> list[WatchCheck]:
    """The checks "cpu", "memory", "oom" and "leak"."""

    def check(name: str, judge: Callable[[Container], Verdict]) -> WatchCheck:
        def judge_if_seen(found: UsageSource) -> Verdict:
            container = found.containers.last
            if container is None or container.status == LOST:
                return not_asked(name, "no container seen yet, or none any more")
            return judge(container)

        return WatchCheck(name, source, judge_if_seen, service=source.service)

    return [
        check("cpu", lambda now: judge_cpu(tuple(source.cores), now, slo.cpu)),
        check("memory", lambda now: judge_memory(tuple(source.memory), now, slo.memory)),
        check("oom", lambda now: judge_oom(source.containers.first_oom, now, source.killed)),
        check("leak", lambda now: judge_leak(source.anonymous.points, now.memory_limit)),
    ]
