"""CPU and memory are judged against the container's own limits, and a leak by its slope."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config_schema import Slo
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome
from cutover.system.container import Container, Engine
from cutover.watch.check import at_once
from cutover.watch.containers import ContainerSource
from cutover.watch.resources import (
    LEAK_NEEDS_S,
    MB,
    Series,
    Usage,
    UsageSource,
    judge_cpu,
    judge_leak,
    judge_memory,
    judge_oom,
    resource_checks,
    usage_of_cgroup,
    usage_of_stats,
)
from tests.helpers.containers import container

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
LIMITED = container(memory=100_000_000, cpus=0.5)
SLO = Slo.model_validate({})


@pytest.mark.parametrize(
    ("cores", "where", "outcome", "reason"),
    [
        ((), LIMITED, NOT_ASKED, "no window of 15 s yet"),
        ((0.1,), LIMITED, YES, "20% of 0.5 cores"),
        (
            (0.49,),
            LIMITED,
            NOT_ASKED,
            "expected at most 90% of 0.5 cores, got 98%, once; two windows in a row are a no",
        ),
        ((0.49, 0.2), LIMITED, YES, "40% of 0.5 cores"),
        (
            (0.49, 0.48),
            LIMITED,
            NO,
            "expected at most 90% of 0.5 cores, got 98% and 96% in two windows of 15 s",
        ),
        (
            (0.451, 0.45051),
            LIMITED,
            NO,
            "expected at most 90% of 0.5 cores, got 91% and 91% in two windows of 15 s",
        ),
        ((1.9, 1.9), container(), NOT_ASKED, "1.90 cores; the container has no CPU limit of its own"),
    ],
)
def test_cpu(cores: tuple[float, ...], where: Container, outcome: Outcome, reason: str) -> None:
    """Two windows in a row above the share of the CPU limit are a no, one is not."""
    verdict = judge_cpu(cores, where, 0.9)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("megabytes", "where", "outcome", "reason"),
    [
        ((), LIMITED, NOT_ASKED, "no reading yet"),
        ((50,), LIMITED, YES, "50 MB (50%) of 100 MB"),
        (
            (95, 95),
            LIMITED,
            NOT_ASKED,
            "expected at most 90% of 100 MB, got 95 MB (95%); 3 readings in a row are a no",
        ),
        (
            (95, 89, 95),
            LIMITED,
            NOT_ASKED,
            "expected at most 90% of 100 MB, got 95 MB (95%); 3 readings in a row are a no",
        ),
        ((95, 95, 89), LIMITED, YES, "89 MB (89%) of 100 MB"),
        (
            (91, 95, 99),
            LIMITED,
            NO,
            "expected at most 90% of 100 MB, got 99 MB (99%), 3 readings in a row above it",
        ),
        (
            (91, 91, 90.2),
            LIMITED,
            NO,
            "expected at most 90% of 100 MB, got 90 MB (91%), 3 readings in a row above it",
        ),
        ((91, 95, 99), container(), NOT_ASKED, "99 MB; the container has no memory limit of its own"),
    ],
)
def test_memory(megabytes: Sequence[float], where: Container, outcome: Outcome, reason: str) -> None:
    """Three readings in a row above the share of the container's own limit are a no."""
    verdict = judge_memory(tuple(int(each * 1_000_000) for each in megabytes), where, 0.9)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("first_oom", "now", "killed", "outcome", "reason"),
    [
        (False, container(), 0, YES, "nothing killed for memory"),
        (False, container(), 1, NO, "the kernel killed 1 process for the memory limit"),
        (
            False,
            container(Status="exited", ExitCode=137, OOMKilled=True),
            0,
            NO,
            "out of memory: exited, exit 137",
        ),
        (False, container(OOMKilled=True), 0, NO, "out of memory: running"),
        (True, container(OOMKilled=True), 0, YES, "nothing killed for memory"),
        (False, container(Status="exited", ExitCode=137), 0, YES, "nothing killed for memory"),
    ],
)
def test_oom(first_oom: bool, now: Container, killed: int, outcome: Outcome, reason: str) -> None:
    """A killed child process counts; a plain SIGKILL and a kill before the watch do not."""
    verdict = judge_oom(first_oom, now, killed)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def usage(readings: Sequence[Usage | Exception | None]) -> UsageSource:
    """A source that reads one of *readings* at each poll."""
    rest = list(readings)

    def read(_container_id: str, _engine: Engine) -> Usage | None:
        answer = rest.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    containers = ContainerSource(lambda: LIMITED, start=at_once)
    containers.poll(0.0)
    return UsageSource(containers, Evidence(), "green", read=read, start=at_once)


def test_windows_of_cpu_time() -> None:
    """A window is 15 s by the clock of the readings; a restart of the container begins a new window."""
    busy = [Usage(float(at), at * 0.5, 50_000_000, 40_000_000, 0) for at in range(31)]
    source = usage([*busy, Usage(31.0, 0.1, 1, 1, 0), Usage(46.0, 0.2, 1, 1, 0)])
    cpu, memory, oom, leak = resource_checks(source, SLO)
    for now in range(31):
        cpu.poll(float(now))
    assert [each.verdict().outcome for each in (cpu, memory, oom, leak)] == [NO, YES, YES, NOT_ASKED]
    cpu.poll(31.0)
    cpu.poll(32.0)
    assert cpu.verdict().outcome is YES
    assert {each.series for each in source.evidence.samples} == {"cpu cores", "memory MB"}


