"""The port swap inside a release: what it needs beforehand, what runs after it, and what its commit writes down."""

from __future__ import annotations

from dataclasses import replace

from cutover import preflight, scene
from cutover.core.errors import Failed
from cutover.env.envfile import rewrite_tag
from cutover.proxy.base import other
from cutover.proxy.port_swap import OWN_PORT_FILE, SWAPPED_FILE, write_swapped_releases
from cutover.state import Record, now, write_atomically
from cutover.system import docker
from cutover.system.container import Container
from cutover.walk import Walk


def swaps(walk: Walk) -> bool:
    """Whether the switch of this release is a port swap."""
    return walk.scene.proxy is not None and not walk.scene.proxy.keeps_old_color


def prepare(walk: Walk, to: str) -> None:
    """Write the releases of both colors as they are on the live port; raises ConfigError where one is unknown."""
    if not swaps(walk):
        return
    files = {}
    for color in (to, other(to)):
        previous, _ = preflight.previous_of(walk.state, walk.scene, color)
        if previous is not None:
            files[color] = previous.file
    if walk.pending is not None:
        files[to] = scene.release_path(walk.settings, to, walk.pending.file)
    write_swapped_releases(walk.state.root, files, walk.settings.service, walk.scene.port(other(to)))
    own = scene.release_path(walk.settings, to, OWN_PORT_FILE)
    # What this release deployed is reverted by its own undo: started once more it could fail, and stop that one.
    if walk.deployed or to not in files:
        own.unlink(missing_ok=True)
    else:
        write_atomically(own, files[to].read_text(encoding="utf-8"))


def wait_stable(walk: Walk, to: str) -> None:
    """What runs on the live port now is what will be recorded; raises Failed when nothing does."""
    if not swaps(walk):
        return
    project, service = walk.settings.compose_project(to), walk.settings.service
    found = docker.the_container(project, service)
    if found is None or not found.running:
        raise Failed(f"after the switch no container of {to} runs")
    name = f"swapped-{found.short}.yml"
    text = scene.release_path(walk.settings, to, SWAPPED_FILE).read_text(encoding="utf-8")
    write_atomically(scene.release_path(walk.settings, to, name), text)
    base = walk.pending or next(
        (each for each in reversed(walk.state.records(to)) if each.image == found.image), _first(found, to)
    )
    walk.pending = replace(base, container=found.id, config_hash=found.config_hash, file=name)


def _first(found: Container, color: str) -> Record:
    tag = scene.tag_of(found.image_name) or ""
    return Record(
        color, tag, found.image, found.config_hash, found.id, "", proven=False, by=preflight.who(), at=now()
    )


def commit(walk: Walk) -> None:
    """Make the env files say which color has the users' port now, as the runbook has it; at commit only."""
    proxy, to = walk.scene.proxy, walk.target.color
    if proxy is None or to is None:
        return
    ports = {color: each.port(walk.settings.service) for color, each in walk.scene.rendered.items()}
    for color, port in proxy.on_commit(to, ports).items():
        if color in walk.scene.rendered:
            rewrite_tag(walk.settings.colors[color].env_file, walk.settings.env_keys.port, str(port))
