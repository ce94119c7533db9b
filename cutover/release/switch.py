"""Switch the traffic to a color and prove it; freeze writes, drain, watch, retire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from cutover.core.change import SWITCH, Change, line
from cutover.core.config import Settings
from cutover.core.errors import ConfigError, Failed
from cutover.core.evidence import Evidence
from cutover.core.result import UNASKED
from cutover.core.target import Target
from cutover.core.text import now, spelled
from cutover.core.verdict import Verdict, no, yes
from cutover.env.envfile import set_env_value
from cutover.proxy.access_log import LogTails
from cutover.proxy.base import Proxy, ProxyClient, other
from cutover.proxy.drain import (
    Drained,
    close_connection,
    close_gradually,
    drain,
    drain_line,
    port_of,
    proxy_connections,
)
from cutover.proxy.port_swap import OWN_PORT_FILE, SWAPPED_FILE, write_swapped_releases
from cutover.release.changes import PreviousRelease, answers_line, back_lines, ensure_line
from cutover.release.colors import Colors, Situation, control_for, main_container, tag_of, target_named
from cutover.release.history import Record
from cutover.release.plan import ask_approval
from cutover.release.running import previous_of
from cutover.release.state import State, who
from cutover.release.transaction import ActiveRelease, Reporter, Transaction
from cutover.release.verify import require_live, running_on
from cutover.release.workers import WorkerFiles, last_file, move_back_lines, move_workers
from cutover.system import docker, process
from cutover.system.files import write_atomically
from cutover.system.platform import project_of
from cutover.watch.check import BackgroundWatch, WatchCheck, WatchResult, run_watch

if TYPE_CHECKING:
    from cutover.proxy.proof import SwitchReport
    from cutover.release.deploy import Deployed
    from cutover.watch.suite import WatchSuite

FREEZE = "freeze"
FREEZE_BUDGET_S = 10.0
STOP_POLL_S = 0.2
STOP_DEADLINE_S = 60.0
BACK_BUDGET_S = 30.0


@dataclass(frozen=True, slots=True)
class Interrupt:
    """How the watch in the background interrupts the main thread; the default does not."""

    now: Callable[[], None] = lambda: None
    """Interrupt a body of `allowed`; called in the thread of the watch."""
    allowed: Callable[[Callable[[], str]], AbstractContextManager[None]] = lambda _why: nullcontext()
    """Let the body be interrupted; it is given why, empty as long as nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Switched:
    """The traffic goes to `color`, verified by requests through the proxy, and is watched since then."""

    color: str
    suite: WatchSuite
    """Builds the checks of the watch, which go on where those of `background` are."""
    background: BackgroundWatch
    """Runs the early checks until the commit, whatever the session does meanwhile."""

    @property
    def watched_logs(self) -> LogTails | None:
        """The access logs that the watch in the background reads; None if no check of them runs."""
        traffic = self.suite.traffic
        read = traffic is not None and any(each.source is traffic for each in self.background.checks)
        return traffic.logs if traffic is not None and read else None


def switch(on: ActiveRelease, deployed: Deployed | None, interrupt: Interrupt | None = None) -> Switched:
    """Switch the traffic to the target, prove it, move the workers; raises Failed or Inconclusive.

    The early checks of the watch run from the switch on; the first sure no ends what the switch does, by *interrupt*
    also in the middle of a command.
    """
    situation, report = on.situation, on.report
    settings, to = situation.settings, situation.color
    require_proxy(situation.colors)
    _require_approval(situation, report)
    suite = _suite_after(situation, report.evidence)
    interrupt = interrupt or Interrupt()
    background = BackgroundWatch(suite.early(), frozenset(settings.checks.report_only), interrupt.now)
    with ExitStack() as on_error:
        on_error.callback(background.stop)
        _switch_and_prove(on, deployed, background)
        try:
            with interrupt.allowed(lambda: background.ended.reason if background.ended else ""):
                move_workers(on.tx, settings, to, _worker_files(on, to), report)
        finally:
            require_well(on, background)
        on_error.pop_all()
    return Switched(to, suite, background)


def require_well(on: ActiveRelease, background: BackgroundWatch) -> None:
    """Raise Failed, or Inconclusive, if a check has ended the watch in the background."""
    if background.ended is not None:
        on.report.require(background.ended, "switch::watch", on.situation.target.name, 1)


