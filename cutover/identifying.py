"""What should run on a target, and whether exactly that came up and stays."""

from __future__ import annotations

from cutover import scene
from cutover.core.errors import Failed
from cutover.gate.container_checks import ExpectedIdentity
from cutover.state import write_atomically
from cutover.system import compose, docker, process
from cutover.system.compose import Compose
from cutover.system.container import Container
from cutover.target import Target
from cutover.walk import Walk


def expected(walk: Walk, target: Target) -> ExpectedIdentity:
    """The identity of *target*: container id, image ID, config hash and port.

    What this session deployed, else the last record of the color whose container runs; where nobody has recorded
    anything, today's env file rendered with the running tag.
    """
    color, project = target.color or "", target.project or ""
    pending = walk.pending
    if pending is not None and pending.color == color:
        return ExpectedIdentity(
            image=pending.image,
            container=pending.container,
            config_hash=pending.config_hash,
            port=target.port,
        )
    found = docker.the_container(project, target.service)
    for record in reversed(walk.state.records(color) if walk.settings.state.is_dir() else []):
        if found is not None and record.container == found.id:
            return ExpectedIdentity(
                image=record.image,
                container=record.container,
                config_hash=record.config_hash,
                port=target.port,
            )
    tag = scene.tag_of(found.image_name) if found else None
    rendered = compose.render(walk.settings, color, tag)
    return ExpectedIdentity(
        image=docker.image_id(rendered.image(target.service)) or "",
        container=found.id if found else "",
        config_hash=_hash(rendered, project, target.service),
        port=target.port,
    )


def _hash(rendered: compose.Rendered, project: str, service: str) -> str:
    """The config hash of today's files: Compose computes it from a file, so it gets one."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "release.yml"
        write_atomically(path, rendered.text)
        return compose.config_hashes(Compose(project, path)).get(service, "")


def identify(found: Container, image: str, config_hash: str) -> None:
    """What runs is what was asked for, or Failed."""
    if found.image != image:
        raise Failed(f"identity: expected image {image[7:19]}, {found.name} runs {found.image[7:19]}")
    if config_hash and found.config_hash != config_hash:
        raise Failed(
            f"identity: expected config hash {config_hash[:12]}, {found.name} has {found.config_hash[:12]}"
        )


def wait_stable(walk: Walk, found: Container, wait: float) -> None:
    """Healthy within its own HEALTHCHECK's budget, and no restart for `min_uptime` since its start."""
    from cutover.gate.container_checks import has_healthcheck, stays_up, wait_healthy

    # A worker may have no HEALTHCHECK: nobody sends it requests.
    if found.service == walk.settings.service or has_healthcheck(found):
        walk.require(wait_healthy(found.id, wait), "deploy::healthy")
    walk.require(stays_up(found, walk.settings.gate.min_uptime), "deploy::settled")


def not_up(
    walk: Walk, done: process.CompletedCommand, found: Container | None, waited: float, wait: float
) -> Failed:
    """What became of it, with its last words; they are kept as evidence."""
    from cutover.gate.container_checks import judge_not_started, with_log_tail

    verdict = judge_not_started(found, "healthy" if done.ok else done.last_line, waited, wait)
    if found is not None:
        verdict = with_log_tail(verdict, found.id)
    row = walk.evidence.check("deploy::up", walk.target.name, 0, verdict, waited)
    return Failed(f"{verdict.question}: {verdict.reason}", check=row.id)
