"""The data's part of a release: a snapshot that was restored, the new schema tried on it, then the migration."""

from __future__ import annotations

import time
from pathlib import Path

from cutover import again
from cutover.core.errors import ConfigError, Failed, Inconclusive, OperatorNeeded
from cutover.core.verdict import Outcome
from cutover.database.base import ServiceDatabase
from cutover.system import compose
from cutover.system.compose import Rendered
from cutover.walk import Walk


def prepare(walk: Walk, new: Rendered, release_file: Path) -> None:
    """Snapshot, rehearse on its restored copy, migrate; raises ConfigError, Failed, Inconclusive or OperatorNeeded.

    Until the migration nothing is changed; the migration itself has no undo, the schema stays.
    """
    settings = walk.settings
    if not walk.request.migrate or (settings.migrate is None and not settings.snapshot.enabled):
        return
    data = ServiceDatabase(settings, new, walk.state.root)
    try:
        if settings.snapshot.enabled and data.available():
            _snapshot(walk, data)
            if settings.migrate is not None and settings.snapshot.rehearse:
                _rehearse(walk, data, new)
            data.drop_scratch()
        elif settings.snapshot.enabled:
            walk.told("T-15m", "snapshot", "there is no database yet: nothing to snapshot", None)
        if settings.migrate is not None:
            _migrate(walk, data, new, release_file)
    finally:
        data.close()


def _snapshot(walk: Walk, data: ServiceDatabase) -> None:
    """Take, restore, compare, rotate."""
    with walk.telling("T-15m", "snapshot") as words:
        done = walk.apply(data.snapshot_change())
        if not done.ok:
            raise Failed(f"the snapshot could not be begun: {done.last_line}")
        taken = data.take()
        verdict = walk.require(data.verify(taken), "prepare::snapshot")
        data.rotate()
        walk.evidence.fact("snapshot", {"file": str(taken.path), "sha256": taken.sha256})
        walk.evidence.fact("restore", data.restore_command(taken.name))
        words.append(verdict.reason)


def _rehearse(walk: Walk, data: ServiceDatabase, new: Rendered) -> None:
    """On the copy: the new image upgrades the schema, and the live image, where one runs, passes its gate."""
    from cutover.database.rehearsal import rehearse_migration

    if walk.before is None:
        return
    # A first release: the proxy names a color, and nothing runs there that could be asked.
    live = compose.render(walk.settings, walk.before, walk.from_tag) if walk.from_tag else None
    with walk.telling("T-15m", "way back") as words:
        verdicts = rehearse_migration(data, new, live)
        rows = [
            walk.evidence.check(f"prepare::{each.question}", walk.before, 0, each, 0.0) for each in verdicts
        ]
        bad = [each.verdict for each in rows if not each.verdict.ok]
        if bad and walk.request.allow_breaking_migration:
            words.append(f"accepted although: {bad[0].question}: {bad[0].reason}")
            return
        if bad:
            kind = Failed if any(each.outcome is Outcome.NO for each in bad) else Inconclusive
            first = next(each.id for each in rows if not each.verdict.ok)
            text = f"on the restored copy: {bad[0].question}: {bad[0].reason}; nothing was changed"
            raise kind(text, check=first)
        way = (
            f"{walk.from_tag} passes {len(verdicts)} checks"
            if live
            else "no release runs that has to live with it"
        )
        words.append(f"on the restored copy: new schema applied, {way}")


def _migrate(walk: Walk, data: ServiceDatabase, new: Rendered, release_file: Path) -> None:
    """The real migration, then the live color's gate once more."""
    before = _head(data)
    with walk.telling("T-10m", "migrate") as words:
        done = walk.apply(data.migration_change(new, release_file))
        after = _head(data)
        if not done.ok:
            from cutover.database.rehearsal import migration_error

            raise Failed(
                f"the migration failed: {migration_error(done)}; the schema is at {after or 'no revision'}"
            )
        if after != before:
            walk.evidence.fact("schema", after)
        words.append(
            f"{before or 'nothing'} → {after}" if after != before else f"schema is at {after or 'its head'}"
        )
    nobody = walk.before in {None, walk.target.color} or not walk.from_tag
    if after == before or nobody:
        return
    begun = time.monotonic()
    seen = again.gate(walk, again.gates(walk.request.paths))
    said = seen.reason
    walk.told("T-10m", f"smoke[{walk.before}]", f"{said} on the new schema", begun, str(seen.outcome))
    if seen.outcome is Outcome.NO:
        restore = walk.evidence.facts.get("restore", "cutover snapshot restore")
        raise OperatorNeeded(
            f"{walk.before} does not pass on the new schema: {said}; the data from before: {restore}"
        )


def _head(data: ServiceDatabase) -> str:
    """The schema's revision; empty where there is no database yet."""
    try:
        return data.head() if data.available() else ""
    except ConfigError:
        return ""
