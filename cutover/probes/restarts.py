"""Whether it stays up: a crash loop shows itself only to who looks twice."""

from __future__ import annotations

from dataclasses import dataclass

from cutover.container import Container
from cutover.engine import EngineSilent
from cutover.probes.health import ENGINE, Asked, evidence, how_it_died, with_last_words
from cutover.probes.stamps import seconds_of, spoken
from cutover.verdict import Verdict, no, unknown, yes

AFTER_HEALTHY_S = 1.0
STEADY_S = 600.0
"""After so long a life an earlier restart is history, though the engine counts it for ever."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a container: another id or start means that something began anew."""

    id: str
    started_at: str
    restart_count: int


def life(seen: Container) -> Life:
    """The life that *seen* is in."""
    return Life(seen.id, seen.started_at, seen.restart_count)


def restarts(container_id: str, asked: Asked = ENGINE) -> Verdict:
    """Ask the engine whether the container has been restarted."""
    try:
        seen = asked.inspect(container_id)
        verdict = judge_restarts(seen, seconds_of(asked.now()))
    except EngineSilent as error:
        return unknown("restarts", str(error))
    return verdict if verdict.ok else with_last_words(verdict, container_id, asked)


def judge_restarts(seen: Container | None, now: float) -> Verdict:
    """No for a container that does not run, or that was restarted and has not stood for ten minutes since."""
    if seen is None:
        return no("restarts", "the container is gone")
    if not seen.running:
        return no("restarts", how_it_died(seen), **evidence(seen))
    age = max(0.0, now - seconds_of(seen.started_at))
    if not seen.restart_count:
        return yes("restarts", f"none, running for {spoken(age)}", **evidence(seen))
    times = f"{seen.restart_count} times, the last one {spoken(age)} ago"
    if age < STEADY_S:
        return no("restarts", f"restarted {times}", expected="none", **evidence(seen))
    return yes("restarts", f"none for {spoken(age)} (restarted {times})", **evidence(seen))


def settled(before: Container, min_healthy_s: float, asked: Asked = ENGINE) -> Verdict:
    """Look at the container until it has stood for *min_healthy_s* since its start, by the engine's clock.

    One that took longer than that to become healthy is looked at for a second more: some die of their first answer.
    """
    try:
        begun, now = asked.clock(), seconds_of(asked.now())
        while True:
            seen = asked.inspect(before.id)
            verdict = judge_settled(before, seen, min_healthy_s)
            if seen is None or not verdict.ok:
                return with_last_words(verdict, before.id, asked)
            stood = seconds_of(before.started_at) + min_healthy_s
            left = max(stood, healthy_since(seen) + min(min_healthy_s, AFTER_HEALTHY_S)) - now
            if asked.clock() - begun >= left:
                return verdict
            asked.sleep(min(begun + left - asked.clock(), 0.5))
    except EngineSilent as error:
        return unknown("settled", str(error))


def healthy_since(seen: Container) -> float:
    """When the first of its last good probes ended, as far as the engine still knows; 0.0 if none was good."""
    good = 0.0
    for entry in reversed((seen.health or {}).get("Log") or []):
        if entry.get("ExitCode"):
            break
        good = seconds_of(entry.get("End", ""))
    return good


def unchanged(before: Container, asked: Asked = ENGINE) -> Verdict:
    """Ask the engine whether the container is still in the life that *before* was seen in."""
    try:
        return judge_settled(before, asked.inspect(before.id), None).named("unchanged")
    except EngineSilent as error:
        return unknown("unchanged", str(error))


def judge_settled(before: Container, after: Container | None, min_healthy_s: float | None) -> Verdict:
    """Yes when the same container is still in the same life, and running; None: since it was first seen."""
    span = "since it was first seen" if min_healthy_s is None else f"in {min_healthy_s:g} s"
    if after is None:
        return no("settled", f"{before.name} ({before.short}) is gone")
    if not after.running:
        return no("settled", how_it_died(after), **evidence(after))
    if life(after) != life(before):
        reason = f"started anew: at {before.started_at}, then at {after.started_at}"
        return no("settled", reason, expected="no restart", **evidence(after))
    return yes("settled", f"no restart {span}", **evidence(after))
