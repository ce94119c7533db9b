"""Switches the traffic, proves it, drains the old color, watches, and retires."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from cutover import consuming, freezing, preflight, scene, swapping
from cutover.changes import SWITCH, Change, line
from cutover.changes.up import Previous, ensure
from cutover.core.errors import ConfigError, EngineUnavailable, Failed, Inconclusive
from cutover.core.verdict import Outcome, Verdict
from cutover.proxy.base import Live, Proxy, other
from cutover.proxy.drain import drain_line
from cutover.retiring import retire
from cutover.system import docker
from cutover.target import Target
from cutover.walk import Walk
from cutover.watch.check import WatchCheck
from cutover.watch.loop import WatchResult, run_watch

if TYPE_CHECKING:
    from cutover.proxy.proof import SwitchReport

SWITCH_DEADLINE_S = 10.0
BUDGET_S = 60.0


def check(walk: Walk) -> None:
    """What forbids to switch at all, before anything is changed; raises ConfigError."""
    if walk.scene.proxy is None:
        raise ConfigError(f"--switch: {walk.settings.source} has no [proxy]")
    agreed = walk.scene.proxy.agreed()
    if agreed.outcome is not Outcome.YES:
        raise ConfigError(f"the proxy is not as we know it: {agreed.reason}")
    if walk.target.color is None:
        raise ConfigError(f"--switch to {walk.target.name}: a plain URL is no color")
    if walk.target.color == walk.before:
        raise ConfigError(f"--switch to {walk.target.color}: it is live already; say --target=idle")
    walk.old = preflight.previous_of(walk.state, walk.scene, walk.before or "", keep=not walk.request.plan)[0]


def _proxy(walk: Walk) -> Proxy:
    if walk.scene.proxy is None:
        raise ConfigError(f"{walk.settings.source} has no [proxy]")
    return walk.scene.proxy


def switch_change(walk: Walk, to: str, old: Previous | None) -> Change:
    """The switch; its undo makes sure of the old color first, and lets the requests of the new one end last."""
    change = _proxy(walk).switch(to)
    if swapping.swaps(walk):
        return change  # a port swap starts the old color again by itself, on the port that users know
    settings = walk.settings
    undo = (*change.undo, drain_line(walk.scene.port(to)))
    if old is not None:
        project = settings.compose_project(other(to))
        undo = (ensure(walk.state.root, project, settings.service, old), *undo)
    return replace(change, undo=undo)


def goes_back(walk: Walk, to: str) -> Change:
    """What sends the traffic to *to*, and the consumers with it, as the undo of a change that does nothing."""
    there = _proxy(walk).switch(to)
    flip = line(*there.do, within_s=there.budget_s)
    undo = (flip, drain_line(walk.scene.port(other(to))), *consuming.go_back(walk, to))
    return Change(SWITCH, f"back to {to}", ("true",), undo, 30.0)


def switch(walk: Walk) -> None:
    """Send new requests to the target, and prove that they arrive there; raises Failed or Inconclusive."""
    from cutover.proxy.proof import SwitchProbe

    settings, to = walk.settings, walk.target.color or ""
    _go(walk)
    frozen_at = freezing.freeze_writes(walk)
    prover = SwitchProbe.of(settings, has_gap=_proxy(walk).has_gap)
    try:
        walk.require(prover.begin(), "switch::open connections", 1)
        swapping.prepare(walk, to)
        freezing.still_in_time(walk, frozen_at)
        prover.about_to_switch()
        with walk.telling("T-0", "switch") as words:
            begun = time.monotonic()
            walk.evidence.fact("released_at", time.time())
            done = walk.apply(switch_change(walk, to, walk.old))
            if not done.ok:
                raise Failed(f"the switch to {to} failed: {done.last_line}")
            walk.switched = True
            seconds = time.monotonic() - begun
            seen_live(walk, to)
            swapping.wait_stable(walk, to)
            walk.evidence.fact("switched_at", time.time())
            words.append(f"{walk.before} → {to}, done and seen after {1000 * seconds:.0f} ms")
        with walk.telling("T-0", "proof") as words:
            proof = prover.prove(to)
            walk.evidence.fact("proof", proof.as_json())
            walk.require(proof.verdict(), "switch::proof", 1)
            words.append(_told(proof, to))
    finally:
        prover.close()
    freezing.still_in_time(walk, frozen_at)
    freezing.unfreeze_writes(walk, frozen_at)
    consuming.move(walk, to)


def _told(proof: SwitchReport, to: str) -> str:
    return f"{proof.verdict().reason} ({to})"


def settled(walk: Walk, expected: str | None) -> Live:
    """Who is live, asked until it is *expected* or a deadline is over: some proxies read their file a moment later."""
    deadline = time.monotonic() + SWITCH_DEADLINE_S
    while True:
        live = scene.who_is_live(walk.settings, walk.scene.proxy)
        if live.color == expected or time.monotonic() >= deadline:
            return live
        time.sleep(0.02)  # the proxy is asked, not waited for: its own delay is what is measured here


def seen_live(walk: Walk, to: str) -> None:
    """The proxy itself says that *to* is live; raises Failed or Inconclusive."""
    live = settled(walk, to)
    if live.color == to:
        return
    if live.color is None:
        raise Inconclusive(f"who is live after the switch is unknown: {live.how}")
    raise Failed(f"after the switch to {to} the proxy still sends traffic to {live.color} ({live.how})")


def _go(walk: Walk) -> None:
    """The go/no-go of a person, where cutover.toml wants one."""
    if not walk.settings.approval.required:
        return
    from cutover.show import go

    begun = time.monotonic()
    answer = go(walk.settings, walk.target.color or "", walk.target.tag or "")
    if not answer.go:
        raise Failed(f"no-go: {answer.why}")
    walk.told("T-0", "go", answer.why, begun)


def drain(walk: Walk) -> None:
    """Wait until the old color has no request in flight, at most the budget of `[proxy] drain_timeout`."""
    from cutover.proxy.drain import Drained
    from cutover.proxy.drain import drain as wait

    proxy = walk.settings.proxy
    if proxy is None or walk.before is None:
        return
    with walk.telling("T-0", f"drain {walk.before}") as words:
        stays = _proxy(walk).keeps_old_color  # a port swap has stopped it already
        drained = (
            wait(proxy, walk.before, walk.scene.port(walk.before)) if stays else Drained(walk.before, 0.0)
        )
        verdict = drained.verdict(proxy.on_drain_timeout)
        row = walk.evidence.check("switch::drain", walk.before, 1, verdict, 0.0)
        if verdict.outcome is not Outcome.YES:
            raise Failed(f"drain: {verdict.reason}", check=row.id)
        words.append(verdict.reason)


def watch_checks(walk: Walk, target: Target) -> list[WatchCheck]:
    """The checks of the watch: of the target, and of the old color in the same minutes."""
    from cutover.watch.suite import default_checks

    here = walk.scene.again()
    walk.scene = here
    old = other(target.color) if target.color else None
    old_target = None
    if old in here.rendered and _warm(walk, old):
        old_target = scene.target_named(here, old)
    control = scene.control_of(here, target)
    return default_checks(walk.settings, target, old_target, control, walk.evidence, time.time())


def require_warm(walk: Walk) -> None:
    """The idle color runs and is not unhealthy; raises ConfigError."""
    color = walk.target.color or ""
    found = docker.the_container(walk.settings.compose_project(color), walk.settings.service)
    if found is None or not found.running or found.health_status not in {"healthy", "none"}:
        raise ConfigError(
            f"{color} is not warm: {found.status if found else 'nothing runs there'}; deploy to it first"
        )


def _warm(walk: Walk, color: str) -> bool:
    try:
        found = docker.the_container(walk.settings.compose_project(color), walk.settings.service)
    except EngineUnavailable:
        return False
    return found is not None and found.running


def watch(
    walk: Walk,
    target: Target,
    checks: list[WatchCheck],
    seconds: float,
    progress: Callable[[float, float, dict[str, Verdict]], None],
) -> WatchResult:
    """Drain, then run the checks until the time is over or the first sure no."""
    if walk.switched:
        drain(walk)
    begun = time.monotonic()
    seen = run_watch(
        checks, seconds, tick_s=walk.settings.watch.interval, report_only=frozenset(walk.settings.checks.report_only),
        on_tick=lambda left, verdicts: progress(left, seconds, verdicts),
    )  # fmt: skip
    ended = seen.verdicts.get(seen.ended_by) if seen.ended_by else None
    text = (
        f"{ended.question}: {ended.reason}"
        if ended
        else f"{len(seen.verdicts)} questions, {seen.seconds:.0f} s"
    )
    walk.told(
        "T+15m", f"watch {target.color or target.name}", text, begun, str(ended.outcome) if ended else "yes"
    )
    return seen


def after_commit(walk: Walk) -> None:
    """Keep the old color warm or stop it, as cutover.toml says; the release is committed, so this has no undo."""
    old = walk.before
    if old is None or walk.settings.proxy is None:
        return
    if swapping.swaps(walk):
        swapping.commit(walk)
        said = f"the port swap has stopped it; {walk.settings.env_keys.port} is swapped in both env files"
        walk.told("T+15m", f"retire {old}", said, time.monotonic())
        return
    if walk.settings.watch.old_color == "keep":
        walk.told("T+15m", f"retire {old}", "kept warm; roll back with: cutover rollback", None)
        return
    begun = time.monotonic()
    done = retire(walk.settings, walk.scene.proxy, old, walk.scene.port(old))
    walk.told("T+15m", f"retire {old}", done.reason, begun, str(done.outcome))
