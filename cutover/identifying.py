"""What should run on a target: by this session's deploy, by the last record, or by today's env file."""

from __future__ import annotations

from cutover import compose, engine, scene
from cutover.compose import Compose
from cutover.probes.identity import Expected
from cutover.state import write_atomically
from cutover.target import Target
from cutover.walk import Walk


def expected(walk: Walk, target: Target) -> Expected:
    """The identity of *target*: container id, image ID, config hash and port.

    What this session deployed, else the last record of the colour whose container runs; where nobody has recorded
    anything, today's env file rendered with the running tag.
    """
    colour, project = target.colour or "", target.project or ""
    pending = walk.pending
    if pending is not None and pending.colour == colour:
        return Expected(
            image=pending.image,
            container=pending.container,
            config_hash=pending.config_hash,
            port=target.port,
        )
    found = engine.the_container(project, target.service)
    for record in reversed(walk.state.records(colour) if walk.settings.state.is_dir() else []):
        if found is not None and record.container == found.id:
            return Expected(
                image=record.image,
                container=record.container,
                config_hash=record.config_hash,
                port=target.port,
            )
    tag = scene.tag_of(found.image_name) if found else None
    rendered = compose.render(walk.settings, colour, tag)
    return Expected(
        image=engine.image_id(rendered.image(target.service)) or "",
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
        return compose.hashes(Compose(project, path)).get(service, "")
