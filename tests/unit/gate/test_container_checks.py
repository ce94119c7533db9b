"""Health, restarts and identity of a container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.text import approx_duration, seconds_of
from cutover.core.verdict import Outcome, no, yes
from cutover.gate import container_checks as probes
from cutover.gate.container_checks import (
    ExpectedIdentity,
    describe_trouble,
    health_budget,
    judge_from_outside,
    judge_health,
    judge_identity,
    judge_restarts,
    judge_stays_up,
    stays_up,
    unchanged,
    wait_healthy,
    wait_ready,
)
from cutover.system.container import Container
from tests.helpers.inspected import CHECK, ID, IMAGE, OTHER, STARTED, Engine, at, container, health, probe

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
VERSION = {"Test": ["CMD", "/app", "--version"]}
S = 10**9
STARTING = container(health=health("starting"))
HEALTHY = container(health=health("healthy", probe(1.1)))
CRASHED = container("exited", health("unhealthy"), exit_code=3, finished=at(0.4))
LOOPING = container("restarting", health("unhealthy"), restarts=4, exit_code=1)


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        (HEALTHY, YES, "healthy, running for 60 s, last asked 59 s ago"),
        (None, NO, "the container is gone"),
        (container(check={"Test": ["NONE"], "Interval": 10**9}), NOT_ASKED, "it has no HEALTHCHECK"),
        (container(check={}), NOT_ASKED, "it has no HEALTHCHECK"),
        (container(health=health("healthy", probe(1)), check=VERSION), NOT_ASKED, "'/app --version' proves nothing"),
        (STARTING, UNKNOWN, "starting, no probe has answered since its start"),
        # An engine before its first look: the check is configured, `State.Health` is not there yet.
        (container(health=None), UNKNOWN, "no probe has answered"),
        # Started again: the log still holds entries from before.
        (container(health=health("healthy", probe(-5))), UNKNOWN, "no probe has answered since its start"),
        (container(health=health("unhealthy", probe(3, 1, "503 db: refused"), streak=3)), NO,
         "unhealthy: its HEALTHCHECK said '503 db: refused', 1 of the last 1 times failed"),
        (container(health=health("unhealthy", probe(3, -1, "Health check exceeded timeout (1s)"))), NO,
         "exceeded timeout (1s)"),
        # A pause forces "unhealthy" without a failed probe.
        (container("paused", health("unhealthy", probe(1))), NO, "paused: it answers nobody"),
        (LOOPING, NO, "crash loop: restarted 4 times, last exit code 1"),
        (CRASHED, NO, "exited (3) 0.4 s after its start"),
        (container("exited", health("unhealthy"), exit_code=137, oom=True, finished=at(9)), NO,
         "exited (137, SIGKILL) 9.0 s after its start, killed for its memory limit"),
        (container("exited", exit_code=128, error="port is already allocated"), NO,
         "exited (128): port is already allocated"),
        (container("created", health=health("starting")), UNKNOWN, "starting"),
    ],
)  # fmt: skip
def test_health(seen: Container | None, outcome: Outcome, reason: str) -> None:
    """A container is healthy if it runs and a probe since its start succeeded."""
    verdict = judge_health(seen, 1756948260.5)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("check", "seconds", "words"),
    [
        ({"Interval": 5 * S, "Timeout": 2 * S, "StartPeriod": 10 * S}, 31, "start_period 10 s + 3 × 7 s"),
        ({"Interval": S, "Timeout": 2 * S, "Retries": 5}, 15, "5 × 3 s"),
        ({}, 180, "3 × 60 s"),
        ({"Interval": 0, "Retries": 0}, 180, "3 × 60 s"),
    ],
)  # fmt: skip
def test_budget_is_the_healthchecks_own(check: dict[str, Any], seconds: float, words: str) -> None:
    """The budget follows from the HEALTHCHECK, with the defaults of the engine."""
    assert (health_budget(check).seconds, str(health_budget(check))) == (seconds, words)


def test_waits_until_healthy() -> None:
    """A starting container is inspected until it is healthy."""
    engine = Engine(container("created", health("starting")), STARTING, STARTING, HEALTHY)
    verdict = wait_healthy(ID, None, engine.asked())
    assert (verdict.outcome, verdict.reason, len(engine.naps)) == (YES, "after 0.3 s, of at most 9 s", 3)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (CRASHED, "exited (3) 0.4 s after its start; last log line: KeyError: 'DATABASE_URL'"),
        (LOOPING, "crash loop: restarted 4 times, last exit code 1; last log line: KeyError: 'DATABASE_URL'"),
        (container(health=health("unhealthy", streak=3)), "unhealthy; last log line"),
        (container("paused", health("unhealthy")), "paused"),
        (None, "the container is gone"),
    ],
    ids=["dead", "crash loop", "unhealthy", "paused", "gone"],
)
def test_fails_at_once(seen: Container | None, reason: str) -> None:
    """A container that cannot become healthy fails at once, with its last log lines."""
    lines = ["2025-09-04T01:10:00.7Z Traceback", "2025-09-04T01:10:00.8Z KeyError: 'DATABASE_URL'"]
    engine = Engine(STARTING, seen, log=lines)
    verdict = wait_healthy(ID, None, engine.asked())
    assert (verdict.outcome, reason in verdict.reason, len(engine.naps)) == (NO, True, 1), verdict
    assert verdict.evidence["log"] == ["Traceback", "KeyError: 'DATABASE_URL'"]


@pytest.mark.parametrize(("own", "longest"), [(None, 9), (2.0, 2)], ids=["its healthcheck's", "given"])
def test_waiting_is_bounded(own: float | None, longest: float) -> None:
    """The wait ends with the budget, and the reason names the last failed probe."""
    engine = Engine(container(health=health("starting", probe(2, 22, "503"))))
    verdict = wait_healthy(ID, own, engine.asked())
    assert (verdict.outcome, f"not healthy in {longest} s" in verdict.reason) == (NO, True)
    assert "its HEALTHCHECK said '503'" in verdict.reason
    assert longest <= engine.now < longest + 1


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({}, "it has no HEALTHCHECK"),
        ({"Test": ["NONE"]}, "it has no HEALTHCHECK"),
        (VERSION, "its HEALTHCHECK '/app --version' proves nothing"),
    ],
)
def test_readiness_takes_the_place_of_a_healthcheck(check: dict[str, Any], why: str) -> None:
    """Without one that asks something, readiness is asked until it is a yes, and the reason says which and why."""
    answers = [
        no("ready", "refused"),
        no("ready", "expected status 2xx, got 503"),
        yes("ready", "says so in 1 ms"),
    ]
    engine = Engine(container(check=check))
    verdict = probes.health(ID, None, engine.asked(), ask=lambda: answers.pop(0), what="GET /ok")
    assert (verdict.question, verdict.outcome, len(engine.naps)) == ("health", YES, 2)
    assert verdict.reason == f"after 0.4 s, by GET /ok: {why}"


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (container("exited", check={}, exit_code=3, finished=at(0.4)), "exited (3) 0.4 s after its start"),
        (container(check={}), "not ready 60 s after its start, by GET /ok: expected status 2xx, got 503"),
        (None, "the container is gone"),
    ],
)
def test_a_release_that_never_gets_ready(seen: Container | None, reason: str) -> None:
    """A container that ended is told at once, one that only waits after 60 s, each with its last log line."""
    engine = Engine(container(check={}), seen, log=["2025-09-04T01:10:00.7Z KeyError: 'X'"])
    answer = no("ready", "expected status 2xx, got 503")
    verdict = wait_ready(ID, lambda: answer, "GET /ok", None, engine.asked())
    assert (verdict.outcome, verdict.reason.startswith(reason)) == (NO, True), verdict
    assert seen is None or verdict.reason.endswith("last log line: KeyError: 'X'")


@pytest.mark.parametrize(
    ("asks", "outside", "hint"),
    [
        (
            "curl -f localhost:80/ok",
            True,
            "; it answers GET /ok from outside: use 127.0.0.1 in place of localhost",
        ),
        ("curl -f http://127.0.0.1/ok", True, "; it answers GET /ok from outside"),
        ("curl -f localhost:80/ok", False, ""),
    ],
)
def test_a_healthcheck_that_asks_the_wrong_address(asks: str, outside: bool, hint: str) -> None:
    """localhost may be ::1: what answers from outside is told with the address to use."""
    seen = container(
        health=health("unhealthy", probe(3, 7, "curl: (7)")), check={"Test": ["CMD-SHELL", asks]}
    )
    said, answer = judge_health(seen, None), yes("ready", "ok") if outside else no("ready", "refused")
    verdict = judge_from_outside(said, seen, answer, "GET /ok")
    assert (verdict.outcome, verdict.reason) == (NO, f"{said.reason}{hint}")


def test_an_engine_that_is_silent_for_a_moment_is_asked_again() -> None:
    """A single error of the engine does not end the wait."""
    engine = Engine(EngineUnavailable("busy"), STARTING, EngineUnavailable("busy"), HEALTHY)
    assert wait_healthy(ID, None, engine.asked()).outcome is YES


def test_a_mute_engine_is_unknown() -> None:
    """An engine that does not answer within the budget gives unknown."""
    engine = Engine(EngineUnavailable("the Docker engine does not answer"))
    verdict = wait_healthy(ID, 3.0, engine.asked())
    assert (verdict.outcome, verdict.reason) == (UNKNOWN, "the Docker engine does not answer")


def test_the_gate_waits_for_one_that_starts() -> None:
    """The check of the gate waits too, and its reason has the age."""
    verdict = probes.health(ID, None, Engine(STARTING, HEALTHY).asked(now=lambda: at(61)))
    assert (verdict.outcome, verdict.reason) == (YES, "healthy, running for 61 s, last asked 60 s ago")


def test_numbers_come_from_the_container() -> None:
    """Missing numbers of a HEALTHCHECK are the defaults of the engine."""
    assert health_budget(CHECK).seconds == 9


RUNNING = container()


@pytest.mark.parametrize(
    ("seen", "age", "outcome", "reason"),
    [
        (RUNNING, 12, YES, "none, running for 12 s"),
        (RUNNING, 8040, YES, "none, running for 2 h 14 min"),
        (None, 12, NO, "the container is gone"),
        # A loop with lives of 11 s resets the back-off each time and looks healthy in between.
        (container(restarts=3), 9, NO, "restarted 3 times, the last one 9.0 s ago"),
        (container(restarts=1), 86400 * 21, YES, "none for 21 d 0 h (restarted 1 times, the"),
        (container("restarting", restarts=7, exit_code=1), 1, NO, "crash loop: restarted 7 times"),
        (container("exited", exit_code=1), 1, NO, "exited (1)"),
        (container("created"), 1, NO, "created, but never started"),
    ],
)  # fmt: skip
def test_restarts(seen: Container | None, age: float, outcome: Outcome, reason: str) -> None:
    """A restart is a no until the container is up for ten minutes."""
    verdict = judge_restarts(seen, seconds_of(STARTED) + age)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("after", "outcome", "reason"),
    [
        (RUNNING, YES, "no restart in 5 s"),
        (None, NO, "is gone"),
        (container(restarts=1), NO, "started anew"),
        (container(started=at(3)), NO, f"started anew: at {STARTED}, then at {at(3)}"),
        (container(id_="e" * 64), NO, "started anew"),
        (container("restarting", restarts=2), NO, "crash loop"),
        (container("exited"), NO, "exited (0)"),
    ],
)
def test_a_restart_is_another_life(after: Container | None, outcome: Outcome, reason: str) -> None:
    """Another id, start time or restart count is a restart."""
    verdict = judge_stays_up(RUNNING, after, 5)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_settled_waits_from_the_start() -> None:
    """The time since the start counts: only the rest is waited for."""
    engine = Engine(RUNNING)
    engine.now = 2.0
    assert stays_up(RUNNING, 5.0, engine.asked()).outcome is YES
    assert sum(engine.naps) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("probes", "waited"),
    [
        ((probe(9.5),), 0.5),
        ((probe(8.9, 1), probe(9.9)), 0.9),
        ((probe(8.0), probe(9.0)), 0.0),
        ((probe(9.9, 1),), 0.0),
    ],
)
def test_a_slow_start_is_looked_at_a_second_longer(probes: Sequence[dict[str, Any]], waited: float) -> None:
    """A container that became healthy after `min_uptime` is observed for one second more."""
    engine = Engine(container(health=health("healthy", *probes)))
    engine.now = 10.0
    assert stays_up(RUNNING, 5.0, engine.asked()).outcome is YES
    assert sum(engine.naps) == pytest.approx(waited, abs=1e-3)


def test_a_health_check_of_a_tenth_of_a_second_has_an_end() -> None:
    """The engine keeps five probes, so that the first good one it knows of is later in each round."""
    engine = Engine(RUNNING)
    engine.now = 4.9

    def inspect(_id: str) -> Container:
        return container(health=health("healthy", *(probe(engine.now - 0.18 * back) for back in range(5))))

    assert stays_up(RUNNING, 5.0, replace(engine.asked(), inspect=inspect)).outcome is YES
    assert sum(engine.naps) < 1.1


def test_the_same_life_is_asked_for_again() -> None:
    """A restart during the gate is found at its end."""
    assert unchanged(RUNNING, Engine(RUNNING).asked()).reason == "no restart since it was first seen"
    assert unchanged(RUNNING, Engine(container(restarts=1)).asked()).outcome is NO
    assert unchanged(RUNNING, Engine(EngineUnavailable("mute")).asked()).outcome is UNKNOWN


def test_settled_does_not_wait_for_an_old_container() -> None:
    """A container that is up for long enough is inspected once."""
    engine = Engine(RUNNING)
    engine.now = 600.0
    assert (stays_up(RUNNING, 5.0, engine.asked()).outcome, engine.naps) == (YES, [])


def test_settled_fails_at_once() -> None:
    """A container that exits fails at once, with its last log line."""
    engine = Engine(RUNNING, container("exited", exit_code=9), log=["2025-09-04T01:10:01Z out of disk"])
    verdict = stays_up(RUNNING, 5.0, engine.asked())
    assert (verdict.outcome, "last log line: out of disk" in verdict.reason) == (NO, True)
    assert sum(engine.naps) == 0.5


def test_stays_up_is_unknown_without_the_engine() -> None:
    """Without an answer of the engine the verdict is unknown."""
    assert stays_up(RUNNING, 5.0, Engine(EngineUnavailable("mute")).asked()).outcome is UNKNOWN


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2025-09-04T01:10:00Z", 1756948200.0),
        ("2025-09-04T01:10:00.25Z", 1756948200.25),
        ("2025-09-04T03:10:00.123456789+02:00", 1756948200.123456789),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("Traceback (most recent call last):", 0.0),
    ],
)
def test_stamps(stamp: str, seconds: float) -> None:
    """Time stamps have fractions and offsets; the zero time is 0."""
    assert seconds_of(stamp) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.4 s"),
        (31, "31 s"),
        (119, "119 s"),
        (600, "10 min"),
        (8040, "2 h 14 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_spoken(seconds: float, words: str) -> None:
    """A duration is written in fitting units."""
    assert approx_duration(seconds) == words


EXPECTED = ExpectedIdentity(image=IMAGE, container=ID, config_hash="d" * 64, port=8001)


def port(number: int, host: str = "127.0.0.1") -> dict[str, Any]:
    """`NetworkSettings.Ports` of a container that publishes *number*."""
    return {"8000/tcp": [{"HostIp": host, "HostPort": str(number)}]}


RIGHT = container(ports=port(8001))
STRANGER = container(id_="e" * 64, name="stranger", ports=port(8001))
ELSEWHERE = container(id_="e" * 64, name="stranger", ports=port(8001, "10.0.0.7"))


@pytest.mark.parametrize(
    ("seen", "owners", "expected", "outcome", "reason"),
    [
        (RIGHT, [RIGHT], EXPECTED, YES, "recall_green-api-1 (cccccccccccc), which alone has port 8001"),
        (RIGHT, [RIGHT], ExpectedIdentity(), YES, "recall:sha-2 in"),
        (None, [], EXPECTED, NO, "container cccccccccccc is gone"),
        (RIGHT, [RIGHT], ExpectedIdentity(image=OTHER), NO, "recall:sha-2 aaaaaaaaaaaa, expected bbbbbbbbbbbb"),
        (RIGHT, [RIGHT], ExpectedIdentity(container="e" * 64), NO, "as container cccccccccccc, expected eeee"),
        (RIGHT, [RIGHT], ExpectedIdentity(config_hash="f" * 64), NO, "configuration dddddddddddd, expected ffff"),
        (container(), [STRANGER], EXPECTED, NO, "port 8001 belongs to another container: stranger (recall:sha-2)"),
        (RIGHT, [RIGHT, STRANGER], EXPECTED, NO, "belongs to another container: stranger"),
        (RIGHT, [RIGHT, ELSEWHERE], EXPECTED, YES, "which alone has port 8001"),
        (container(ports=port(8001, "0.0.0.0")), [ELSEWHERE], EXPECTED, NO, "another container"),
        (container(), [], EXPECTED, NO, "recall_green-api-1 (running) does not publish port 8001"),
        (container(ports=port(8002)), [], EXPECTED, NO, "does not publish port 8001"),
        (container(ports={"8000/tcp": None}), [], EXPECTED, NO, "does not publish port 8001"),
    ],
)  # fmt: skip
def test_identity(
    seen: Container | None,
    owners: Sequence[Container],
    expected: ExpectedIdentity,
    outcome: Outcome,
    reason: str,
) -> None:
    """Image, container, configuration and port must be as expected; another container is named."""
    verdict = judge_identity(seen, owners, expected)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_every_difference_is_told() -> None:
    """All differences are in the reason."""
    verdict = judge_identity(RIGHT, [RIGHT], ExpectedIdentity(image=OTHER, config_hash="f" * 64))
    assert verdict.reason.count("expected") == 2


OOM = container("exited", exit_code=137, finished=at(3.0), oom=True)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (HEALTHY, ""),
        (STARTING, ""),
        (None, "its container is gone"),
        (CRASHED, "its container exited (3) 0.4 s after its start"),
        (OOM, "its container exited (137, SIGKILL) 3.0 s after its start, killed for its memory limit"),
        (LOOPING, "its container is in a crash loop: restarted 4 times, last exit code 1"),
        (
            container("restarting", restarts=2, exit_code=139),
            "its container is in a crash loop: restarted 2 times, last exit code 139, SIGSEGV",
        ),
        (container(restarts=1), "its container ended by itself and was started again once"),
        (
            container(restarts=3, oom=True),
            "its container ended by itself and was started again 3 times, killed for its memory limit",
        ),
        (container(oom=True), "a process of its container was killed for its memory limit"),
    ],
)
def test_why_it_does_not_answer(found: Container | None, said: str) -> None:
    """Exit code with its signal, restarts and the memory limit; nothing where it just runs."""
    assert describe_trouble(found) == said
