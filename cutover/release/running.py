"""What runs on a color now: its identity, its log until it was verified, and how it is restored.

It is restored by its recorded release file, by the compose file, or by a file that is made of its containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.masking import MASK
from cutover.core.target import Target
from cutover.core.text import seconds_of
from cutover.gate.container_checks import READY_BUDGET_S, ExpectedIdentity, health_budget
from cutover.gate.log_checks import LogWindow, baseline_until_verified
from cutover.release.changes import PreviousRelease
from cutover.release.colors import Colors, can_tag, in_use, main_container, replicas_of, tag_of
from cutover.release.history import ADOPTED, Record
from cutover.release.state import State
from cutover.system import compose, docker
from cutover.system.compose import Compose, Rendered, has_known_hash
from cutover.system.container import Container, health_command, proves_nothing
from cutover.system.files import write_atomically

if TYPE_CHECKING:
    from cutover.system.adopted import Adopted

ENGINE_START_S = 10.0


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
    replicas = replicas_of(settings, color, settings.services)
    for record in reversed(state.records(color)):
        path = state.release_path(color, record.file)
        if record.matches(main) and path.is_file():
            return PreviousRelease.of(path, ran, wait_s, replicas=replicas)
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
        why = f"{color} was started from a configuration that is no longer here"
        raise ConfigError(f"{why}, and {what}; {way_out}")
    path = state.release_path(color, f"{ADOPTED}{main.short}.yml")
    if keep:
        state.release_folder(color)
        write_atomically(path, text)
    return PreviousRelease.of(path, ran, wait_s, text=text, lost=lost, replicas=replicas)


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
    from cutover.system import adopted  # only for what no recorded file says

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


def identity_of_target(settings: Settings, target: Target, record: Record | None) -> ExpectedIdentity:
    """The identity that *target* should have: container id, image ID, config hash and port.

    By *record*, what this session deployed to the color; else by the last record of what runs there, whose release
    file a revert has started again perhaps; else by the env file rendered with the running tag.
    """
    color = target.color or ""
    found = main_container(settings, color)
    if record is not None and record.color == color:
        return ExpectedIdentity(record.image, record.container, record.config_hash, target.port)
    if found is not None:
        started = [row for row in State(settings.state).records(color) if row.started(found)]
        if started:
            return ExpectedIdentity(started[-1].image, found.id, port=target.port)
    rendered = compose.render(settings, color, tag_of(found.image_name) if found else None)
    image, hashes = docker.image_id(rendered.image(target.service)), hashes_of(rendered)
    container = found.id if found else ""
    return ExpectedIdentity(image or "", container, hashes.get(target.service, ""), target.port)


def baselines_of_verified(settings: Settings, color: str) -> dict[str, LogWindow]:
    """Service -> its log until the release that runs on *color* was verified; empty if it is not verified."""
    found = docker.by_service(settings.compose_project(color), settings.services)
    record = State(settings.state).verified_record(color, found[settings.service])
    if record is None:
        return {}
    at = seconds_of(record.at)
    kept = {each: baseline_until_verified(there, at, settings.logs) for each, there in found.items() if there}
    return {service: baseline for service, baseline in kept.items() if baseline}
