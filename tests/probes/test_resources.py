"""CPU and memory are judged against the container's own limits, twice or thrice in a row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cutover.core.config_schema import Slo
from cutover.core.errors import EngineSilent
from cutover.core.verdict import Outcome
from cutover.evidence import Evidence
from cutover.probes.background import at_once
from cutover.probes.flaps import Watchman
from cutover.probes.resources import Gauge, judge_cpu, judge_memory, judge_oom, questions
from cutover.probes.usage import Usage
from cutover.system.container import Container
from tests.probes.containers import container

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
        ((1.9, 1.9), container(), NOT_ASKED, "1.90 cores; the container has no CPU limit of its own"),
    ],
)
def test_cpu(cores: tuple[float, ...], where: Container, outcome: Outcome, reason: str) -> None:
    """A busy start is not a busy service: two windows in a row are needed."""
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
        ((91, 95, 99), container(), NOT_ASKED, "99 MB; the container has no memory limit of its own"),
    ],
)
def test_memory(megabytes: Sequence[int], where: Container, outcome: Outcome, reason: str) -> None:
    """Three readings in a row above the share of the own limit are a no."""
    verdict = judge_memory(tuple(each * 1_000_000 for each in megabytes), where, 0.9)
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
        (False, container(OOMKilled=True), 0, NO, "out of memory: running, exit 0"),
        (True, container(OOMKilled=True), 0, YES, "nothing killed for memory"),
        (False, container(Status="exited", ExitCode=137), 0, YES, "nothing killed for memory"),
    ],
)
def test_oom(first_oom: bool, now: Container, killed: int, outcome: Outcome, reason: str) -> None:
    """A killed child counts too, a plain SIGKILL does not, and an engine may remember an old one for ever."""
    verdict = judge_oom(first_oom, now, killed)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def gauge(readings: Sequence[Usage | Exception | None]) -> Gauge:
    """A gauge that gets *readings*, one a tick."""
    rest = list(readings)

    def read(_container_id: str) -> Usage | None:
        answer = rest.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watchman = Watchman(lambda: LIMITED, at_once)
    watchman.look(0.0)
    return Gauge(watchman, Evidence(), "green", read, at_once)


def test_windows_of_cpu_time() -> None:
    """A window is 15 s of CPU time by the clock of the readings; a new life begins a new window."""
    busy = [Usage(float(at), at * 0.5, 50_000_000, 40_000_000, 0) for at in range(31)]
    asked = gauge([*busy, Usage(31.0, 0.1, 1, 1, 0), Usage(46.0, 0.2, 1, 1, 0)])
    cpu, memory, oom, leak = questions(asked, SLO)
    for _ in range(31):
        cpu.tick(0.0)
    assert [each.verdict().outcome for each in (cpu, memory, oom, leak)] == [NO, YES, YES, NOT_ASKED]
    cpu.tick(0.0)
    cpu.tick(0.0)
    assert cpu.verdict().outcome is YES
    assert {each.series for each in asked.evidence.samples} == {"cpu cores", "memory MB"}


def test_kills_are_counted_from_the_first_reading() -> None:
    """What the kernel killed before the watch is not this watch's."""
    asked = gauge([Usage(float(at), 0.0, 1, 1, kills) for at, kills in enumerate((3, 3, 4))])
    cpu, _memory, oom, _leak = questions(asked, SLO)
    outcomes = []
    for _ in range(3):
        cpu.tick(0.0)
        outcomes.append(oom.verdict().outcome)
    assert outcomes == [YES, YES, NO]


def test_a_silent_engine_is_unknown() -> None:
    """No reading and no reason to believe that there is none to be had."""
    asked = gauge([EngineSilent("the Docker engine does not answer"), None])
    cpu = questions(asked, SLO)[0]
    cpu.tick(0.0)
    assert cpu.verdict().outcome is UNKNOWN
    cpu.tick(0.0)
    assert (cpu.verdict().outcome, cpu.asked) == (NOT_ASKED, 2)


def test_an_engine_that_falls_mute_is_unknown() -> None:
    """Readings from files go on without the engine, but nobody knows whether that container still serves."""
    asked = gauge([Usage(float(at), 0.0, 1, 1, 0) for at in range(3)])
    found = questions(asked, SLO)
    found[0].tick(0.0)
    asked.watchman.silent, asked.watchman.asked = "the Docker engine does not answer", 7
    for _ in range(2):
        found[0].tick(0.0)
        assert {(each.verdict().outcome, each.asked) for each in found} == {(UNKNOWN, 7)}
