"""Checks of a container by the engine: identity, health, restarts, and why it did not start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any

from cutover.core.errors import EngineUnavailable
from cutover.core.text import approx_duration, log_line_message, seconds_of
from cutover.core.verdict import Outcome, Verdict, no, not_asked, shortened, unknown, yes
from cutover.system import docker
from cutover.system.container import HEALTHCHECK_RETRIES, LOCALHOST, Container

NANO = 1e9
AT_ONCE_S = 0.1
HEALTHCHECK_DEFAULTS = {"Interval": 30.0, "Timeout": 30.0, "StartPeriod": 0.0}  # seconds, of the engine
SIGNALED = 128  # plus the number of the signal
TOLD_TO_END = frozenset({0, SIGNALED + Signals.SIGTERM, SIGNALED + Signals.SIGKILL})
LOG_TAIL_LINES = 10
# A slow starter is observed for so long after it became healthy: some crash at the first request.
STANDING_S = 1.0
STEADY_S = 600.0  # earlier restarts of a container that is up for longer do not count
READY_BUDGET_S = 60.0  # how long a container without a HEALTHCHECK may start
READY_PAUSE_S = 0.2
STATUS_TEXT = {"paused": "paused: it answers nobody", "created": "created, but never started"}
ALIVE = frozenset({"created", "running"})  # created: the engine is about to start it
ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  addresses that are read, not bound


@dataclass(frozen=True, slots=True)
class EngineAccess:
    """The engine and the clock as arguments, so that tests can replace them."""

    inspect: Callable[[str], Container | None] = docker.inspect
    logs: Callable[[str], Sequence[str]] = lambda container_id: docker.logs(container_id, tail=LOG_TAIL_LINES)
    now: Callable[[], str] = docker.daemon_time
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    every_s: float = 0.1


ENGINE_ACCESS = EngineAccess()


def access_to(found: Container) -> EngineAccess:
    """The engine that runs *found*, with its own clock."""
    at = found.engine
    return EngineAccess(
        inspect=lambda container_id: docker.inspect(container_id, at),
        logs=lambda container_id: docker.logs(container_id, tail=LOG_TAIL_LINES, engine=at),
        now=lambda: docker.daemon_time(at),
    )


# --- identity
@dataclass(frozen=True, slots=True)
class ExpectedIdentity:
    """What must run. An empty field is not compared."""

    image: str = ""
    """The image ID: after a tag has moved, the config hash alone is still the same."""
    container: str = ""
    config_hash: str = ""
    port: int = 0
    """The host port of the target."""


def identity(container_id: str, expected: ExpectedIdentity) -> Verdict:
    """Check that the container is the expected one and the only one on its port."""
    try:
        found = docker.inspect(container_id)
        owners = docker.published_by(expected.port) if expected.port else []
    except EngineUnavailable as error:
        return unknown("identity", str(error))
    return judge_identity(found, owners, expected)


def judge_identity(
    found: Container | None, owners: Sequence[Container], expected: ExpectedIdentity
) -> Verdict:
    """Yes if image, container, configuration and the owner of the port are as expected."""
    if found is None:
        wanted = expected.container[:12]
        return no("identity", f"container {wanted} is gone", expected=wanted)
    problems = [
        f"runs {what} {short_id(is_)}, expected {short_id(should)}"
        for what, is_, should in (
            (f"image {found.image_name}", found.image, expected.image),
            ("as container", found.id, expected.container),
            ("configuration", found.config_hash, expected.config_hash),
        )
        if should and is_ != should
    ]
    problems += _port_problem(found, owners, expected.port) if expected.port else []
    evidence: dict[str, Any] = {
        "container": found.short, "name": found.name, "image": short_id(found.image), "image_name": found.image_name,
        "config_hash": short_id(found.config_hash), "ports": _flat_ports(found.ports),
    }  # fmt: skip
    if problems:
        return no("identity", "; ".join(problems), **evidence)
    port = f", which alone has port {expected.port}" if expected.port else ""
    return yes("identity", f"{found.image_name} in {found.name} ({found.short}){port}", **evidence)


def _port_problem(found: Container, owners: Sequence[Container], port: int) -> list[str]:
    """Why *found* is not the one that answers on *port*; empty if it is."""
    mine = _addresses(found, port)
    for each in owners:
        theirs = _addresses(each, port)
        overlap = not mine or theirs & mine or (theirs | mine) & ANY_ADDRESS
        if each.id != found.id and overlap:
            return [f"port {port} belongs to another container: {each.name} ({each.image_name})"]
    return [] if mine else [f"{found.name} ({found.status}) does not publish port {port}"]


def _addresses(container: Container, port: int) -> set[str]:
    bindings = [each for group in container.ports.values() for each in group or ()]
    return {each.get("HostIp", "") for each in bindings if str(each.get("HostPort")) == str(port)}


def _flat_ports(ports: Mapping[str, Any]) -> dict[str, str]:
    return {
        inner: ", ".join(f"{each.get('HostIp', '')}:{each.get('HostPort', '')}" for each in group or ())
        or "-"
        for inner, group in ports.items()
    }


def short_id(name: str) -> str:
    """Return the first twelve characters of an ID or hash, without its algorithm."""
    return name.removeprefix("sha256:")[:12] or "(none)"


# --- health
@dataclass(frozen=True, slots=True)
class HealthBudget:
    """The HEALTHCHECK of a container in seconds, and the longest time in which it decides."""

    start_period: float
    interval: float
    timeout: float
    retries: int

    @property
    def seconds(self) -> float:
        """Seconds after which the engine itself reports `unhealthy`: every probe failed after its full timeout."""
        return self.start_period + self.retries * (self.interval + self.timeout)

    def __str__(self) -> str:
        probe = f"{self.retries} × {self.interval + self.timeout:g} s"
        return f"start_period {self.start_period:g} s + {probe}" if self.start_period else probe


def health_budget(healthcheck: Mapping[str, Any]) -> HealthBudget:
    """Return the budget of a `Config.Healthcheck`, with the defaults of the engine for missing or zero values."""
    defaults = HEALTHCHECK_DEFAULTS.items()
    numbers = {key: healthcheck.get(key, 0) / NANO or default for key, default in defaults}
    retries = healthcheck.get("Retries") or HEALTHCHECK_RETRIES
    return HealthBudget(numbers["StartPeriod"], numbers["Interval"], numbers["Timeout"], retries)


def why_not_by_health(container: Container) -> str:
    """Why its HEALTHCHECK does not tell when the container is ready; empty if it does."""
    if container.asks_health:
        return ""
    said = container.health_command
    return f"its HEALTHCHECK {said!r} proves nothing" if said else "it has no HEALTHCHECK"


def wait_healthy(
    container_id: str, budget_s: float | None = None, engine: EngineAccess = ENGINE_ACCESS
) -> Verdict:
    """Wait until the container is healthy, for *budget_s* seconds or as long as its own HEALTHCHECK takes.

    Returns at once for a container that is dead, unhealthy or in a crash loop, with the last lines of its log.
    """
    begun, longest, why = engine.clock(), budget_s or float(sum(HEALTHCHECK_DEFAULTS.values())), ""
    found: Container | None = None
    while True:
        verdict, waited = None, engine.clock() - begun
        try:
            found = engine.inspect(container_id)
            if found and not budget_s:
                own = health_budget(found.healthcheck)
                why, longest = f" ({own})", own.seconds
            verdict = judge_waiting(found, waited, longest)
        except EngineUnavailable as error:  # tolerated until the budget is spent
            if waited >= longest:
                return unknown("healthy", str(error))
        if verdict is None and waited >= longest and found:
            reason = f"not healthy in {longest:g} s{why}{_failed_probe(found)}"
            verdict = no("healthy", reason, **container_evidence(found))
        if verdict is not None:
            return verdict if verdict.ok else with_log_tail(verdict, container_id, engine)
        engine.sleep(engine.every_s)


def judge_waiting(found: Container | None, waited: float, longest: float) -> Verdict | None:
    """Return the verdict if more waiting cannot change it, else None."""
    verdict = judge_health(found, None)
    if found and verdict.outcome is Outcome.UNKNOWN:
        return None
    if found and verdict.ok:
        # `up --wait` has waited before: a time of nothing would contradict the time of the deploy.
        took = f"after {approx_duration(waited)}" if waited >= AT_ONCE_S else "at the first look"
        return yes("healthy", f"{took}, of at most {longest:g} s", **container_evidence(found))
    return verdict.named("healthy")


def wait_ready(
    container_id: str,
    ask: Callable[[], Verdict],
    what: str,
    budget_s: float | None = None,
    engine: EngineAccess = ENGINE_ACCESS,
) -> Verdict:
    """Wait until *ask* says yes, at most *budget_s* seconds (default: 60) after the start of the container.

    This takes the place of a HEALTHCHECK; *what* names the question, like `GET /readyz`. Returns at once for a
    container that does not run, with the last lines of its log.
    """
    begun, longest = engine.clock(), budget_s or READY_BUDGET_S
    end = begun + longest
    while True:
        found, verdict = None, ask()
        try:
            found = engine.inspect(container_id)
            if found is not None and end == begun + longest:
                end -= max(0.0, seconds_of(engine.now()) - seconds_of(found.started_at))
            if found is None or found.status not in ALIVE:
                return with_log_tail(judge_health(found, None).named("ready"), container_id, engine)
        except EngineUnavailable as error:
            if engine.clock() >= end:
                return unknown("ready", str(error))
        waited = engine.clock() - begun
        if verdict.ok and found is not None:
            reason = f"after {approx_duration(waited)}, by {what}: {why_not_by_health(found)}"
            return replace(verdict, reason=reason)
        if engine.clock() >= end and found is not None:
            reason = f"not ready {longest:g} s after its start, by {what}: {verdict.reason}"
            return with_log_tail(replace(verdict, reason=reason), container_id, engine)
        engine.sleep(READY_PAUSE_S)


def health(
    container_id: str,
    budget_s: float | None = None,
    engine: EngineAccess = ENGINE_ACCESS,
    *,
    ask: Callable[[], Verdict] | None = None,
    what: str = "",
) -> Verdict:
    """Check that the container is healthy; a starting one is waited for within its budget.

    Without a HEALTHCHECK that asks something, *ask* takes its place (see `wait_ready`).
    """
    verdict = wait_healthy(container_id, budget_s, engine)
    if verdict.outcome is Outcome.NOT_ASKED and ask is not None:
        return wait_ready(container_id, ask, what, budget_s, engine).named("health")
    if not verdict.ok:
        return verdict.named("health")
    try:
        return judge_health(engine.inspect(container_id), seconds_of(engine.now()))
    except EngineUnavailable as error:
        return unknown("health", str(error))


def judge_health(found: Container | None, now: float | None) -> Verdict:
    """Yes if it runs and the last probe, made since its start, succeeded; unknown while it is starting.

    Not asked without a HEALTHCHECK that asks something.
    """
    if found is None:
        return no("health", "the container is gone")
    evidence = container_evidence(found)
    if found.status not in ALIVE:
        return no("health", describe_exit(found), **evidence)
    if found.health_status == "unhealthy":
        return no("health", f"unhealthy{_failed_probe(found)}", **evidence)
    if why := why_not_by_health(found):
        return not_asked("health", why)
    probes, started = _probes(found), seconds_of(found.started_at)
    probed = seconds_of(probes[-1].get("End", "")) if probes else 0.0
    # A restarted container keeps the probes from before its start.
    if found.health_status != "healthy" or probed < started or not found.running:
        return unknown("health", f"{found.health_status}, no probe has answered since its start", **evidence)
    age = f", last asked {approx_duration(max(0.0, now - probed))} ago" if now else ""
    up = f" for {approx_duration(max(0.0, now - started))}" if now else ""
    return yes("health", f"healthy, running{up}{age}", **evidence)


def judge_from_outside(verdict: Verdict, found: Container, outside: Verdict, what: str) -> Verdict:
    """*verdict*, a no by the HEALTHCHECK of *found*, with what it overlooks if the service is ready from *outside*.

    *what* names the question, like `GET /readyz`.
    """
    if not (outside.ok and found.running):
        return verdict
    # localhost may be ::1, where a service that listens on IPv4 does not answer.
    hint = ": use 127.0.0.1 in place of localhost" if LOCALHOST.search(found.health_command) else ""
    return replace(verdict, reason=f"{verdict.reason}; it answers {what} from outside{hint}")


def describe_exit(found: Container) -> str:
    """Return how a container that does not run ended: status, exit code, lifetime, memory limit."""
    if found.status == "restarting":
        why = ", killed for its memory limit" if found.oom_killed else ""
        code = _code(found.exit_code)
        return f"crash loop: restarted {found.restart_count} times, last exit code {code}{why}"
    if found.status in STATUS_TEXT:
        return STATUS_TEXT[found.status]
    lived = seconds_of(found.finished_at) - seconds_of(found.started_at)
    after = f" {approx_duration(lived)} after its start" if lived > 0 else ""
    why = ", killed for its memory limit" if found.oom_killed else ""
    return f"{found.status} ({_code(found.exit_code)}){after}{why}{f': {found.error}' if found.error else ''}"


def describe_oom(found: Container) -> str:
    """Return how a container is of which the memory limit killed a process; one that runs has no exit code."""
    return f"out of memory: {found.status}{'' if found.running else f', exit {found.exit_code}'}"


def describe_trouble(found: Container | None) -> str:
    """Why a container does not answer, by the engine: gone, ended, started again; empty if it just runs."""
    if found is None:
        return "its container is gone"
    if found.status not in ALIVE:
        return f"its container {'is in a ' if found.status == 'restarting' else ''}{describe_exit(found)}"
    if not found.restart_count:
        return "a process of its container was killed for its memory limit" if found.oom_killed else ""
    times = "once" if found.restart_count == 1 else f"{found.restart_count} times"
    why = ", killed for its memory limit" if found.oom_killed else ""
    return f"its container ended by itself and was started again {times}{why}"


def _code(exit_code: int) -> str:
    """`137, SIGKILL`: an exit code with the signal that ended the process."""
    with suppress(ValueError):
        return f"{exit_code}, {Signals(exit_code - SIGNALED).name}"
    return str(exit_code)


def _probes(found: Container) -> list[Mapping[str, Any]]:
    return (found.health or {}).get("Log") or []


def _failed_probe(found: Container) -> str:
    probes = _probes(found)
    failed = [each for each in probes if each.get("ExitCode")]
    if not failed:
        return ""
    output = shortened(str(failed[-1].get("Output", "")), 120) or f"exit {failed[-1]['ExitCode']}"
    return f": its HEALTHCHECK said {output!r}, {len(failed)} of the last {len(probes)} times failed"


def with_log_tail(verdict: Verdict, container_id: str, engine: EngineAccess = ENGINE_ACCESS) -> Verdict:
    """Return *verdict* with the last log lines of the container as evidence, and the last one in the reason."""
    try:
        lines = [line.partition(" ")[2] or line for line in engine.logs(container_id)]
    except EngineUnavailable:
        return verdict
    shown = [line for line in lines if line.strip()]
    if not shown:
        return verdict
    reason = f"{verdict.reason}; last log line: {shortened(log_line_message(shown[-1]), 120)}"
    evidence = {**verdict.evidence, "log": [shortened(each) for each in shown]}
    return replace(verdict, reason=reason, evidence=evidence)


def container_evidence(found: Container) -> dict[str, Any]:
    """Return what may be shown of the state of a container."""
    return {
        "container": found.short, "name": found.name, "status": found.status, "health": found.health_status,
        "failing_streak": (found.health or {}).get("FailingStreak", 0), "started_at": found.started_at,
        "restart_count": found.restart_count, "exit_code": found.exit_code, "oom_killed": found.oom_killed,
    }  # fmt: skip


# --- restarts
@dataclass(frozen=True, slots=True)
class ContainerLife:
    """One run of a container. Another id, start or count means that it was restarted."""

    id: str
    started_at: str
    restart_count: int


def life_of(found: Container) -> ContainerLife:
    """Return the run that *found* is in."""
    return ContainerLife(found.id, found.started_at, found.restart_count)


def restarts(container_id: str, engine: EngineAccess = ENGINE_ACCESS) -> Verdict:
    """Check that the container was not restarted lately."""
    try:
        found = engine.inspect(container_id)
        verdict = judge_restarts(found, seconds_of(engine.now()))
    except EngineUnavailable as error:
        return unknown("restarts", str(error))
    return verdict if verdict.ok else with_log_tail(verdict, container_id, engine)


def judge_restarts(found: Container | None, now: float) -> Verdict:
    """No if the container does not run, or was restarted and is up for less than ten minutes since."""
    if found is None:
        return no("restarts", "the container is gone")
    evidence = container_evidence(found)
    if not found.running:
        return no("restarts", describe_exit(found), **evidence)
    age = max(0.0, now - seconds_of(found.started_at))
    if not found.restart_count:
        return yes("restarts", f"none, running for {approx_duration(age)}", **evidence)
    times = f"{found.restart_count} times, the last one {approx_duration(age)} ago"
    if age < STEADY_S:
        return no("restarts", f"restarted {times}", expected="none", **evidence)
    return yes("restarts", f"none for {approx_duration(age)} (restarted {times})", **evidence)


def stays_up(before: Container, min_healthy_s: float, engine: EngineAccess | None = None) -> Verdict:
    """Observe the container until *min_healthy_s* seconds after its start, by the clock of the engine.

    One that became healthy later than that is observed for one second more.
    """
    engine = engine or access_to(before)
    try:
        begun, now = engine.clock(), seconds_of(engine.now())
        good_since = 0.0
        while True:
            found = engine.inspect(before.id)
            verdict = judge_stays_up(before, found, min_healthy_s)
            if found is None or not verdict.ok:
                return with_log_tail(verdict, before.id, engine)
            until = seconds_of(before.started_at) + min_healthy_s
            # The engine keeps five probes: with a short interval the first of them is later in each round.
            since = healthy_since(found)
            good_since = min(good_since or since, since)
            left = max(until, good_since + min(min_healthy_s, STANDING_S)) - now
            if engine.clock() - begun >= left:
                return verdict
            engine.sleep(min(begun + left - engine.clock(), 0.5))
    except EngineUnavailable as error:
        return unknown("settled", str(error))


def healthy_since(found: Container) -> float:
    """Return when the first probe of the current run of good ones ended; 0.0 if the last one was bad."""
    good = 0.0
    for entry in reversed(_probes(found)):
        if entry.get("ExitCode"):
            break
        good = seconds_of(entry.get("End", ""))
    return good


def unchanged(before: Container, engine: EngineAccess | None = None) -> Verdict:
    """Check that the container was not restarted or replaced since *before* was read."""
    engine = engine or access_to(before)
    try:
        return judge_stays_up(before, engine.inspect(before.id), None).named("unchanged")
    except EngineUnavailable as error:
        return unknown("unchanged", str(error))


def judge_stays_up(before: Container, after: Container | None, min_healthy_s: float | None) -> Verdict:
    """Yes if the same container still runs without a restart; *min_healthy_s* is only for the reason."""
    span = "since it was first seen" if min_healthy_s is None else f"in {min_healthy_s:g} s"
    if after is None:
        return no("settled", f"{before.name} ({before.short}) is gone")
    evidence = container_evidence(after)
    if not after.running:
        return no("settled", describe_exit(after), **evidence)
    if life_of(after) != life_of(before):
        reason = f"started anew: at {before.started_at}, then at {after.started_at}"
        return no("settled", reason, expected="no restart", **evidence)
    return yes("settled", f"no restart {span}", **evidence)


# --- start
def judge_not_started(
    found: Container | None, said: str, waited: float, longest: float, tasks: str | None = None
) -> Verdict:
    """Return the no of a failed `up` after *waited* seconds; *said* is the last line of docker, empty if it tells less.

    *tasks* is what a Swarm says of tasks that do not run, on any node; None without a Swarm.
    """
    because = "; ".join(filter(None, (f"docker said: {said}" if said else "", tasks)))
    if found is None:
        return no("up", f"no container is there; {because}")
    evidence = container_evidence(found)
    if tasks and (found.well or found.status == "created"):
        return no("up", f"not after {approx_duration(waited)}: {because}", **evidence)
    if found.status == "restarting" or (found.running and found.restart_count):
        times = "once" if found.restart_count == 1 else f"{found.restart_count} times"
        code = "" if found.running else f", last exit code {found.exit_code}"
        return no("up", f"crash loop: restarted {times} in {approx_duration(waited)}{code}", **evidence)
    if not found.running:
        # A Swarm ends a task that is not healthy, and the engine calls the health of all that ended unhealthy.
        probes = _probes(found)
        ended = found.exit_code in TOLD_TO_END and probes and probes[-1].get("ExitCode")
        health = _failed_probe(found) if ended else ""
        return no("up", f"{describe_exit(found)}{health}; {because}", **evidence)
    verdict = judge_health(found, None)
    if verdict.outcome is Outcome.NO:
        reason = f"not after {approx_duration(waited)} of at most {longest:g} s: {verdict.reason}"
        # Compose says no more than that; a Swarm, what became of the update.
        return no("up", reason if tasks is None else f"{reason}; {because}", **evidence)
    state = f"{found.status}, {found.health_status}"
    return no("up", f"not after {approx_duration(waited)}: {state}; {because}", **evidence)