def _switch_and_prove(on: ActiveRelease, deployed: Deployed | None, background: BackgroundWatch) -> None:
    tx, situation, report = on.tx, on.situation, on.report
    settings, to, proxy = situation.settings, situation.color, require_proxy(situation.colors)
    target, places = situation.target.name, [each.place.name for each in proxy.drivers]
    from cutover.proxy.proof import SwitchProbe, together  # asyncio

    with _frozen(tx, settings, report) as freeze, ExitStack() as probing:
        probes = [
            probing.enter_context(closing(SwitchProbe.of(settings, each.client, has_gap=proxy.has_gap)))
            for each in proxy.drivers
        ]
        for place, probe in zip(places, probes, strict=True):
            report.require(probe.begin(), f"switch::open connections{_at(place)}", target, 1)
        if not proxy.keeps_old_color:
            _prepare_port_swap(tx, situation.colors, to, deployed)
        freeze.require_in_time()
        with report.step("T-0", "switch") as text:
            begun = time.monotonic()
            report.evidence.fact("released_at", time.time())
            for change, probe in zip(switch_changes(situation.colors, to, on.plan.old), probes, strict=True):
                probe.about_to_switch()
                _apply_switch(tx, change, to)
            seconds = time.monotonic() - begun
            require_live(settings, proxy, to)
            background.start()
            if not proxy.keeps_old_color:
                _record_port_swap(tx, settings, to)
            report.evidence.fact("switched_at", time.time())
            took = f"done and seen after {1000 * seconds:.0f} ms"
            text.append(f"{situation.before.live} → {to}{_on(places)}, {took}")
        proofs: list[SwitchReport] = []
        for place, probe in zip(places, probes, strict=True):
            with report.step("T-0", f"proof{_at(place)}") as text:
                proofs.append(probe.prove(to, lambda: background.ended is not None))
                report.evidence.fact("proof", together(proofs).as_json())
                require_well(on, background)
                verdict = report.require(proofs[-1].verdict(), f"switch::proof{_at(place)}", target, 1)
                text.append(f"{verdict.reason} ({to})")


def _at(place: str) -> str:
    return f"[{place}]" if place else ""


def _on(places: Sequence[str]) -> str:
    return f" on {', '.join(filter(None, places))}" if any(places) else ""


def _apply_switch(tx: Transaction, change: Change, to: str) -> None:
    done = tx.apply(change)
    if not done.ok:
        raise Failed(f"the switch to {to} failed: {done.last_line}")


def _suite_after(situation: Situation, evidence: Evidence) -> WatchSuite:
    """The checks of the target as it will be: behind the proxy, beside the color that is live now."""
    from cutover.watch.suite import WatchSuite

    settings, colors, to = situation.settings, situation.colors, situation.color
    proxy = require_proxy(colors)
    live, url = target_named(colors, to), proxy.client.url
    live = replace(live, name="live", kind="live", base_url=url, through_proxy=True)
    old = colors.beside(to) if proxy.keeps_old_color else None
    return WatchSuite(settings, live, old, proxy.control(), evidence, time.time())


def require_proxy(colors: Colors) -> Proxy:
    """The driver of `[proxy]`; raises ConfigError without one."""
    if colors.proxy is None:
        raise ConfigError(f"{colors.settings.source} has no [proxy]")
    return colors.proxy


def switch_all(tx: Transaction, colors: Colors, to: str, old: PreviousRelease | None) -> None:
    """Switch the traffic to *to* by each proxy in turn; raises Failed at the first one that does not switch."""
    for change in switch_changes(colors, to, old):
        _apply_switch(tx, change, to)


def switch_changes(colors: Colors, to: str, old: PreviousRelease | None) -> tuple[Change, ...]:
    """A change for each proxy that sends its users to *to*, in order.

    Undo: switch back, make sure of the old color, drain the new color. All are switched back at the same time, also
    if one of them cannot be reached; the containers of the release are left alone then.
    """
    proxy, settings = require_proxy(colors), colors.settings
    changes = [(each, each.switch(to)) for each in proxy.drivers]
    if not proxy.keeps_old_color:
        return tuple(change for _, change in changes)  # it starts the old color itself, on the users' port
    backs = tuple(
        (each.place.name, (*change.undo, drain_line(colors.port(to), place=each.place)))
        for each, change in changes
    )
    ensure, answers = "", ""
    if old is not None:
        ensure = ensure_line(settings.state, project_of(settings, other(to), old.file), settings.service, old)
        answers = answers_line(settings.state, ensure, colors.port(other(to)), proxy.client.path)
    undos = back_lines(backs, answers, ensure)
    return tuple(
        replace(change, text=f"{change.text}{_on([each.place.name])}", undo=undo)
        for (each, change), undo in zip(changes, undos, strict=True)
    )


