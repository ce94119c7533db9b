"""Preflight: everything that can be refused before anything is changed, each in one line."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cutover import wish
from cutover.changes.up import Previous
from cutover.core.config import Settings
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.verdict import Outcome, Verdict
from cutover.env.lint import lint_release
from cutover.gate.container_checks import health_budget
from cutover.gate.environment_checks import disk_room
from cutover.proxy.access_log import why_log_lacks
from cutover.proxy.ask import ProxyClient
from cutover.scene import Scene, release_path, tag_of
from cutover.state import Record, State, write_atomically
from cutover.system import compose, docker
from cutover.system.compose import Compose, Rendered
from cutover.system.container import Container
from cutover.system.files import is_private

LEAST_FREE_BYTES = 64 * 1024 * 1024
START_S = 10.0
who = wish.who


def problems(
    scene: Scene, rendered: Rendered, *, switching: bool, environment: Mapping[str, str]
) -> Iterator[str]:
    """What forbids to release *rendered*, the cheapest questions first; lazy, the first one is told."""
    settings = scene.settings
    env_file = settings.colors[rendered.color].env_file
    if not is_private(env_file):
        yield f"{env_file} can be read by others: chmod 600 {env_file}"
    yield from lint_release(settings, rendered, environment)
    free = disk_room(settings.state).free
    if free < LEAST_FREE_BYTES:
        needed = LEAST_FREE_BYTES // 2**20
        yield f"{settings.state}: {free // 2**20} MiB free, {needed} MiB needed to write the way back"
    yield from _ports(settings, rendered)
    if scene.proxy is not None:
        agreed = scene.proxy.agreed()
        if switching and agreed.outcome is not Outcome.YES:
            yield f"the proxy is not as we know it: {agreed.reason}"


def unseen(scene: Scene) -> Iterator[str]:
    """An access log that does not show what goes through the proxy: no failed request of a user would be seen."""
    proxy = scene.settings.proxy
    # A port swap has no proxy that could log.
    if proxy and proxy.access_log and scene.proxy and scene.proxy.keeps_old_color:
        why = why_log_lacks(proxy.access_log, ProxyClient.of(scene.settings).live)
        if why:
            yield f"proxy.access_log: {why}"


def _ports(settings: Settings, rendered: Rendered) -> Iterator[str]:
    """A port that somebody else holds: a recreate would remove the old container before it finds out."""
    ours = {each.id: each for each in docker.containers(rendered.project) if each.in_use}
    held = {port for each in ours.values() for port in each.published}
    for service in settings.services:
        for address, port in rendered.published(service):
            strangers = [each for each in docker.published_by(port) if each.id not in ours]
            if strangers:
                whose = strangers[0].labels.get("com.docker.compose.project", "none")
                yield (
                    f"port {port} of {rendered.color} is taken by the container {strangers[0].name} "
                    f"(project {whose})"
                )
            elif port not in held and not can_bind(port, address):
                yield f"port {port} of {rendered.color} is taken by another process on this host"


def can_bind(port: int, address: str = "127.0.0.1") -> bool:
    """Whether nobody listens on *port* of *address*; what only the engine may bind is free as far as we know."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def images_of(settings: Settings, rendered: Rendered, *, pull: bool = True) -> dict[str, str]:
    """Service → the ID of the image to run; raises ConfigError when one is nowhere, or for another machine.

    Without *pull* nothing is fetched, and the ID of an image that is not here is empty.
    """
    from cutover.system.registry import ensure_image, local_image

    names = {each: rendered.image(each) for each in (*settings.services, *settings.workers)}
    if pull:
        return {service: ensure_image(name).id for service, name in names.items()}
    here = {service: local_image(name) for service, name in names.items()}
    return {service: fact.id if fact else "" for service, fact in here.items()}


def previous_of(
    state: State, scene: Scene, color: str, *, keep: bool = True
) -> tuple[Previous | None, Record | None]:
    """How what runs on *color* now is put back; raises ConfigError when nobody could.

    The running container's config hash must be that of its recorded release, or of today's env file rendered with
    the running tag, which is then adopted and written down (with *keep*; a plan changes nothing).
    """
    settings = scene.settings
    project = settings.compose_project(color)
    running = {service: docker.the_container(project, service) for service in settings.services}
    main = running[settings.service]
    if main is None or not main.in_use:
        return None, None
    for record in reversed(state.records(color)):
        if (
            record.config_hash == main.config_hash
            and record.image == main.image
            and release_path(settings, color, record.file).is_file()
        ):
            return _previous(settings, color, record.file, running), record
    tag = tag_of(main.image_name)
    if tag is None:
        raise _no_way_back(color)
    adopted = compose.render(settings, color, tag)
    label = compose.config_hashes(Compose(project, Path("-")), adopted.text).get(settings.service)
    if label != main.config_hash:
        raise _no_way_back(color)
    name = f"adopted-{main.short}.yml"
    if keep:
        write_atomically(state.release_folder(color) / name, adopted.text)
    return _previous(settings, color, name, running), None


def _no_way_back(color: str) -> ConfigError:
    return ConfigError(
        f"{color} was started from a configuration that is no longer here; put it back, or --allow-no-rollback"
    )


def _previous(settings: Settings, color: str, name: str, running: Mapping[str, Container | None]) -> Previous:
    here = {service: each for service, each in running.items() if each is not None and each.in_use}
    # Who waits for what was not healthy before never gets done, and then nobody can release what would mend it.
    well = all(each.well for each in here.values())
    wait = max((wait_for(each.healthcheck) for each in here.values()), default=30.0) if well else 0.0
    return Previous(
        release_path(settings, color, name),
        {service: each.id for service, each in here.items()},
        {each.image_name: each.image for each in here.values() if tag_of(each.image_name)},
        wait,
    )


def wait_for(healthcheck: Mapping[str, Any]) -> float:
    """Longest wait for a healthy container, by its own HEALTHCHECK, and what the engine needs to start it."""
    return health_budget(healthcheck).seconds + START_S


def image_healthcheck(reference: str, rendered: Rendered, service: str) -> dict[str, object]:
    """The HEALTHCHECK that a container will have: the image's, with what the compose file says on top."""
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
    return dict(image) | over


BOOT_UNITS = ("/etc/systemd/system", "/lib/systemd/system", "/etc/cron.d", "/var/spool/cron/crontabs")


def surroundings(settings: Settings, *, watched: bool) -> Iterator[Verdict]:
    """What the watch would revert a good release for, though no release can help it."""
    from cutover.gate.environment_checks import disk, most_serious

    yield most_serious(disk(settings))
    if watched:
        from cutover.gate.alert_checks import alerts
        from cutover.gate.environment_checks import tls

        yield tls(settings)
        if settings.alerts is not None:
            # One that fires already may be why there is a release.
            yield alerts(settings.alerts, math.inf)


def fit(verdicts: Iterable[Verdict], report_only: Collection[str]) -> str:
    """What *verdicts* say, in one line; raises ConfigError for the first that is neither yes nor only reported."""
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
    """Whether a unit or a crontab of this host runs `cutover recover` after a reboot, as far as we may read them."""
    for folder in map(Path, folders):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.is_file() and "cutover recover" in path.read_text(encoding="utf-8", errors="replace"):
                    return True
    return False


def require(found: Iterator[str]) -> None:
    """Raise the first problem, if any; an engine that does not answer is one too."""
    try:
        first = next(found, None)
    except EngineUnavailable as error:
        raise ConfigError(str(error)) from error
    if first:
        raise ConfigError(first)
