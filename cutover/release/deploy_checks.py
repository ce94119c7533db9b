"""Preflight of a deploy: everything for which it is refused before anything is changed."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cutover.core.config import Settings
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.env.compose_rules import REFUSING, UNASKED, compose_findings, health_command_of, use_of
from cutover.env.lint import lint_release
from cutover.gate.environment_checks import disk_room
from cutover.release.colors import Colors, Situation, running_label
from cutover.release.migrate import rehearsal_problem
from cutover.release.plan import DeployPlan, without
from cutover.release.prune import pin_image
from cutover.release.running import previous_of
from cutover.release.transaction import Reporter
from cutover.system import compose, docker, process, swarm
from cutover.system.compose import Rendered
from cutover.system.container import Container, health_command
from cutover.system.files import is_private
from cutover.system.registry import ensure_image, local_image

if TYPE_CHECKING:
    from cutover.system.registry import ImageFact

MIN_FREE_BYTES = 64 * 1024 * 1024
PROJECT_LABELS = ("project", "project.working_dir", "project.config_files")


def check_deploy(situation: Situation, report: Reporter) -> DeployPlan:
    """Check and report what the deploy will run; raises ConfigError with all for which it is refused."""
    begun, settings = time.monotonic(), situation.settings
    with ThreadPoolExecutor(1) as pool:
        version = pool.submit(compose.require_compose)
        plan = plan_deploy(situation)
        version.result()
    image = plan.images[settings.service]
    undo = f"undo: {plan.undo}"
    if plan.previous is not None:
        undo = f"previous release {running_label(settings, plan.rendered.color)}{without(plan.previous)}"
    found = f"is {image[7:19]}" if image else "is not here: would be pulled"
    report.line("T-15m", "preflight", f"{plan.rendered.image(settings.service)} {found}; {undo}", begun)
    for unasked in unasked_lines(settings, plan):
        report.line("T-15m", "checks", unasked, None, "not asked")
    return plan


def plan_deploy(situation: Situation) -> DeployPlan:
    """What a deploy will run, and how what runs now is restored; raises ConfigError if the deploy is refused."""
    request, settings, color = situation.request, situation.settings, situation.color
    # Where nothing runs yet, there is nothing to replace.
    if request.targets[0] == situation.before.live and settings.proxy is not None and situation.before.image:
        way_out = "say --target=live to replace it in place, --target=idle to release without a gap"
        raise ConfigError(f"{color} is live: {way_out}")
    rendered = compose.render(settings, color, request.deploy)
    found = list[str]()
    try:
        found.extend(problems(situation.colors, rendered))
        if request.migrate:
            found.extend(one_off_problems(settings, rendered))
    except EngineUnavailable as error:
        found.append(str(error))
    if found:
        raise ConfigError("\n".join(dict.fromkeys(found)))
    facts = images_of(settings, rendered, migrate=request.migrate, pull=not request.plan)
    images = {service: image.id if image else "" for service, image in facts.items()}
    if settings.platform.kind == "swarm":
        require_platforms(settings, rendered)
        # Each node resolves a name by itself, maybe later, when the tag has moved.
        digests = {service: image.digest for service, image in facts.items() if image}
        rendered = compose.with_digests(rendered, digests)
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
    names = (*settings.services, *settings.workers)
    found = {each: docker.inspect_image(rendered.image(each)) for each in names}
    images = {each: image for each, image in found.items() if image}
    yield from map(str, compose_findings(use_of(settings, rendered, images=images), UNASKED))
    test = health_command_of(rendered.service(service), images.get(service))
    if service in images and not health_command(test):
        yield f"{service} has no HEALTHCHECK: {settings.ready.asked} takes its place"
    for each in settings.services if settings.platform.kind == "swarm" else ():
        if "@" not in (name := rendered.image(each)):
            yield f"{name} has no digest, because it is from no registry: each node runs what it has under this name"


def prepare_engine(settings: Settings, plan: DeployPlan) -> None:
    """Create the shared network and the Swarm's configs and secrets, and pin the images of the release."""
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
        yield f"{env_file} can be read by others: chmod 600 {shlex.quote(str(env_file))}"
    yield from lint_release(settings, rendered, os.environ)
    yield from compose_problems(colors, rendered)
    free = disk_room(settings.state).free
    if free < MIN_FREE_BYTES:
        needed = MIN_FREE_BYTES // 2**20
        yield f"{settings.state}: {free // 2**20} MiB free, {needed} MiB needed to write the undo of the release"
    yield from taken_ports(settings, rendered)


