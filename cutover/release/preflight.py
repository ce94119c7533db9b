"""Preflight: everything for which a release is refused before anything is changed."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutover.core.check_names import OFF
from cutover.core.config import Settings
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.masking import MASK
from cutover.core.verdict import Outcome, Verdict
from cutover.env.compose_rules import REFUSING, UNASKED, compose_findings, health_command_of, use_of
from cutover.env.lint import lint_release
from cutover.gate.container_checks import READY_BUDGET_S, health_budget
from cutover.gate.environment_checks import disk, disk_room, most_serious, tls
from cutover.proxy.access_log import why_log_lacks
from cutover.proxy.base import Proxy, ProxyClient
from cutover.release.changes import PreviousRelease
from cutover.release.colors import Colors, Situation, can_tag, in_use, running_tag, tag_of
from cutover.release.compare import require_readable
from cutover.release.gate_run import without_checks
from cutover.release.history import ADOPTED
from cutover.release.hold import Moment
from cutover.release.plan import DeployPlan, ReleasePlan, without
from cutover.release.prune import pin_image
from cutover.release.state import State
from cutover.release.transaction import Reporter
from cutover.system import adopted, compose, docker, process, swarm
from cutover.system.adopted import Adopted
from cutover.system.compose import Compose, Rendered, has_known_hash
from cutover.system.container import Container, health_command, proves_nothing
from cutover.system.files import is_private, write_atomically

MIN_FREE_BYTES = 64 * 1024 * 1024
ENGINE_START_S = 10.0
PROJECT_LABELS = ("project", "project.working_dir", "project.config_files")


def preflight(situation: Situation, report: Reporter) -> ReleasePlan:
    """Check everything for which the release is refused, and find how both colors are restored.

    Raises ConfigError with nothing changed: no container, no traffic, no data. Images are pulled and pinned, and the
    shared network is created, unless only a plan is asked for.
    """
    request, settings = situation.request, situation.settings
    require_readable(settings)
    old = None
    if request.switch:
        require_named_color(situation.colors)
        old = check_switch(situation)
        if problem := log_problem(situation.colors):
            raise ConfigError(problem)
    users_get_it = request.switch or settings.proxy is None or situation.color == situation.before.live
    if request.hold_s is not None and not users_get_it:
        why = f"{situation.color} gets no traffic, so there is nothing that users could lose"
        raise ConfigError(f"--hold without --switch: {why}; add --switch, or leave --hold out")
    deploy = _check_deploy(situation, report) if request.deploy is not None else None
    if request.changes_something and request.rollback:  # a rollback must not be refused for a certificate
        begun, paths = time.monotonic(), list(request.paths)
        watched = request.switch or without_checks(paths) != paths
        text = require_fit(environment_verdicts(settings, watched=watched), settings.checks.report_only)
        report.line("T-15m", "surroundings", text or OFF, begun)
    if deploy is not None and not request.plan:
        _prepare_engine(settings, deploy)
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


def require_named_color(colors: Colors) -> None:
    """Raise ConfigError if no response names the color that answered: a switch could not be verified."""
    if colors.proxy is not None and (problem := colors.proxy.color_problem()):
        raise ConfigError(f"[proxy] color_header: {problem}")


def log_problem(colors: Colors) -> str:
    """Why `[proxy] access_log` does not show the requests of users, whose failures would go unnoticed; or empty."""
    proxy = colors.settings.proxy
    # A port swap has no proxy that could log.
    if proxy and proxy.access_log and colors.proxy and colors.proxy.keeps_old_color:
        why = why_log_lacks(proxy.access_log, ProxyClient.of(colors.settings).ask_marked)
        return f"[proxy] access_log: {why}" if why else ""
    return ""


def _check_deploy(situation: Situation, report: Reporter) -> DeployPlan:
    begun, settings = time.monotonic(), situation.settings
    if settings.platform.kind == "swarm":
        swarm.require_manager()
    with ThreadPoolExecutor(1) as pool:
        version = pool.submit(compose.require_compose)
        plan = plan_deploy(situation)
        version.result()
    image = plan.images[settings.service]
    undo = f"undo: {plan.undo}"
    if plan.previous is not None:
        undo = f"previous release {running_tag(settings, plan.rendered.color)}{without(plan.previous)}"
    found = f"is {image[7:19]}" if image else "is not here: would be pulled"
    report.line("T-15m", "preflight", f"{plan.rendered.image(settings.service)} {found}; {undo}", begun)
    for unasked in unasked_lines(settings, plan):
        report.line("T-15m", "checks", unasked, None, "not asked")
    if not recovers_at_boot():
        text = "nothing runs `cutover recover` after a reboot of this host: install deploy/cutover-recover.service"
        report.line("T-15m", "boot", text, None, "not asked")
    return plan


def plan_deploy(situation: Situation) -> DeployPlan:
    """What a deploy will run, and how what runs now is restored; raises ConfigError if the deploy is refused."""
    request, settings, color = situation.request, situation.settings, situation.color
    # Where nothing runs yet, there is nothing to replace.
    if request.targets[0] == situation.before.live and settings.proxy is not None and situation.before.image:
        raise ConfigError(
            f"{color} is live: say --target=live to replace it in place, --target=idle to release without a gap"
        )
    rendered = compose.render(settings, color, request.deploy)
    found = dict[str, None]()
    try:
        for problem in problems(situation.colors, rendered):
            found[problem] = None
    except EngineUnavailable as error:
        found[str(error)] = None
    if found:
        raise ConfigError("\n".join(found))
    images = images_of(settings, rendered, pull=not request.plan)
    previous, unrestorable, exact = None, "", not request.allow_no_rollback
    try:
        previous = previous_of(situation.colors, color, keep=not request.plan, exact=exact)
    except ConfigError as error:
        if exact:
            raise
        unrestorable = str(error)
    return DeployPlan(request.deploy or "", rendered, images, previous, unrestorable)


def unasked_lines(settings: Settings, plan: DeployPlan) -> Iterator[str]:
    """What the checks of this release cannot ask, or ask in another way, one line each."""
    rendered, service = plan.rendered, settings.service
    found = {
        each: docker.inspect_image(rendered.image(each)) for each in (*settings.services, *settings.workers)
    }
    images = {each: image for each, image in found.items() if image}
    yield from map(str, compose_findings(use_of(settings, rendered, images=images), UNASKED))
    if service in images and not health_command(
        health_command_of(rendered.service(service), images[service])
    ):
        yield f"{service} has no HEALTHCHECK: {settings.ready.asked} takes its place"


def _prepare_engine(settings: Settings, plan: DeployPlan) -> None:
    images = {*plan.images.values(), *(plan.previous.images.values() if plan.previous else ())}
    with ThreadPoolExecutor(3) as pool:  # each is a command of 0.1 s that waits for the engine
        done = [pool.submit(create_network, settings)] if settings.shared_network else []
        done += [pool.submit(pin_image, settings.project, each) for each in images]
        done += [pool.submit(swarm.create_content, settings.project, each) for each in plan.rendered.contents]
    for each in done:
        each.result()


def create_network(settings: Settings) -> None:
    """Create the network that both colors share, if it does not exist; raises ConfigError."""
    name = settings.shared_network
    kind = ("--driver", "overlay", "--attachable") if settings.platform.kind == "swarm" else ()
    if process.run(("docker", "network", "inspect", name), deadline_s=15).ok:
        return
    done = process.run(("docker", "network", "create", *kind, name), deadline_s=30)
    if not done.ok:
        raise ConfigError(f"the network {name} (shared_network) cannot be created: {done.last_line}")


def problems(colors: Colors, rendered: Rendered) -> Iterator[str]:
    """Why *rendered* cannot be released, one line each; raises EngineUnavailable."""
    settings = colors.settings
    env_file = settings.colors[rendered.color].env_file
    if not is_private(env_file):
        yield f"{env_file} can be read by others: chmod 600 {env_file}"
    yield from lint_release(settings, rendered, os.environ)
    yield from compose_problems(colors, rendered)
    free = disk_room(settings.state).free
    if free < MIN_FREE_BYTES:
        needed = MIN_FREE_BYTES // 2**20
        yield f"{settings.state}: {free // 2**20} MiB free, {needed} MiB needed to write the undo of the release"
    yield from taken_ports(settings, rendered)


def compose_problems(colors: Colors, rendered: Rendered) -> Iterator[str]:
    """Why the compose file cannot be released, one line each; names, ports and volumes only beside a live color."""
    live, settings = colors.live.color, colors.settings
    beside = colors.rendered.get(live) if live and live != rendered.color else None
    tag, running = rendered.variables.get(settings.env_keys.tag, ""), running_services(settings, rendered)
    use = use_of(settings, rendered, beside, tag=tag, running=running)
    if compose_findings(
        use, REFUSING
    ):  # read once more, because the file as it is written shows the line to change
        use = replace(use, source=compose.read_source(settings, rendered.color))
    yield from map(str, compose_findings(use, REFUSING))


def running_services(settings: Settings, rendered: Rendered) -> set[str] | None:
    """The services that run in the project of *rendered*, or in any on a network that a service of it joins.

    None if no released service depends on one that is not released; raises EngineUnavailable.
    """
    released = {*settings.services, *settings.workers, *rendered.one_shots(settings.services)}
    if not {other for each in released for other in rendered.depends_on(each)} - released:
        return None
    networks = {
        str(((rendered.model.get("networks") or {}).get(key) or {}).get("name", key))
        for each in released
        for key in (rendered.model["services"].get(each) or {}).get("networks") or {}
    }
    beside = [each for network in sorted(networks) for each in docker.joined(network)]
    there = [each for each in (*docker.containers(rendered.project), *beside) if each.running]
    return {name for each in there for name in (each.service, each.name)}


def taken_ports(settings: Settings, rendered: Rendered) -> Iterator[str]:
    """Why a port that *rendered* publishes is not free, one line each; raises EngineUnavailable."""
    # Compose would remove the old container before it notices that the port is taken.
    ours = {each.id: each for each in docker.containers(rendered.project) if each.in_use}
    held = {port for each in ours.values() for port in each.published}
    for service in settings.services:
        for address, port in rendered.published(service):
            strangers = [each for each in docker.published_by(port) if each.id not in ours]
            if strangers:
                yield f"port {port} of {rendered.color} is taken by {whose(settings, rendered, strangers[0])}"
            elif settings.platform.kind == "swarm":
                continue  # it is published by the nodes, and this host may be none
            elif port not in held and not can_bind(port, address):
                yield f"port {port} of {rendered.color} is taken by another process on this host"


def whose(settings: Settings, rendered: Rendered, stranger: Container) -> str:
    """Which container has a port of *rendered*, and how it is taken over if it is the same service."""
    labels = {key: stranger.labels.get(f"com.docker.compose.{key}", "") for key in PROJECT_LABELS}
    project = labels["project"]
    said = f"the container {stranger.name} (project {project or 'none'})"
    files = labels["project.config_files"].split(",")
    here = settings.compose_file.resolve()
    same = here == Path(labels["project.working_dir"], files[0]).resolve() or (
        here.parent == Path(labels["project.working_dir"] or "/").resolve()
    )
    others = [settings.compose_project(color) for color in settings.colors if color != rendered.color]
    if not project or project in others or not same or stranger.service not in settings.services:
        return said
    where = f'[colors.{rendered.color}] project = "{project}" in {settings.source.name}'
    return f"{said}, which is {stranger.service} of this compose file: {where} takes it over"


def can_bind(port: int, address: str = "127.0.0.1") -> bool:
    """Whether no process listens on *port* of *address*; True too for a port that only root may bind."""
    if address in {"", "0.0.0.0"} and not can_bind(port, "::"):  # noqa: S104  the engine binds both families
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def images_of(settings: Settings, rendered: Rendered, *, pull: bool = True) -> dict[str, str]:
    """Service -> the ID of its image; raises ConfigError for an image that does not exist or fits another machine.

    Without *pull* nothing is fetched, and the ID of an image that is not on this host is empty.
    """
    from cutover.system.registry import ensure_image, local_image

    one_shots = compose.one_shots_of(settings, rendered)
    names = {each: rendered.image(each) for each in (*settings.services, *settings.workers, *one_shots)}
    found = {service: ensure_image(name) if pull else local_image(name) for service, name in names.items()}
    return {service: image.id if image else "" for service, image in found.items()}


def previous_of(
    colors: Colors, color: str, *, keep: bool = True, exact: bool = True
) -> PreviousRelease | None:
    """How to restore what runs on *color* now, None if nothing runs; raises ConfigError if it cannot be restored.

    From its recorded release file; else from the compose file, if that makes the same containers; else from a file
    that is made of the containers themselves. One that is not recorded is written down, unless *keep* is False (for
    a plan). With *exact* it is an error if a compose file cannot say all that a container has.
    """
    settings, state = colors.settings, State(colors.settings.state)
    project = settings.compose_project(color)
    running = docker.by_service(project, settings.services)
    main = running[settings.service]
    if main is None or not main.in_use:
        return None
    ran = in_use(running)
    if gone := next((each for each in ran.values() if docker.image_id(each.image) is None), None):
        what = f"{gone.image_name} ({gone.image[7:19]}), which {gone.name} runs"
        raise ConfigError(f"the image {what}, is no longer on this host: pull it, or --allow-no-rollback")
    wait_s = max(wait_for(each.healthcheck) for each in ran.values())
    for record in reversed(state.records(color)):
        path = state.release_path(color, record.file)
        if record.matches(main) and path.is_file():
            return PreviousRelease.of(path, ran, wait_s)
    text = _made_by_compose_file(settings, color, ran)
    lost: tuple[str, ...] = ()
    if text is None and settings.platform.kind == "swarm":
        what = f"{color} runs {main.image_name}, and no recorded release file says how"
        raise ConfigError(f"{what}: deploy the tag that runs there first, or --allow-no-rollback")
    if text is None:
        found = adopt_containers(project, ran | in_use(docker.by_service(project, settings.workers)))
        text, lost = found.text, found.lost
        MASK.learn_environment(found.environment, settings.env_keys.public)
    if lost and exact:
        what = f"no compose file can say what it has: {', '.join(lost)}"
        way_out = "put that configuration back, or --allow-no-rollback restores it without"
        raise ConfigError(
            f"{color} was started from a configuration that is no longer here, and {what}; {way_out}"
        )
    path = state.release_path(color, f"{ADOPTED}{main.short}.yml")
    if keep:
        state.release_folder(color)
        write_atomically(path, text)
    return PreviousRelease.of(path, ran, wait_s, text=text, lost=lost)


def _made_by_compose_file(settings: Settings, color: str, ran: Mapping[str, Container]) -> str | None:
    """The compose file rendered with the running tag, None if it does not make the containers that *ran*."""
    tag = tag_of(ran[settings.service].image_name)
    if tag is None:
        return None
    try:
        rendered = compose.render(settings, color, tag)
        hashes = hashes_of(rendered)
    except ConfigError:
        return None
    same = all(hashes.get(service, each.config_hash) == each.config_hash for service, each in ran.items())
    return rendered.text if same else None


def adopt_containers(project: str, ran: Mapping[str, Container]) -> Adopted:
    """The compose file that makes the containers that *ran* again; raises EngineUnavailable."""
    services = {}
    for service, each in ran.items():
        name = each.image_name
        named = can_tag(name) or docker.image_id(name) == each.image
        services[service] = adopted.Running(
            attributes=docker.attributes(each.id),
            image=docker.inspect_image(each.image) or {},
            reference=name if named else each.image,
            replicas=sum(there.in_use for there in docker.replicas(project, service)),
        )
    return adopted.adopt(project, services)


def hashes_of(rendered: Rendered) -> dict[str, str]:
    """Service -> the config hash that Compose gives its container; without those that cannot be known beforehand."""
    found = rendered.hashes or compose.config_hashes(Compose(rendered.project, Path("-")), rendered.text)
    return {service: each for service, each in found.items() if has_known_hash(rendered.service(service))}


def wait_for(healthcheck: Mapping[str, Any]) -> float:
    """Seconds within which a container must be healthy, or ready if it has no HEALTHCHECK that asks something.

    The time that the engine needs is added.
    """
    asks = health_command(healthcheck.get("Test") or ())
    own = health_budget(healthcheck).seconds if asks and not proves_nothing(asks) else READY_BUDGET_S
    return own + ENGINE_START_S


def image_healthcheck(reference: str, rendered: Rendered, service: str) -> dict[str, object]:
    """The HEALTHCHECK that a container will have: that of the image, overridden by the Compose file."""
    from cutover.core.config_schema import parse_duration

    image = (docker.inspect_image(reference) or {}).get("Config", {}).get("Healthcheck") or {}
    said = rendered.service(service).get("healthcheck") or {}
    names = {"start_period": "StartPeriod", "interval": "Interval", "timeout": "Timeout"}
    over: dict[str, object] = {
        ours: parse_duration(str(said[theirs])) * 1e9
        for theirs, ours in names.items()
        if said.get(theirs) not in {None, "0s"}
    }
    if said.get("retries"):
        over["Retries"] = int(said["retries"])
    if test := health_command_of(rendered.service(service)):
        over["Test"] = test
    return dict(image) | over


BOOT_UNITS = ("/etc/systemd/system", "/lib/systemd/system", "/etc/cron.d", "/var/spool/cron/crontabs")


def environment_verdicts(settings: Settings, *, watched: bool) -> Iterator[Verdict]:
    """Verdicts on what the release cannot change and the watch would revert it for: disk, certificate, alerts."""
    off = settings.checks.off
    if "disk" not in off:
        yield most_serious(disk(settings))
    if watched:
        if "tls" not in off:
            yield tls(settings)
        if settings.alerts is not None and "alerts" not in off:
            from cutover.gate.alert_checks import alerts

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