def back_change(colors: Colors, to: str) -> Change:
    """Change that does nothing; its undo sends the traffic and the workers to *to*."""
    drivers, port = require_proxy(colors).drivers, colors.port(other(to))
    backs = tuple(
        (each.place.name, (line(*there.do, within_s=there.budget_s), drain_line(port, place=each.place)))
        for each in drivers
        for there in [each.switch(to)]
    )
    undo = (
        *(each for undo in reversed(back_lines(backs)) for each in undo),
        *move_back_lines(State(colors.settings.state), colors.settings, to),
    )
    return Change(SWITCH, f"back to {to}", ("true",), undo, BACK_BUDGET_S)


def _require_approval(situation: Situation, report: Reporter) -> None:
    if not situation.settings.approval.required:
        return
    begun = time.monotonic()
    answer = ask_approval(situation.settings, situation.color, situation.tag)
    if not answer.go:
        raise Failed(f"no-go: {answer.why}")
    report.line("T-0", "go", answer.why, begun)


def _worker_files(on: ActiveRelease, to: str) -> WorkerFiles:
    tx, plan, record = on.tx, on.plan, on.tx.record
    new = tx.state.release_path(to, record.file) if record and record.color == to else last_file(tx.state, to)
    old = plan.old.file if plan.old else last_file(tx.state, other(to))
    previous = plan.deploy.previous if plan.deploy else None
    return WorkerFiles(new, old, previous.file if previous else None)


# --- the write freeze ----------------------------------------------------------------------------------------------
def freeze_file(settings: Settings) -> Path:
    """The file that the proxy looks for at each request: while it exists, writes are answered with 503."""
    given = settings.freeze.marker if settings.freeze else None
    return given or settings.marker / FREEZE


def freeze_change(settings: Settings) -> Change:
    """Change that freezes writes from the next request on, without a reload of the proxy."""
    touch, undo = ("touch", "--", str(freeze_file(settings))), unfreeze_change(settings).undo
    return Change(FREEZE, "writes are answered with 503", touch, undo, FREEZE_BUDGET_S)


def unfreeze_change(settings: Settings) -> Change:
    """Change that lets writes through again; its undo does the same, because a revert must not freeze them."""
    remove = ("rm", "-f", "--", str(freeze_file(settings)))
    undo = (line(*remove, within_s=FREEZE_BUDGET_S),)
    return Change("thaw", "writes are answered again", remove, undo, FREEZE_BUDGET_S)


def judge_frozen(seconds: float, longest_s: float) -> Verdict:
    """Yes as long as writes are frozen for at most *longest_s*."""
    seen, most = f"{spelled(seconds, most=longest_s)} s", f"at most {longest_s:.0f} s"
    if seconds <= longest_s:
        return yes(FREEZE, f"writes were frozen for {seen}", expected=most, seen=seen)
    return no(FREEZE, f"expected a freeze of {most}, it lasts for {seen}", expected=most, seen=seen)


def check_frozen(client: ProxyClient) -> Verdict:
    """Yes if the proxy answers a POST to its own health path with 503; the request reaches no color."""
    response = client.ask_control("POST")
    where, got = f"POST {client.url}{client.control}", str(response.status or response)
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return yes(FREEZE, f"{where} is answered with 503")
    return no(FREEZE, f"{where}: expected status 503, got {got}", expected="status 503", seen=got)


@dataclass(frozen=True, slots=True)
class WriteFreeze:
    """A freeze of writes that began at `since` (monotonic) and may last `max_s`, None for no freeze."""

    since: float
    max_s: float | None

    def require_in_time(self) -> str:
        """How long the freeze lasts, empty for none; raises Failed if that is too long, and the revert lifts it."""
        if self.max_s is None:
            return ""
        verdict = judge_frozen(time.monotonic() - self.since, self.max_s)
        if not verdict.ok:
            raise Failed(f"freeze: {verdict.reason}")
        return verdict.reason


