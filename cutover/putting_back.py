"""What a failed gate does with a release that is not proven: the color's last proven one, and the traffic, go back."""

from __future__ import annotations

import json

from cutover import scene, switching, way_back
from cutover.changes import Change
from cutover.changes.up import Previous
from cutover.changes.up import put_back as up_undo
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable
from cutover.state import Record
from cutover.system import docker
from cutover.walk import Walk


def wanted(walk: Walk) -> Record | None:
    """The color's last proven release, unless exactly a proven one runs, or what runs cannot be asked."""
    color = walk.target.color
    if color is None or len(walk.request.targets) != 1 or not walk.settings.state.exists():
        return None
    good = [row for row in walk.state.records(color) if row.proven]
    try:
        found = docker.the_container(walk.target.project or "", walk.settings.service)
    except EngineUnavailable:
        return None
    if found is not None and any(row.is_running(found.id, found.image, found.config_hash) for row in good):
        return None
    return good[-1] if good else None


def open_release(walk: Walk, record: Record) -> None:
    """Open a release whose only content is its undo: *record* is put back, and where it must the traffic goes back.

    From the first moment the journal says what users are to have, for whoever reverts it.
    """
    settings, color = walk.settings, record.color
    path = scene.release_path(settings, color, record.file)
    if not path.is_file() or docker.image_id(record.image) is None:
        raise ConfigError(
            f"{color}: the proven release {record.tag} cannot be put back, its file or image is gone"
        )
    reference = str(json.loads(path.read_text(encoding="utf-8"))["services"][settings.service]["image"])
    # Of the others the record knows no container: they are started anew from the file.
    ran = dict.fromkeys(settings.services, record.container)
    previous = Previous(path, ran, {reference: record.image}, settings.gate.start_timeout or 60.0)
    undo = up_undo(walk.state.root, settings.compose_project(color), settings.services, previous)
    walk.put_back, to = record, lived_before(walk)
    if to is not None:
        way_back.note(settings, walk.state, color, way_back.on_top)
        walk.before, walk.from_tag = to.color, to.tag
        walk.apply(switching.goes_back(walk, to.color))
    elif color == walk.before or walk.before is None:
        walk.from_tag = record.tag
    walk.apply(Change("put back", f"{record.tag} on {color}, the last proven release", ("true",), undo, 30.0))


def lived_before(walk: Walk) -> Record | None:
    """Where the traffic goes back to, when a person sent it to what fails its gate; None where it stays."""
    proxy = walk.scene.proxy
    if proxy is None or walk.before != walk.target.color or not proxy.agreed().ok:
        return None
    try:
        return way_back.before_a_person(walk.state, walk.scene)
    except (CutoverError, EngineUnavailable):
        return None
