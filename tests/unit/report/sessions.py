"""The evidence of three whole sessions: released, reverted, revert failed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from cutover.core.evidence import Evidence
from cutover.core.result import SessionResult
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxy.proof import RequestSample, summarize_switch
from cutover.report.charts import proof_sentence
from tests.unit.report.endings import RELEASED, ROLLBACK_FAILED, ROLLED_BACK

BEGAN = 1756947000.0  # 2025-09-04 00:50:00 UTC
OLD, NEW = "sha256:" + "4f1c2aa0" * 8, "sha256:" + "9b7d0011" * 8
UNDO = """#!/bin/sh
# Reverts the release 20250904T005000-4711; safe to run again.
set -eu; umask 077; PATH=/usr/bin:/bin
cd /var/lib/cutover/recall-live; [ -e blue ] || mv green blue
sh /var/lib/cutover/recall/restore-service.sh recall_green /var/lib/cutover/recall/releases/green/sha-4f1c2aa.yml 30
"""
GATE = (
    (
        "smoke/test_ready.py::test_ready",
        yes("ready", "status 200 in 4 ms", expected="200", seen="200", url="/readyz"),
    ),
    (
        "smoke/test_version.py::test_version",
        yes("version", "recall sha-9b7d001", seen='{"service": "recall"}'),
    ),
    (
        "smoke/test_health.py::test_healthy",
        yes("health", "healthy for 8.2 s, 4 probes in a row", FailingStreak=0),
    ),
    (
        "smoke/test_identity.py::test_image",
        yes("identity", "image, container and configuration are ours", Image=NEW),
    ),
    ("smoke/test_restarts.py::test_no_restart", yes("restarts", "0 since the start", RestartCount=0)),
    ("smoke/test_logs.py::test_no_error_spike", yes("log errors", "0 in 12 s, blue had 2 in 10 min")),
    ("smoke/test_latency.py::test_latency", yes("latency", "median 4.1 ms of 5 (at most 300 ms)")),
)


@dataclass(slots=True)
class Clock:
    """A clock that is advanced by hand."""

    at: float = BEGAN
    ticks: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.at


@dataclass(frozen=True, slots=True)
class Session:
    """What the files of a session hold."""

    evidence: Evidence
    result: SessionResult
    undo: str = UNDO
    journal: tuple[dict[str, object], ...] = ()


def _begin(file: Path | None = None) -> tuple[Evidence, Clock]:
    clock = Clock()
    evidence = Evidence(file, clock=clock)
    for key, value in {
        "project": "recall",
        "target": "green",
        "who": "ana@runner-7",
        "command": "pytest smoke checks --target=idle --deploy=sha-9b7d001 --switch --watch=15m",
        "release": "20250904T005000-4711",
        "time_zone": "Asia/Tokyo",
        "began": BEGAN,
        "from": {"color": "blue", "tag": "sha-4f1c2aa", "digest": OLD},
        "to": {"color": "green", "tag": "sha-9b7d001", "digest": NEW},
        "versions": {
            "pytest-cutover": "0.1.0",
            "pytest": "9.2.0",
            "Docker engine": "20.10.24",
            "Compose": "5.0.1",
        },
        "not asked": [
            ["checks/test_tls.py::test_days_left", "[proxy] url is plain http, so there is no certificate"]
        ],
    }.items():
        evidence.fact(key, value)
    return evidence, clock


def _step(evidence: Evidence, clock: Clock, step: tuple[str, str, str, float], outcome: str = "yes") -> None:
    moment, name, text, seconds = step
    clock.at += seconds
    evidence.step(moment, name, text, seconds, outcome)


def _gate(
    evidence: Evidence, clock: Clock, target: str, stage: int, odd: dict[str, Verdict] | None = None
) -> None:
    for number, (test, verdict) in enumerate(GATE):
        seconds = 0.012 * (number + 1)
        clock.at += seconds
        shown = (odd or {}).get(verdict.question, verdict)
        evidence.check(f"{test}[{target}]", target, stage, shown, seconds)


def _until_switch(evidence: Evidence, clock: Clock) -> None:
    for step in (
        ("T-15m", "preflight", "12 checks", 0.4),
        (
            "",
            "snapshot",
            "recall 1.21 GB, restored and compared: 14 tables, 2,310,442 rows; restore takes 31 s",
            48.0,
        ),
        ("", "rehearsal", "on the restored copy: new schema applied, the old release passes 14 checks", 5.1),
        ("T-10m", "migrate", "2 revisions (expand only): 8c1f→a2d9→b771", 1.2),
        ("", "deploy green", "healthy after 3.1 s of at most 31 s", 4.0),
    ):
        _step(evidence, clock, step)
    _gate(evidence, clock, "green", 0)
    _step(evidence, clock, ("", "smoke[green]", "7 passed", 0.7))
    _step(evidence, clock, ("T-0", "switch", "blue → green in 1.6 ms", 0.0016))


def _proof(evidence: Evidence, clock: Clock, failed: int = 0) -> None:
    """The proof of 400 requests a second for three seconds before and after the switch."""
    samples = [RequestSample(n / 400 - 3.004, n / 400 - 3, "blue", 200) for n in range(1200)]
    for n in range(1200):
        bad = n > 300 and n % 29 == 5 and failed
        samples.append(
            RequestSample(n / 400 + 0.001, n / 400 + 0.005, "" if bad else "green", 0 if bad else 200)
        )
    weighed = summarize_switch(samples, "green", 0.0, open_connections=120, new_connections=40)
    evidence.fact("switched_at", clock.at)
    evidence.fact("proof", weighed.as_json())
    _step(evidence, clock, ("", "proof", proof_sentence(evidence.facts["proof"]), 3.0))


def _watch(evidence: Evidence, clock: Clock, ticks: int, *, bad_from: int = 10**6) -> None:
    for tick in range(ticks):
        clock.at += 1
        wave = math.sin(tick / 23)
        for color, shift in (("blue", 0.0), ("green", 0.3)):
            worse = 4.0 if color == "green" and tick >= bad_from else 1.0
            evidence.sample("p95 latency seconds", color, worse * (0.08 + 0.01 * wave + 0.004 * shift))
            evidence.sample("memory bytes", color, 181e6 + 4e6 * shift + 2e6 * math.cos(tick / 40))
            evidence.sample("5xx share", color, 0.048 if worse > 1 else 0.0)
            evidence.sample("cpu share", color, 0.2 + 0.05 * wave * shift)
    evidence.flush()


def _journal(*rows: tuple[str, str, str]) -> tuple[dict[str, object], ...]:
    return tuple(
        {"at": f"2025-09-04T{clock}Z", "event": event, "release": "20250904T005000-4711", "text": text}
        for clock, event, text in rows
    )


def good(file: Path | None = None) -> Session:
    """A release where everything passed: green stays."""
    evidence, clock = _begin(file)
    _until_switch(evidence, clock)
    _proof(evidence, clock)
    _gate(evidence, clock, "live", 1)
    _step(evidence, clock, ("", "smoke[live]", "7 passed, the same 7 as before the switch", 0.8))
    _step(evidence, clock, ("", "drain blue", "3 requests in flight, last one done after 6.2 s", 6.2))
    _watch(evidence, clock, 900)
    evidence.check("checks/test_watch.py::test_watch[live-5xx]", "live", 2, yes("5xx", "0 of 41,204"), 0.0)
    _step(evidence, clock, ("T+15m", "watch", "5xx 0 of 41,204 · p95 84 ms (SLO 300) · memory flat", 900))
    _step(evidence, clock, ("", "retire blue", "kept warm until 18:00", 0.02))
    evidence.fact("ended", clock.at)
    evidence.fact("result", RELEASED.as_json())
    journal = _journal(
        ("00:50:58.900", "open", "sha-9b7d001 to green"),
        ("00:51:04.112", "do", "switch blue → green"),
        ("01:06:20.001", "commit", "RELEASED"),
    )
    return Session(evidence, RELEASED, UNDO, journal)


def reverted(file: Path | None = None) -> Session:
    """A release that failed under traffic: reverted, blue serves again."""
    evidence, clock = _begin(file)
    _until_switch(evidence, clock)
    _proof(evidence, clock, failed=31)
    slow = unknown(
        "latency", "the proxy's own location was silent too", expected="at most 300 ms", seen="no answer"
    )
    _gate(evidence, clock, "live", 1, {"latency": slow})
    _watch(evidence, clock, 60, bad_from=40)
    verdict = no(
        "5xx",
        "4.8 % of requests failed on green (app: the proxy got 500 from green-api, 31 times, 29 on POST /memories)",
        expected="at most 1 %",
        seen="4.8 % (31 of 642 in 12 s), blue had 0 of 8,112 before",
        log="ERROR sqlalchemy.exc.OperationalError: no such column: memories.kind\n  at recall/memories.py:41",
        paths={"POST /memories": 29, "GET /memories/7": 2},
    )
    row = evidence.check("checks/test_errors.py::test_5xx_rate[live]", "live", 2, verdict, 12.0)
    (reason,) = ROLLED_BACK.reasons
    result = replace(ROLLED_BACK, reasons=(replace(reason, checks=(row.id,)),))
    _step(evidence, clock, ("T+15m", "watch", f"5xx: {verdict.seen}", 0.1), "no")
    _step(
        evidence, clock, ("", "undo", "green → blue in 1.4 ms; blue answers with sha-4f1c2aa on all 160", 1.2)
    )
    _watch(evidence, clock, 5)
    evidence.fact("logs", {"green": "INFO starting\nERROR no such column: memories.kind\n" * 20})
    evidence.fact("ended", clock.at)
    evidence.fact("result", result.as_json())
    return Session(evidence, result, UNDO, _journal(("00:52:30.500", "reverted", "5xx 4.8 %")))


def rollback_failed(file: Path | None = None) -> Session:
    """A release whose revert failed at its second step."""
    evidence, clock = _begin(file)
    _until_switch(evidence, clock)
    _gate(evidence, clock, "live", 1, {"ready": no("ready", "expected status 200, got 503", seen="503")})
    _step(evidence, clock, ("", "smoke[live]", "1 failed, 6 passed", 0.8), "no")
    _step(evidence, clock, ("", "undo", "undo step 2 of 3: exit 1: no space left on device", 4.0), "no")
    evidence.fact("ended", clock.at)
    evidence.fact("result", ROLLBACK_FAILED.as_json())
    return Session(
        evidence,
        ROLLBACK_FAILED,
        UNDO,
        _journal(("00:51:10.500", "operator_needed", "no space left on device")),
    )