@contextmanager
def _frozen(tx: Transaction, settings: Settings, report: Reporter) -> Iterator[WriteFreeze]:
    """Freeze writes, if `[freeze]` asks for it, until the body has succeeded; else the revert lifts the freeze."""
    freeze = WriteFreeze(time.monotonic(), settings.freeze.max_duration if settings.freeze else None)
    if freeze.max_s is not None:
        with report.step("T-0", "freeze") as text:
            done = tx.apply(freeze_change(settings))
            verdict = check_frozen(ProxyClient.of(settings)) if done.ok else None
            if verdict is None or not verdict.ok:
                raise Failed(f"the write freeze failed: {verdict.reason if verdict else done.last_line}")
            text.append("writes are answered with 503 and Retry-After")
    yield freeze
    lasted = freeze.require_in_time()
    if freeze.max_s is not None:
        with report.step("T-0", "unfreeze") as text:
            done = tx.apply(unfreeze_change(settings))
            if not done.ok:
                raise Failed(f"the write freeze could not be lifted: {done.last_line}")
            report.evidence.fact("frozen_s", round(time.monotonic() - freeze.since, 1))
            text.append(f"writes are answered again; {lasted}")


# --- the port swap -------------------------------------------------------------------------------------------------
def _prepare_port_swap(tx: Transaction, colors: Colors, to: str, deployed: Deployed | None) -> None:
    """Write the releases of both colors on the users' port; raises ConfigError if one of them is unknown."""
    state, found = tx.state, {color: previous_of(colors, color) for color in (to, other(to))}
    files = {color: previous.file for color, previous in found.items() if previous is not None}
    if tx.record is not None:
        files[to] = state.release_path(to, tx.record.file)
        tx.record = replace(tx.record, container="")  # the switch makes a new one
    write_swapped_releases(state.root, files, colors.settings.service, colors.port(other(to)))
    own = state.release_path(to, OWN_PORT_FILE)
    # The deploy's own undo handles what this session deployed; starting it first could fail and stop that undo.
    if deployed is not None or to not in files:
        own.unlink(missing_ok=True)
    else:
        write_atomically(own, files[to].read_text(encoding="utf-8"))


def _record_port_swap(tx: Transaction, settings: Settings, to: str) -> None:
    found, state = main_container(settings, to), tx.state
    if found is None or not found.running:
        raise Failed(f"after the switch no container of {to} runs")
    name = f"swapped-{found.short}.yml"
    text = state.release_path(to, SWAPPED_FILE).read_text(encoding="utf-8")
    write_atomically(state.release_path(to, name), text)
    tag = tag_of(found.image_name) or ""
    unrecorded = Record(to, tag, found.image, "", "", "", verified=False, by=who(), at=now())
    recorded = [each for each in state.records(to) if each.image == found.image]
    base = tx.record or [unrecorded, *recorded][-1]
    tx.record = replace(base, container=found.id, config_hash=found.config_hash, file=name)


# --- watching ------------------------------------------------------------------------------------------------------
def drain_old(on: ActiveRelease, switched: Switched) -> None:
    """Wait until the old color has no request in flight, at most `[proxy] drain_timeout`; raises Failed.

    It ends at the first sure no of the watch in the background.
    """
    situation, report, background = on.situation, on.report, switched.background
    settings, old = situation.settings, situation.before.live
    if settings.proxy is None or old is None:
        return
    with report.step("T-0", f"drain {old}") as text:
        logs = switched.watched_logs
        seen = _drain(situation.colors, old, lambda: background.ended is not None, watched=logs)
        verdict = seen.verdict(settings.proxy.on_drain_timeout)
        require_well(on, background)
        text.append(report.require(verdict, "switch::drain", old, 1).reason)


def _drain(
    colors: Colors,
    color: str,
    ended: Callable[[], bool] = lambda: False,
    budget_s: float | None = None,
    watched: LogTails | None = None,
) -> Drained:
    # Where the switch has stopped the old color, its requests had the grace period of the container.
    if not require_proxy(colors).keeps_old_color:
        return Drained(color, 0.0)
    return drain(colors.settings, color, colors.port(color), ended, budget_s, watched)


def build_watch_checks(colors: Colors, target: Target, evidence: Evidence) -> list[WatchCheck]:
    """The checks of a watch without a switch: of *target*, and of the old color at the same time if it runs."""
    from cutover.watch.suite import WatchSuite

    here = colors.refreshed()
    old, control = here.beside(target.color), control_for(here, target)
    return WatchSuite(here.settings, target, old, control, evidence, time.time(), had_traffic=True).checks()