def test_kills_are_counted_from_the_first_reading() -> None:
    """Only kills after the first reading count."""
    source = usage([Usage(float(at), 0.0, 1, 1, kills) for at, kills in enumerate((3, 3, 4))])
    cpu, _memory, oom, _leak = resource_checks(source, SLO)
    outcomes = []
    for now in range(3):
        cpu.poll(float(now))
        outcomes.append(oom.verdict().outcome)
    assert outcomes == [YES, YES, NO]


def test_a_silent_engine_is_unknown() -> None:
    """Unknown while the engine is silent; not asked once it answers that there is no reading."""
    cpu = resource_checks(usage([EngineUnavailable("the Docker engine does not answer"), None]), SLO)[0]
    cpu.poll(0.0)
    assert cpu.verdict().outcome is UNKNOWN
    cpu.poll(1.0)
    assert (cpu.verdict().outcome, cpu.source.polls) == (NOT_ASKED, 2)


def test_an_engine_that_falls_silent_is_unknown() -> None:
    """Unknown without the engine, also with readings from files: the container may be another one by now."""
    source = usage([Usage(float(at), 0.0, 1, 1, 0) for at in range(3)])
    found = resource_checks(source, SLO)
    found[0].poll(0.0)
    source.containers.silence, source.containers.count = "the Docker engine does not answer", 7
    for now in (1.0, 2.0):
        found[0].poll(now)
        assert {(each.verdict().outcome, each.source.polls) for each in found} == {(UNKNOWN, 7)}


ID = "c" * 64
VERSION_1 = {
    "memory/docker/{}/memory.usage_in_bytes": "67580000\n",
    "memory/docker/{}/memory.stat": "cache 106496\ntotal_rss 34180000\ntotal_inactive_file 31960000\n",
    "memory/docker/{}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "cpuacct/docker/{}/cpuacct.usage": "623818578\n",
}
VERSION_2 = {
    "{}/memory.current": "67580000\n",
    "{}/memory.stat": "anon 34180000\nfile 33000000\ninactive_file 31960000\n",
    "{}/memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n",
    "{}/cpu.stat": "usage_usec 623818\nuser_usec 1\nsystem_usec 1\n",
}


def written(root: Path, files: dict[str, str], name: str) -> Path:
    """A cgroup file system with *files* in it."""
    for path, text in files.items():
        file = root / path.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "name"),
    [(VERSION_1, ID), (VERSION_2, f"docker/{ID}"), (VERSION_2, f"system.slice/docker-{ID}.scope")],
    ids=["v1", "v2", "v2-systemd"],
)
def test_cgroup_files(files: dict[str, str], name: str, tmp_path: Path) -> None:
    """Both versions give memory without reclaimable cache, anonymous memory, CPU seconds and kills."""
    found = usage_of_cgroup(ID, written(tmp_path, files, name))
    assert found is not None
    assert (found.memory, found.anonymous, found.oom_kills) == (35_620_000, 34_180_000, 2)
    assert found.cpu_s == pytest.approx(0.623818, abs=1e-5)


@pytest.mark.parametrize(("files", "total"), [(VERSION_1, "total_"), (VERSION_2, "")], ids=["v1", "v2"])
def test_files_that_are_read_again_and_again_are_no_memory(
    files: dict[str, str], total: str, tmp_path: Path
) -> None:
    """The kernel drops those too before it kills: a service that reads a database file is not at its limit."""
    name = ID if total else f"docker/{ID}"
    root = written(tmp_path, files, name)
    (stat,) = root.rglob("memory.stat")
    stat.write_text(f"{stat.read_text()}{total}active_file 1000000\n")
    found = usage_of_cgroup(ID, root)
    assert found is not None
    assert found.memory == 34_620_000
    more = {
        "usage": 64_000_000,
        "stats": {f"{total}inactive_file": 30_000_000, f"{total}active_file": 1_000_000},
    }
    seen = usage_of_stats(STATS | {"memory_stats": more})
    assert seen is not None
    assert seen.memory == 33_000_000


@pytest.mark.parametrize(
    "files", [{}, {"memory/docker/other/memory.stat": ""}, {"docker/other/memory.stat": ""}]
)
def test_no_cgroup_to_be_seen(files: dict[str, str], tmp_path: Path) -> None:
    """None if there is no cgroup of the container, as on another host or for a stopped container."""
    assert usage_of_cgroup(ID, written(tmp_path, files, ID)) is None


