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
        return Expected(pending.container, pending.image, pending.config_hash, target.port)
    found = engine.the_container(project, target.service)
    for record in reversed(walk.state.records(colour) if walk.settings.state.is_dir() else []):
        if found is not None and record.container == found.id:
            return Expected(record.container, record.image, record.config_hash, target.port)
    tag = scene.tag_of(found.image_name) if found else None
    rendered = compose.render(walk.settings, colour, tag)
    return Expected(
        found.id if found else "",
        engine.image_id(rendered.image(target.service)) or "",
        _hash(walk, rendered, project, target.service),
        target.port,
    )


def _hash(walk: Walk, rendered: compose.Rendered, project: str, service: str) -> str:
    """The config hash of today's files: Compose computes it from a file, so it gets one."""
    import tempfile
    from pathlib import Path

    del walk
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "release.yml"
        write_atomically(path, rendered.text)
        return compose.hashes(Compose(project, path)).get(service, "")