def watch(
    settings: Settings,
    target: Target,
    checks: list[WatchCheck],
    seconds: float,
    report: Reporter,
    progress: Callable[[float, Mapping[str, Verdict]], None],
) -> WatchResult:
    """Run *checks* until *seconds* are over or the first sure no; *progress* gets the seconds left and the verdicts."""
    begun = time.monotonic()
    report_only, tick_s = frozenset(settings.checks.report_only), settings.watch.interval
    seen = run_watch(checks, seconds, tick_s=tick_s, report_only=report_only, on_tick=progress)
    text, outcome = f"{len(seen.verdicts)} questions, {seen.seconds:.0f} s", "yes"
    if seen.ended_by and (ended := seen.verdicts.get(seen.ended_by)):
        text, outcome = f"{ended.question}: {ended.reason}", str(ended.outcome)
    report.line("T+15m", f"watch {target.color or target.name}", text, begun, outcome)
    for note in dict.fromkeys(note for each in checks for note in each.notes):
        report.line("T+15m", "tasks", note, None, "not asked")
    return seen


# --- the old color -------------------------------------------------------------------------------------------------
def retire_old(situation: Situation, report: Reporter) -> None:
    """After the commit: keep the old color warm or stop it, as cutover.toml says; there is no undo."""
    settings, colors, old = situation.settings, situation.colors, situation.before.live
    if old is None or settings.proxy is None:
        return
    begun = time.monotonic()
    if not require_proxy(colors).keeps_old_color:
        _swap_ports_in_env_files(colors, situation.color)
        text = f"the port swap has stopped it; {settings.env_keys.port} is swapped in both env files"
        report.line("T+15m", f"retire {old}", text, begun)
    elif settings.watch.old_color == "keep":
        state = running_on(settings, old, live=False).state
        text, outcome = "kept warm; roll back with: cutover rollback", "yes"
        if state != "runs":
            gone = f"its container {UNASKED}" if state == UNASKED else f"not warm any more ({state})"
            text, outcome = f"{gone}; see `cutover status`", "unknown"
        report.line("T+15m", f"retire {old}", text, None, outcome)
    else:
        done = retire(colors, old)
        report.line("T+15m", f"retire {old}", done.reason, begun, str(done.outcome))


def _swap_ports_in_env_files(colors: Colors, to: str) -> None:
    settings = colors.settings
    ports = {color: each.port(settings.service) for color, each in colors.rendered.items()}
    for color, port in require_proxy(colors).on_commit(to, ports).items():
        if color in colors.rendered:
            set_env_value(settings.colors[color].env_file, settings.env_keys.port, str(port))


def retire(colors: Colors, color: str) -> Verdict:
    """Drain and stop *color*; yes only if the engine says that its containers are stopped.

    What is still open after half of `[proxy] drain_timeout` is closed one by one in the other half, unless
    `on_drain_timeout` is `revert`: then the color goes on running.
    """
    settings, said = colors.settings, ""
    if (proxy := settings.proxy) is not None:
        cuts = proxy.on_drain_timeout == "continue"
        seen = _drain(colors, color, budget_s=proxy.drain_timeout / 2 if cuts else None)
        drained = seen.verdict(proxy.on_drain_timeout)
        if not drained.ok:
            return no("retire", f"{color} was not stopped: {drained.reason}")
        said = f" ({drained.reason})"
        if seen.left and not settings.platform.fronts:
            connections = partial(proxy_connections, port_of(proxy.url), colors.port(color))
            closed = close_gradually(connections, close_connection, proxy.drain_timeout / 2)
            said = f" ({seen.still_open}; {closed})"
    done = stop_color(settings, color)
    State(settings.state).journal("retired" if done.ok else "not retired", color=color, who=who())
    return replace(done, reason=f"{done.reason}{said}")


def stop_color(settings: Settings, color: str) -> Verdict:
    """Stop all services of *color*, also those that restart; yes if the engine says that they are stopped."""
    project, services = settings.compose_project(color), (*settings.services, *settings.workers)
    running = [each for each in docker.containers(project) if each.in_use and each.service in services]
    ids = [each.id for each in running]
    grace_s = max((each.grace_s for each in running), default=0.0)
    deadline_s = STOP_DEADLINE_S + grace_s
    commands = project_of(settings, color, Path()).stop_without_file(services, running)
    done = [process.run(argv, deadline_s=deadline_s) for argv in commands]
    failed = next((each.last_line for each in done if not each.ok), "")
    ends = time.monotonic() + grace_s
    while left := [each for each in docker.containers(project) if each.in_use and each.id in ids]:
        # A Swarm has been told then, and its nodes stop their tasks within the grace period.
        if time.monotonic() >= ends or failed:
            break
        time.sleep(STOP_POLL_S)
    if left or failed:
        still = "still restarts" if all(each.status == "restarting" for each in left) else "still runs"
        return no("stop", f"{color} could not be stopped: {failed or f'it {still}'}")
    return yes("stop", f"{color} is stopped")