def one_off_problems(settings: Settings, rendered: Rendered) -> Iterator[str]:
    """Why a one-off container of the release cannot be run, one line each; raises EngineUnavailable."""
    there, migrate = rendered.model.get("services") or {}, settings.migrate
    if migrate and migrate.service not in there:
        has = f"the compose file of {rendered.color} has {', '.join(there)}"
        yield f"migrate.service in {settings.source} is {migrate.service!r}, and {has}"
        return
    if problem := rehearsal_problem(settings, rendered):
        yield problem
    if not rendered.is_stack:
        return
    services = compose.one_off_services(settings, rendered)
    try:
        model = compose.one_off_model(rendered, services, settings.state)
    except ConfigError as error:
        yield str(error)
        return
    joined: dict[str, str] = {}
    for service, each in model["services"].items():
        for key in each.get("networks") or ():
            joined.setdefault(key, service)
    for key, service in joined.items():
        name = str(model["networks"][key].get("name", key))
        found = docker.network(name)
        missing = found is None and name == settings.shared_network  # which the preflight makes
        if not missing and (problem := swarm.network_problem(key, name, found, service)):
            yield problem


def compose_problems(colors: Colors, rendered: Rendered) -> Iterator[str]:
    """Why the compose file cannot be released, one line each; names, ports and volumes only beside a live color."""
    live, settings = colors.live.color, colors.settings
    beside = colors.rendered.get(live) if live and live != rendered.color else None
    tag, running = rendered.variables.get(settings.env_keys.tag, ""), running_services(settings, rendered)
    use = use_of(settings, rendered, beside, tag=tag, running=running)
    if compose_findings(use, REFUSING):  # read once more: the file as it is written shows the line to change
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
    tasks = [docker.swarm_names(network) for network in networks] if rendered.is_stack else []
    return {name for each in there for name in (each.service, each.name)}.union(*tasks)


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
    folder = labels["project.working_dir"]
    same = here == Path(folder, files[0]).resolve() or here.parent == Path(folder or "/").resolve()
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


def require_platforms(settings: Settings, rendered: Rendered) -> None:
    """Raise ConfigError if a node of the Swarm may get a task whose image is for another kind of processor."""
    nodes, found = docker.swarm_nodes(), list[str]()
    for service in settings.services:
        name = rendered.image(service)
        image, deploy = docker.inspect_image(name), rendered.service(service).get("deploy") or {}
        if image is not None:
            platform = f"{image.get('Os', 'linux')}/{image.get('Architecture', '')}"
            constraints = (deploy.get("placement") or {}).get("constraints") or ()
            found.append(swarm.platform_problem(service, name, platform, constraints, nodes))
    if wrong := [*filter(None, found)]:
        raise ConfigError("\n".join(wrong))


def images_of(
    settings: Settings, rendered: Rendered, *, migrate: bool, pull: bool
) -> dict[str, ImageFact | None]:
    """Service -> its image; raises ConfigError for an image that does not exist or fits another machine.

    Without *migrate* no migration and no one-shot service is run. Without *pull* nothing is fetched, and there is none
    where the image is not on this host.
    """
    needed = compose.one_off_services if rendered.is_stack else compose.one_shots_of
    one_offs = needed(settings, rendered) if migrate else []
    names = {each: rendered.image(each) for each in (*settings.services, *settings.workers, *one_offs)}
    return {service: ensure_image(name) if pull else local_image(name) for service, name in names.items()}
