"""Preflight: everything for which a release is refused before anything is changed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.config_schema import OFF
from cutover.core.errors import ConfigError
from cutover.core.verdict import Outcome, Verdict
from cutover.proxy.access_log import access_logs, why_log_lacks
from cutover.proxy.base import Proxy, clients
from cutover.release.changes import PreviousRelease
from cutover.release.colors import Colors, Situation
from cutover.release.compare import require_readable
from cutover.release.gate_run import without_checks
from cutover.release.history import Moment
from cutover.release.plan import ReleasePlan
from cutover.release.running import previous_of
from cutover.release.state import State
from cutover.release.transaction import Reporter
from cutover.system import swarm
from cutover.system.nodes import nodes_of
from cutover.system.process import of_each


def preflight(situation: Situation, report: Reporter) -> ReleasePlan:
    """Check everything for which the release is refused, and find how both colors are restored.

    Raises ConfigError with nothing changed: no container, no traffic, no data. Images are pulled and pinned, and the
    shared network is created, unless only a plan is asked for.
    """
    request, settings = situation.request, situation.settings
    require_readable(settings)
    if settings.platform.kind == "swarm" and (request.deploy is not None or settings.platform.nodes):
        swarm.require_manager()
        nodes_of(settings.platform)
    old = None
    if request.switch:
        proxy = situation.colors.proxy
        if proxy is not None and (problem := proxy.color_problem()):  # a switch could not be verified
            raise ConfigError(f"[proxy] color_header: {problem}")
        old = check_switch(situation)
        if problem := log_problem(situation.colors):
            raise ConfigError(problem)
    users_get_it = request.switch or settings.proxy is None or situation.color == situation.before.live
    if request.hold_s is not None and not users_get_it:
        why = f"{situation.color} gets no traffic, so there is nothing that users could lose"
        raise ConfigError(f"--hold without --switch: {why}; add --switch, or leave --hold out")
    deploy = None
    if request.deploy is not None:
        from cutover.release.deploy_checks import check_deploy, prepare_engine  # a gate does not need them

        deploy = check_deploy(situation, report)
        if not recovers_at_boot():
            text = "nothing runs `cutover recover` after a reboot of this host: install deploy/cutover-recover.service"
            report.line("T-15m", "boot", text, None, "not asked")
    if request.changes_something and request.rollback:  # a rollback must not be refused for a certificate
        begun, paths = time.monotonic(), list(request.paths)
        watched = request.switch or without_checks(paths) != paths
        text = require_fit(environment_verdicts(settings, watched=watched), settings.checks.report_only)
        report.line("T-15m", "surroundings", text or OFF, begun)
    if deploy is not None and not request.plan:
        prepare_engine(settings, deploy)
    return ReleasePlan(deploy, old)


def check_switch(situation: Situation) -> PreviousRelease | None:
    """How the live color is started again before traffic goes back to it; raises ConfigError if a switch is refused."""
    proxy = situation.colors.proxy
    if proxy is None:
        raise ConfigError(f"--switch: {situation.settings.source} has no [proxy]")
    require_agreed(proxy)
    color, live = situation.color, situation.before.live
    if live is None:
        raise ConfigError(f"--switch: {situation.colors.live.how}")
    if color == live:
        raise ConfigError(f"--switch to {color}: it is live already; say --target=idle")
    request = situation.request
    return previous_of(situation.colors, live, keep=not request.plan, exact=not request.allow_no_rollback)


def require_agreed(proxy: Proxy) -> None:
    """Raise ConfigError unless the proxy's answer and its marker name the same color."""
    agreed = proxy.agreed()
    if not agreed.ok:
        raise ConfigError(f"it is not certain which color is live: {agreed.reason}")


def log_problem(colors: Colors) -> str:
    """Why `[proxy] access_log` does not show the requests of users, whose failures would go unnoticed; or empty."""
    logs, settings = access_logs(colors.settings), colors.settings
    # A port swap has no proxy that could log.
    if not logs or colors.proxy is None or not colors.proxy.keeps_old_color:
        return ""
    asked = clients(settings)
    found = of_each(lambda log: why_log_lacks(log, asked[log.place].ask_marked), logs)
    why = "; ".join(filter(None, found))
    return f"[proxy] access_log: {why}" if why else ""


BOOT_UNITS = ("/etc/systemd/system", "/lib/systemd/system", "/etc/cron.d", "/var/spool/cron/crontabs")


def environment_verdicts(settings: Settings, *, watched: bool) -> Iterator[Verdict]:
    """Verdicts on what the release cannot change and the watch would revert it for: disk, certificate, alerts."""
    from cutover.gate.environment_checks import alerts, disk, most_serious, tls

    off = settings.checks.off
    if "disk" not in off:
        yield most_serious(disk(settings))
    if watched:
        if "tls" not in off:
            yield tls(settings)
        if settings.alerts is not None and "alerts" not in off:
            # An alert that fires already may be the reason for the release.
            yield alerts(settings.alerts, math.inf)


def require_fit(verdicts: Iterable[Verdict], report_only: Collection[str]) -> str:
    """*verdicts* in one line; raises ConfigError for the first that is neither yes nor in *report_only*."""
    said = []
    for each in verdicts:
        if each.outcome is Outcome.NOT_ASKED:
            continue
        line = f"{each.question}: {each.reason}"
        if each.outcome is not Outcome.YES and each.question not in report_only:
            way_out = f'report_only = ["{each.question}"] in [checks] releases all the same'
            raise ConfigError(f"{line}; the watch would revert the release for it: {way_out}")
        said.append(line)
    return "; ".join(said)


def recovers_at_boot(folders: tuple[str, ...] = BOOT_UNITS) -> bool:
    """Whether a readable unit or crontab of this host runs `cutover recover` after a reboot."""
    for folder in map(Path, folders):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.is_file() and "cutover recover" in path.read_text(encoding="utf-8", errors="replace"):
                    return True
    return False


# --- sessions that died ----------------------------------------------------------------------------------------------
def report_obstacles(state: State, report: Reporter) -> None:
    """For a plan: report why a release would be refused now, or which open release it would revert first."""
    if state.session_runs():
        report.line("", "plan", f"would be refused now: {state.lock_line()}", None, "unknown")
    elif (held := state.held()) is not None:
        text = f"would be refused now: {held.line(Moment.now())}: {held.way_out}"
        report.line("", "plan", text, None, "unknown")
    elif (left := state.open_release()) is not None:
        text = f"release {left} of a session that died is open: would first revert it by {state.root / 'undo.sh'}"
        report.line("", "plan", text, None, "unknown")


def recover_dead_session(state: State, report: Reporter) -> None:
    """Revert the open release of a session that died; raises OperatorNeeded, and Locked if it is held on purpose.

    The caller holds the lock.
    """
    left, owner, begun = state.open_release(), state.owner(), time.monotonic()
    if left is None:
        return
    state.require_not_held()
    state.recover(left)
    text = f"the release {left} of a session that died was reverted; going on"
    report.line("T-15m", "recover", text, begun)
    report.evidence.fact("recovered", {"release": left, "owner": owner})
