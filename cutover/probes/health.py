"""Whether it is healthy since its start, and not before; waiting is bounded by its own HEALTHCHECK."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cutover import engine
from cutover.container import Container
from cutover.engine import EngineSilent
from cutover.probes.errors_in_logs import MESSAGE_KEYS
from cutover.probes.stamps import seconds_of, spoken
from cutover.verdict import Outcome, Verdict, no, shortened, unknown, yes

NANO = 1e9
DEFAULTS = {"Interval": 30.0, "Timeout": 30.0, "StartPeriod": 0.0}  # the engine's, where an image says 0
RETRIES = 3
LAST_LINES = 10
NO_HEALTHCHECK = "has no HEALTHCHECK, so nobody knows when it breaks"
UNTOLD = frozenset({"time", "timestamp", "@timestamp", "ts", "logger"})
SAID = {"paused": "paused: it answers nobody", "created": "created, but never started"}
ALIVE = frozenset({"created", "running"})  # created: the engine has not started it yet


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom to ask and how to wait: the engine and the clock, as arguments."""

    inspect: Callable[[str], Container | None] = engine.inspect
    logs: Callable[[str], Sequence[str]] = lambda container_id: engine.logs(container_id, tail=LAST_LINES)
    now: Callable[[], str] = engine.daemon_time
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    every_s: float = 0.1


ENGINE = Asked()


@dataclass(frozen=True, slots=True)
class Budget:
    """The longest that a container may take to become healthy, by its own numbers."""

    start_period: float
    interval: float
    timeout: float
    retries: int

    @property
    def seconds(self) -> float:
        """When the engine itself has given up: all its probes have failed, each as slowly as it may."""
        return self.start_period + self.retries * (self.interval + self.timeout)

    def __str__(self) -> str:
        """The numbers it is made of."""
        probe = f"{self.retries} × {self.interval + self.timeout:g} s"
        return f"start_period {self.start_period:g} s + {probe}" if self.start_period else probe


def budget(healthcheck: Mapping[str, Any]) -> Budget:
    """The budget of a container's `Config.Healthcheck`; 0 there means the engine's default."""
    numbers = {key: healthcheck.get(key, 0) / NANO or default for key, default in DEFAULTS.items()}
    retries = healthcheck.get("Retries") or RETRIES
    return Budget(numbers["StartPeriod"], numbers["Interval"], numbers["Timeout"], retries)


def has_healthcheck(container: Container) -> bool:
    """Whether anybody asks the container how it is; `--no-healthcheck` leaves `["NONE"]` behind."""
    test = container.healthcheck.get("Test") or []
    return bool(container.health) or bool(test and test[0] != "NONE")


def wait_healthy(container_id: str, budget_s: float | None = None, asked: Asked = ENGINE) -> Verdict:
    """Wait until it is healthy; a dead, looping or unhealthy container is told at once, with its last words.

    Bounded by *budget_s*, else by the container's own HEALTHCHECK.
    """
    begun, longest, why = asked.clock(), budget_s or float(sum(DEFAULTS.values())), ""
    seen: Container | None = None
    while True:
        verdict, waited = None, asked.clock() - begun
        try:
            seen = asked.inspect(container_id)
            if seen and not budget_s:
                why, longest = f" ({budget(seen.healthcheck)})", budget(seen.healthcheck).seconds
            verdict = judge_waiting(seen, waited, longest)
        except EngineSilent as error:
            silent = unknown("healthy", str(error))
            if waited >= longest:
                return silent
        if verdict is None and waited >= longest and seen:
            verdict = no("healthy", f"not healthy in {longest:g} s{why}{_probe_said(seen)}", **evidence(seen))
        if verdict is not None:
            return verdict if verdict.ok else with_last_words(verdict, container_id, asked)
        asked.sleep(asked.every_s)


def judge_waiting(seen: Container | None, waited: float, longest: float) -> Verdict | None:
    """The verdict that further waiting cannot change, None while it can."""
    verdict = judge_health(seen, None)
    if seen and verdict.outcome is Outcome.UNKNOWN:
        return None
    if verdict.ok and seen:
        reason = f"after {spoken(waited)} of at most {longest:g} s"
        return yes("healthy", reason, **evidence(seen))
    return verdict.named("healthy")