STATS: dict[str, Any] = {
    "read": "2026-01-01T00:00:00Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 5_000_000_000}},
    "memory_stats": {
        "usage": 64_000_000,
        "stats": {"total_inactive_file": 30_000_000, "total_rss": 32_000_000},
    },
}
NEWER = {"usage": 64_000_000, "stats": {"inactive_file": 30_000_000, "anon": 32_000_000}}
CACHELESS = {"usage": 64_000_000, "stats": {"inactive_file": 90_000_000, "anon": 32_000_000}}


@pytest.mark.parametrize(
    ("stats", "memory"),
    [
        (STATS, 34_000_000),
        (STATS | {"memory_stats": NEWER}, 34_000_000),
        (STATS | {"memory_stats": CACHELESS}, 64_000_000),
        (STATS | {"memory_stats": {}}, None),
        (STATS | {"read": "0001-01-01T00:00:00Z"}, None),
        ({"id": "x", "name": "y"}, None),
    ],
)
def test_stats(stats: dict[str, Any], memory: int | None) -> None:
    """None for the zeros that the engine answers for a stopped container."""
    found = usage_of_stats(stats)
    assert (found.memory if found else None) == memory
    if isinstance(found, Usage):
        assert (found.cpu_s, found.anonymous, found.oom_kills) == (5.0, 32_000_000, None)


Shape = Callable[[float, random.Random], float]


def flat(_minute: float, dice: random.Random) -> float:
    """200 MB with noise."""
    return 200 + dice.gauss(0, 1)


def warming(minute: float, dice: random.Random) -> float:
    """Grows by 60 MB in the first minutes, then no more."""
    return 200 + 60 * (1 - math.exp(-minute / 2)) + dice.gauss(0, 1)


def warming_slowly(minute: float, dice: random.Random) -> float:
    """The same with a time constant of three minutes: it still grows when the first third is over."""
    return 200 + 60 * (1 - math.exp(-minute / 3)) + dice.gauss(0, 1)


def leaking_and_warming(minute: float, dice: random.Random) -> float:
    """A leak and a warm-up at the same time."""
    return warming_slowly(minute, dice) + 2 * minute


def sawtooth(minute: float, dice: random.Random) -> float:
    """A garbage collector that frees memory every 40 s."""
    return 200 + 30 * ((minute * 1.5) % 1) + dice.gauss(0, 1)


def step(minute: float, dice: random.Random) -> float:
    """A cache that is filled once, in the tenth minute."""
    return 200 + (40 if minute > 10 else 0) + dice.gauss(0, 1)


def leak(minute: float, dice: random.Random) -> float:
    """Two megabytes a minute."""
    return 200 + 2 * minute + dice.gauss(0, 1)


def slow_leak(minute: float, dice: random.Random) -> float:
    """0.2 MB a minute: below the bound of the rule."""
    return 200 + 0.2 * minute + dice.gauss(0, 1)


@pytest.mark.parametrize(
    ("shape", "outcome"),
    [
        (flat, YES), (warming, YES), (warming_slowly, YES), (sawtooth, YES), (step, YES), (slow_leak, YES),
        (leak, NO), (leaking_and_warming, NO),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)  # fmt: skip
@pytest.mark.parametrize("seed", range(10))
def test_shapes(shape: Shape, outcome: Outcome, seed: int) -> None:
    """In the time that the rule needs a leak of 2 MB a minute is found, and no other shape is called one."""
    dice = random.Random(seed)  # noqa: S311 - noise of a test
    points = [(float(second), shape(second / 60, dice) * MB) for second in range(0, int(LEAK_NEEDS_S) + 1, 5)]
    verdict = judge_leak(points, 0)
    assert verdict.outcome is outcome, verdict


def test_a_leak_says_when_the_limit_is_reached() -> None:
    """The reason has the hours until the memory limit is reached."""
    points = [(float(second), (200 + second / 30) * MB) for second in range(0, 901, 5)]
    verdict = judge_leak(points, 350_000_000)
    assert verdict.reason == "memory grows by 2.0 MB a minute, 8% over 10 min: at its limit in 1.0 h"


@pytest.mark.parametrize("minutes", [0, 1, 14])
def test_too_short_a_time_says_so(minutes: int) -> None:
    """Not asked before 14.5 minutes, with the time that is needed."""
    points = [(float(second), second * MB) for second in range(0, minutes * 60 + 1, 5)]
    verdict = judge_leak(points, 0)
    assert (verdict.outcome, verdict.reason) == (
        NOT_ASKED,
        f"{minutes} min seen, 14.5 min needed to tell a leak from a warm-up",
    )


def test_a_watch_of_a_quarter_of_an_hour_can_tell() -> None:
    """A watch of 15 minutes is long enough, also with a late first reading and an early last one."""
    points = [(float(second), 200 * MB) for second in range(3, 889)]
    assert judge_leak(points, 0).outcome is YES


def test_memory_of_a_long_watch_stays_constant() -> None:
    """A day of readings keeps at most a thousand, from its whole length."""
    series = Series()
    for second in range(86_400):
        series.add(float(second), second * MB)
    assert len(series.points) <= 1000
    assert series.seconds > 86_000
    assert judge_leak(series.points, 0).outcome is NO
    assert Series().seconds < LEAK_NEEDS_S
