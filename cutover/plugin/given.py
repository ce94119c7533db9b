"""What the fixtures give: each fixture is one call of a function here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from cutover import saying, scene
from cutover.core.errors import CutoverError, Inconclusive
from cutover.core.verdict import Outcome, Verdict
from cutover.plugin.required import Asked, NotAnswered, param, stage_of
from cutover.system import docker as docker_engine
from cutover.system.container import Container
from cutover.target import ControlProbe, Target
from cutover.walk import Walk

if TYPE_CHECKING:
    from cutover.gate.container_checks import ExpectedIdentity
    from cutover.gate.log_checks import LogBaseline
    from cutover.plugin.session import Run
    from cutover.watch.check import WatchCheck
    from cutover.watch.loop import WatchResult


def walk_of(run: Run) -> Walk:
    """The session's walk; raises UsageError for plain URLs."""
    if run.walk is None:
        raise pytest.UsageError("this needs a cutover.toml")
    return run.walk


def _guarded(run: Run, act: Callable[[Walk], None]) -> None:
    """Do a change; when it fails the session ends with one error, not one for each test."""
    walk = walk_of(run)
    trouble: CutoverError
    try:
        act(walk)
    except CutoverError as error:
        trouble = error
    except Exception as error:
        walk.trouble = Inconclusive(f"internal error: {type(error).__name__}: {error}")
        _stop(run, str(walk.trouble))
        raise
    else:
        return
    # Outside of the except block: pytest would print the first error above the second one.
    walk.trouble = trouble
    _stop(run, "the release did not get further")
    if isinstance(trouble, Inconclusive):
        raise NotAnswered(str(trouble))
    pytest.fail(str(trouble), pytrace=False)


def _stop(run: Run, why: str) -> None:
    """End the session before its next test."""
    if run.session is not None:
        run.session.shouldfail = why


def deploy(run: Run) -> str | None:
    """Deploy what was wished, if anything was."""
    if run.request.deploy is not None:
        from cutover import deploying

        _guarded(run, deploying.deploy)
        run.stage_begun = time.monotonic()
    return run.request.deploy


def switch(run: Run) -> bool:
    """Switch, if that was wished."""
    if run.request.switch:
        from cutover import switching

        _guarded(run, switching.switch)
        saying.tell_switched(walk_of(run))
        run.stage_begun = time.monotonic()
    return run.request.switch


def target(run: Run, asked: Asked) -> Target:
    """The target that a test's parameter means."""
    if asked not in run.targets:
        if run.walk is None:
            run.targets[asked] = scene.target_named(None, asked.name)
        elif run.request.changes_something and not asked.after_switch:
            run.targets[asked] = run.walk.target
        else:
            here = run.walk.scene.again() if asked.after_switch else run.walk.scene
            run.targets[asked] = scene.target_named(here, asked.name)
    return run.targets[asked]


def control(run: Run, target: Target) -> ControlProbe:
    """How the target's silence is told from a cut way."""
    return scene.control_of(run.walk.scene if run.walk else None, target)


def http_settings(run: Run, target: Target) -> tuple[str, float, str | bool]:
    """Base URL, deadline in seconds and TLS verification of the HTTP clients for *target*."""
    deadline = run.settings.gate.request_timeout if run.settings else 5.0
    verify = (
        run.settings.proxy.tls_verify
        if run.settings and run.settings.proxy and target.through_proxy
        else True
    )
    return target.base_url, deadline, verify


def container_of(target: Target) -> Container:
    """The container of *target* now."""
    if target.project is None:
        raise pytest.UsageError(f"{target.name} is a plain URL: it has no container here")
    found = docker_engine.the_container(target.project, target.service)
    if found is None:
        pytest.fail(f"no container of {target.service} in project {target.project}", pytrace=False)
    return found


def beside(run: Run, target: Target) -> tuple[Container, ...]:
    """The containers of the other services of *target* now, and of the further replicas of each."""
    others = run.settings.services[1:] if run.settings else ()
    first = [container_of(replace(target, service=each)) for each in others]
    further = [docker_engine.replicas(target.project or "", each)[1:] for each in (target.service, *others)]
    return (*first, *chain(*further))


def baselines(run: Run, target: Target) -> dict[str, LogBaseline]:
    """Service -> the log that was kept before the deploy; of a release that is proven, its own until then."""
    if run.walk is None or target.color is None:
        return {}
    services = run.walk.settings.services
    kept = {each: run.walk.baselines.get((target.color, each)) for each in services}
    found = kept if any(kept.values()) else _until_proven(run.walk, target)
    return {service: each for service, each in found.items() if each}


def _until_proven(walk: Walk, target: Target) -> dict[str, LogBaseline | None]:
    from cutover.core.text import seconds_of
    from cutover.gate.log_checks import baseline_until_verified

    found = docker_engine.by_service(target.project or "", walk.settings.services)
    main = found[walk.settings.service]
    records = walk.state.records(target.color or "") if main else []
    for row in reversed(records):
        if main and row.proven and row.is_running(main.id, main.image, main.config_hash):
            at, rules = seconds_of(row.at), walk.settings.logs
            return {
                service: baseline_until_verified(each, at, rules) for service, each in found.items() if each
            }
    return {}


def expected(run: Run, target: Target) -> ExpectedIdentity:
    """What should run there."""
    from cutover.identifying import expected

    return expected(walk_of(run), target)


def watched(run: Run, target: Target) -> list[WatchCheck]:
    """The checks of the watch."""
    from cutover import switching

    return switching.watch_checks(walk_of(run), target)


def watch(run: Run, target: Target, checks: list[WatchCheck]) -> WatchResult:
    """Watch once for the whole session."""
    if run.observed is None:
        from cutover import switching

        run.observed = switching.watch(
            walk_of(run), target, checks, run.watch_seconds(), run.console.progress
        )
        run.console.end_progress()
    return run.observed


def expecting(run: Run, item: pytest.Item) -> Callable[[Verdict | Iterable[Verdict]], None]:
    """The `expect` of one test."""
    begun = time.monotonic()
    asked = param(item)
    row = run.checklist.rows.get(item.nodeid)
    report_only = run.settings.checks.report_only if run.settings else ()

    def expect(verdicts: Verdict | Iterable[Verdict]) -> None:
        given = [verdicts] if isinstance(verdicts, Verdict) else list(verdicts)
        found = [_only_reported(each) if each.question in report_only else each for each in given]
        if row is not None:
            row.told |= {each.outcome for each in found}
        for verdict in found:
            run.evidence.check(
                item.nodeid,
                asked.name if asked else "",
                stage_of(item),
                verdict,
                time.monotonic() - begun,
            )
        worst = {outcome: [each for each in found if each.outcome is outcome] for outcome in Outcome}
        if worst[Outcome.NO]:
            pytest.fail("\n".join(str(each) for each in worst[Outcome.NO]), pytrace=False)
        if worst[Outcome.UNKNOWN]:
            raise NotAnswered("\n".join(str(each) for each in worst[Outcome.UNKNOWN]))
        if not worst[Outcome.YES] and row is not None:
            reason = found[0].reason if found else "nothing to ask"
            if found != given:  # the test goes on: what it expects further on still decides
                row.reported = row.reported or reason
                return
            run.checklist.leave_out(item.nodeid, reason)
            pytest.skip(f"not asked: {reason}")

    return expect


def _only_reported(verdict: Verdict) -> Verdict:
    """A check of `[checks] report_only` reports its no and its unknown, and decides nothing."""
    if verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}:
        return verdict.reported("[checks] report_only")
    return verdict