def health(container_id: str, budget_s: float | None = None, asked: Asked = ENGINE) -> Verdict:
    """Ask the engine how the container is; one that is still starting is asked again within its budget."""
    verdict = wait_healthy(container_id, budget_s, asked)
    if not verdict.ok:
        return verdict.named("health")
    try:
        return judge_health(asked.inspect(container_id), seconds_of(asked.now()))
    except EngineSilent as error:
        return unknown("health", str(error))


def judge_health(seen: Container | None, now: float | None) -> Verdict:
    """Yes when it runs and its last probe, one since its start, made it healthy; unknown while it starts."""
    if seen is None:
        return no("health", "the container is gone")
    found = evidence(seen)
    if seen.status not in ALIVE:
        return no("health", how_it_died(seen), **found)
    if not has_healthcheck(seen):
        return no("health", f"{seen.name} {NO_HEALTHCHECK}", **found)
    asked_at, started = last_probe(seen), seconds_of(seen.started_at)
    if seen.health_status == "unhealthy":
        return no("health", f"unhealthy{_probe_said(seen)}", **found)
    # A stopped container keeps its old entries: one from before the start says nothing about this life.
    if seen.health_status != "healthy" or asked_at < started or not seen.running:
        return unknown("health", f"{seen.health_status}, no probe has answered since its start", **found)
    age = f", last asked {spoken(max(0.0, now - asked_at))} ago" if now else ""
    up = f" for {spoken(max(0.0, now - started))}" if now else ""
    return yes("health", f"healthy, running{up}{age}", **found)


def how_it_died(seen: Container) -> str:
    """What became of a container that does not serve."""
    if seen.status == "restarting":
        return f"crash loop: restarted {seen.restart_count} times, last exit code {seen.exit_code}"
    if seen.status in SAID:
        return SAID[seen.status]
    lived = seconds_of(seen.finished_at) - seconds_of(seen.started_at)
    after = f" {spoken(lived)} after its start" if lived > 0 else ""
    why = ", killed for its memory limit" if seen.oom_killed else ""
    return f"{seen.status} ({seen.exit_code}){after}{why}{f': {seen.error}' if seen.error else ''}"


def last_probe(seen: Container) -> float:
    """When the last probe of the HEALTHCHECK ended, in seconds since 1970; 0.0 before the first."""
    entries = (seen.health or {}).get("Log") or []
    return seconds_of(entries[-1].get("End", "")) if entries else 0.0


def _probe_said(seen: Container) -> str:
    """How the last probe failed, for the reason; empty without one."""
    entries = (seen.health or {}).get("Log") or []
    failed = [each for each in entries if each.get("ExitCode")]
    if not failed:
        return ""
    said = shortened(str(failed[-1].get("Output", "")), 120) or f"exit {failed[-1]['ExitCode']}"
    return f": its HEALTHCHECK said {said!r}, {len(failed)} of the last {len(entries)} times failed"


def with_last_words(verdict: Verdict, container_id: str, asked: Asked = ENGINE) -> Verdict:
    """The same verdict with the last lines of the container's log, the last of them in the reason."""
    try:
        lines = [line.partition(" ")[2] or line for line in asked.logs(container_id)]
    except EngineSilent:
        return verdict
    said = [line for line in lines if line.strip()]
    if not said:
        return verdict
    words = f"{verdict.reason}; last log line: {shortened(told(said[-1]), 120)}"
    return replace(
        verdict, reason=words, evidence={**verdict.evidence, "log": [shortened(each) for each in said]}
    )


def told(line: str) -> str:
    """What a log line says: of a JSON object its level, its message and then what else it holds, but for the time."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    key = next((each for each in MESSAGE_KEYS if entry.get(each)), "")
    rest = [f"{name}={value}" for name, value in entry.items() if name not in {key, "level", *UNTOLD}]
    return (
        " ".join(str(part) for part in (entry.get("level"), entry.get(key), *rest) if part) if key else line
    )


def evidence(seen: Container) -> dict[str, Any]:
    """What may be shown of a container's state."""
    return {
        "container": seen.short, "name": seen.name, "status": seen.status, "health": seen.health_status,
        "failing_streak": (seen.health or {}).get("FailingStreak", 0), "started_at": seen.started_at,
        "restart_count": seen.restart_count, "exit_code": seen.exit_code, "oom_killed": seen.oom_killed,
    }  # fmt: skip
