"""Prepare the database: snapshot, rehearsal of the migration on the restored copy, migration.

The rehearsal touches neither the service nor its database. Endpoints that write are called too, on the copy.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cutover.core.config import Settings
from cutover.core.config_schema import Database
from cutover.core.errors import ConfigError, EngineUnavailable, Failed, Inconclusive, OperatorNeeded
from cutover.core.target import ControlProbe
from cutover.core.verdict import Outcome, Verdict, no, unknown, yes
from cutover.database.base import (
    Location,
    ServiceDatabase,
    SqliteFile,
    locate,
    migration_change,
    one_shot_change,
    rehearsal_containers,
)
from cutover.database.postgres import PostgresUrl
from cutover.gate.container_checks import health_budget
from cutover.gate.http_checks import endpoint, ready, version
from cutover.release.colors import BeforeRelease, Situation, main_container, tag_of
from cutover.release.gate_run import run_gate
from cutover.release.transaction import Reporter, Transaction
from cutover.release.verify import gate_of_old, was_verified
from cutover.system import compose, docker, process
from cutover.system.compose import Compose, Rendered
from cutover.system.container import Container
from cutover.system.files import make_private, write_atomically
from cutover.system.http import HttpClient

STDIN = Path("-")
START_TIMEOUT_S = 60.0
POLL_S = 0.25
UNKNOWN_REVISION = "which revision the schema has is unknown ([database] schema_table)"
ONE_OFF = "one-off"
"""Beside the release files, or in the state directory: what one-off containers of a stack are run from."""


@contextlib.contextmanager
def one_off_file(situation: Situation, new: Rendered, release_file: Path) -> Iterator[Path]:
    """The file that one-off containers are run from: *release_file*, for a stack one that Compose can read.

    That one is private and removed at the end. Raises ConfigError.
    """
    settings = situation.settings
    remove_one_off_files(settings.state)  # those of a session that was killed
    names = compose.one_off_services(settings, new) if situation.request.migrate else []
    if not names or not new.is_stack:
        yield release_file
        return
    folder, file = settings.state / ONE_OFF, release_file.with_name(f"{ONE_OFF}.yml")
    try:
        services = [*dict.fromkeys([settings.service, *names])]  # the first one says where the database is
        _write_contents(new, services, folder)
        write_atomically(file, json.dumps(compose.one_off_model(new, services, folder)))
        yield file
    finally:
        remove_one_off_files(settings.state)


def remove_one_off_files(state: Path) -> None:
    """Remove what one-off containers of a stack were run from: it holds secrets."""
    for file in state.glob(f"releases/*/{ONE_OFF}.yml"):
        file.unlink(missing_ok=True)
    shutil.rmtree(state / ONE_OFF, ignore_errors=True)


def _write_contents(rendered: Rendered, services: Sequence[str], folder: Path) -> None:
    for each in compose.one_off_contents(rendered, services):
        make_private(folder)
        # The user of the container, whose id we do not know, reads it; the folder keeps other users out.
        write_atomically(folder / each.name, each.data, mode=0o444)


def migrate_database(
    tx: Transaction, situation: Situation, new: Rendered, release_file: Path, report: Reporter
) -> None:
    """Snapshot, rehearse on its restored copy, migrate, as far as cutover.toml configures them.

    Nothing is changed before the migration; the migration has no undo, the schema stays. Raises ConfigError, Failed,
    Inconclusive or OperatorNeeded.
    """
    settings, request = situation.settings, situation.request
    if not request.migrate or (settings.migrate is None and not settings.snapshot.enabled):
        return
    database = ServiceDatabase(settings, new, tx.state.root)
    try:
        if settings.snapshot.enabled and database.available():
            _take_snapshot(tx, database, report, situation.target.name)
            if settings.migrate is not None and settings.snapshot.rehearse:
                _require_rehearsal(situation, database, new, report)
            database.drop_scratch()
        elif settings.snapshot.enabled:
            report.line("T-15m", "snapshot", "there is no database yet: nothing to snapshot")
        if settings.migrate is not None:
            before = _before_migration(situation)
            if _migrate(tx, database, new, release_file, report):
                _require_gate_of_live(situation, before, report)
    finally:
        database.close()


def run_one_shots(
    tx: Transaction, situation: Situation, new: Rendered, release_file: Path, report: Reporter
) -> None:
    """Run the services that the released ones wait for to complete, in the images of *new*; raises Failed.

    What they change has no undo, as with a migration. --skip-migrations leaves them out.
    """
    for name in compose.one_shots_of(situation.settings, new) if situation.request.migrate else ():
        with report.step("T-10m", f"run {name}") as text:
            done = tx.apply(one_shot_change(tx.state.root, Compose(new.project, release_file), name))
            if not done.ok:
                why = f"exit {done.code}: {migration_error(done)}"
                raise Failed(f"{name} has to complete before the release starts, and failed: {why}")
            text.append(f"{new.image(name)} completed")


def _take_snapshot(tx: Transaction, database: ServiceDatabase, report: Reporter, target: str) -> None:
    with report.step("T-15m", "snapshot") as text:
        done = tx.apply(database.snapshot_change())
        if not done.ok:
            raise Failed(f"the snapshot could not be begun: {done.last_line}")
        taken = database.take()
        verdict = report.require(database.verify(taken), "prepare::snapshot", target)
        database.rotate()
        report.evidence.fact("snapshot", {"file": str(taken.path), "sha256": taken.sha256})
        report.evidence.fact("restore", database.restore_command(taken.name))
        text.append(verdict.reason)


def _require_rehearsal(
    situation: Situation, database: ServiceDatabase, new: Rendered, report: Reporter
) -> None:
    before, evidence = situation.before, report.evidence
    if before.live is None:
        return
    # Before a first release the proxy names a color on which nothing runs that could be checked.
    live = _live_release(situation.settings, before.live, before) if before.label else None
    with report.step("T-15m", "rehearsal") as text:
        verdicts = rehearse_migration(database, new, live)
        rows = [evidence.check(f"prepare::{each.question}", before.live, 0, each, 0.0) for each in verdicts]
        if bad := [each for each in rows if not each.verdict.ok]:
            reason = f"{bad[0].verdict.question}: {bad[0].verdict.reason}"
            if situation.request.allow_breaking_migration:
                text.append(f"accepted although: {reason}")
                return
            kind = Failed if any(each.verdict.outcome is Outcome.NO for each in bad) else Inconclusive
            raise kind(f"on the restored copy: {reason}; nothing was changed", check=bad[0].id)
        passes = f"{before.label} passes {len(verdicts)} checks" if live else "no release has to run on it"
        text.append(f"on the restored copy: new schema applied, {passes}")


def _live_release(settings: Settings, color: str, before: BeforeRelease) -> Rendered:
    live = compose.render(settings, color, before.tag)
    running = main_container(settings, color) if live.is_stack else None
    digest = running.image_name if running is not None and "@" in running.image_name else ""
    if before.tag is None:  # the env file may name another one
        image = {"image": digest or before.image, "pull_policy": "missing"}
        services = live.model["services"] | {settings.service: {**live.service(settings.service), **image}}
        return replace(live, model={**live.model, "services": services})
    # The tag may have moved.
    return compose.with_digests(live, {settings.service: digest}) if digest else live


def _migrate(
    tx: Transaction, database: ServiceDatabase, new: Rendered, release_file: Path, report: Reporter
) -> bool:
    """Run the migration; whether the schema has changed, also if that is not known."""
    before = _head_revision(database)
    with report.step("T-10m", "migrate") as text:
        done = tx.apply(database.migration_change(new, release_file))
        after = _head_revision(database)
        if not done.ok:
            where = f"the schema is at {after}" if after else UNKNOWN_REVISION
            raise Failed(f"the migration failed: {migration_error(done)}; {where}")
        if after and after == before:
            text.append(f"schema is at {after}")
            return False
        report.evidence.fact("schema", after or "a revision that is unknown")
        text.append(f"{before or 'nothing'} → {after}" if after else f"the migration ran; {UNKNOWN_REVISION}")
        return True


def _before_migration(situation: Situation) -> BeforeRelease:
    """What users have, with what its gate fails already; one that passed its gate once is not asked again here."""
    before, request = situation.before, situation.request
    if not _is_beside(situation) or (request.rollback and was_verified(situation.state, before)):
        return before
    failed = run_gate(situation.settings, request.paths).evidence.get("failed") or {}
    return replace(before, failed={**before.failed, **failed})


def _require_gate_of_live(situation: Situation, before: BeforeRelease, report: Reporter) -> None:
    """Raise OperatorNeeded if the live color fails on the new schema, which stays, what it passed *before*."""
    begun, paths = time.monotonic(), situation.request.paths
    if not _is_beside(situation):
        return
    trouble, notes, gate = gate_of_old(situation.settings, before, paths, verified=True)
    noted = "; ".join(notes) if not trouble else ""
    outcome = Outcome.UNKNOWN if noted else gate.outcome
    text = noted or f"{gate.reason} on the new schema"
    report.line("T-10m", f"smoke[{before.live}]", text, begun, str(outcome))
    if trouble:
        restore = report.evidence.facts.get("restore", "cutover snapshot restore")
        raise OperatorNeeded(f"{before.live} on the new schema: {trouble}; the data from before: {restore}")


def _is_beside(situation: Situation) -> bool:
    """Whether a live release runs on while the database is migrated."""
    before = situation.before
    return bool(before.live and before.label) and before.live != situation.target.color


def _head_revision(database: ServiceDatabase) -> str:
    """The revision of the schema; empty if it is unknown, as for a database that we cannot read, or without a table."""
    try:
        return database.head() if database.available() else ""
    except ConfigError:
        return ""


# --- the rehearsal -------------------------------------------------------------------------------------------------
def rehearse_migration(database: ServiceDatabase, new: Rendered, live: Rendered | None) -> list[Verdict]:
    """Verdicts of the migration by *new* on the scratch copy, then of the *live* release on the migrated copy.

    The list ends with the migration if it fails, or if there is no live release that must run on the new schema.
    """
    containers = rehearsal_containers(database.settings.project)
    remove = ("docker", "rm", "--force", "--volumes", *containers)
    process.run(remove, deadline_s=60)  # those of a session that died
    try:
        migrated = _rehearse_migrate(database, new, containers[0])
        if not migrated.ok or live is None:
            return [migrated]
        return [migrated, *_check_live_release(database, live, containers[1])]
    except EngineUnavailable as error:
        return [unknown("rehearsal", str(error))]
    finally:
        process.run(remove, deadline_s=60)


# --- the copy in place of the database -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class CopyAccess:
    """How a service reaches the scratch copy: by other values of its URL variables, or by a mounted folder."""

    variables: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    mounted_at: str = ""


def compose_on_copy(rendered: Rendered, service: str, access: CopyAccess, folder: Path) -> str:
    """Compose file, as JSON for stdin, with *service* alone and on the scratch copy.

    It holds secrets, which must not be on a command line. `$` is doubled, as Compose wants to read it. *folder* is
    where the configs and secrets of a stack are written.
    """
    model = compose.one_off_model(rendered, [service], folder)
    one: dict[str, Any] = model["services"][service]
    escaped = {key: value.replace("$", "$$") for key, value in access.variables.items()}
    one["environment"] = dict(one.get("environment") or {}) | escaped
    if access.folder is not None:
        others = [each for each in one.get("volumes") or () if each.get("target") != access.mounted_at]
        mount = {"type": "bind", "source": str(access.folder), "target": access.mounted_at}
        one["volumes"] = [*others, mount]
    return json.dumps(model)


def _copy_access(database: ServiceDatabase, rendered: Rendered, service: str) -> CopyAccess:
    location = database.location
    if isinstance(location, PostgresUrl):
        return CopyAccess(copy_variables(location, rendered.environment(service), database.scratch))
    if isinstance(location, SqliteFile) and database.scratch:
        folder, mounted_at = database.folder / database.scratch, PurePosixPath(location.path).parent
        return CopyAccess(folder=folder, mounted_at=str(mounted_at))
    raise ConfigError("there is no copy of the database to rehearse on")


def why_not_on_copy(location: Location, rendered: Rendered, main: str, service: str) -> str:
    """Why *service* would reach the database itself, although *main* is pointed at its copy; empty if it would not."""
    if service == main:
        return ""
    if isinstance(location, PostgresUrl):
        if copy_variables(location, rendered.environment(service), "copy"):
            return ""
        return f"no variable of {service} is a URL of the database {location.name}, as one of {main} is"
    mounts, folder = _mounts(rendered, main), PurePosixPath(location.path).parent
    mounted = [each for each in (folder, *folder.parents) if str(each) in mounts.values()]
    data = {source: target for source, target in mounts.items() if mounted and target == str(mounted[0])}
    there = _mounts(rendered, service)
    wrong = next((source for source, target in data.items() if there.get(source, target) != target), None)
    return f"{service} mounts {wrong} at {there[wrong]}, and {main} at {data[wrong]}" if wrong else ""


def _mounts(rendered: Rendered, service: str) -> dict[str, str]:
    """Source -> where *service* mounts it."""
    rows = rendered.service(service).get("volumes") or ()
    return {str(each["source"]): str(each["target"]) for each in rows if each.get("source")}


def rehearsal_problem(settings: Settings, rendered: Rendered) -> str:
    """Why the migration cannot be rehearsed on a copy of the database; empty if it can, or is not rehearsed."""
    migrate, snapshot = settings.migrate, settings.snapshot
    if migrate is None or not (snapshot.enabled and snapshot.rehearse):
        return ""
    found = locate(settings.database, rendered.environment(settings.service), str(settings.source))
    why = why_not_on_copy(found, rendered, settings.service, migrate.service) if found else ""
    way_out = "give both the same, or set snapshot.rehearse = false"
    return f"the migration cannot be rehearsed on a copy of the database: {why}: {way_out}" if why else ""


def copy_variables(location: PostgresUrl, environment: Mapping[str, str], scratch: str) -> dict[str, str]:
    """Every variable that is a URL of the database, with any name, driver or pooler, pointed at *scratch*."""
    pointed = {}
    for key in environment:
        with contextlib.suppress(ConfigError):
            found = locate(Database(url_key=key), environment, "")
            if isinstance(found, PostgresUrl) and found.name == location.name:
                pointed[key] = found.url_of(scratch).reveal()
    return pointed


# --- the new image -------------------------------------------------------------------------------------------------
def _rehearse_migrate(database: ServiceDatabase, new: Rendered, container: str) -> Verdict:
    """Whether the migration of the new image succeeds on the copy; raises OperatorNeeded if it reached the original."""
    question, settings = "rehearsal: migrate", database.settings
    if settings.migrate is None:
        return yes(question, "no [migrate] command: the schema stays")
    service, folder = settings.migrate.service, database.state_dir / ONE_OFF
    text = compose_on_copy(new, service, _copy_access(database, new, service), folder)
    options = database.migration_options(new)
    project = Compose(new.project, STDIN)
    change = migration_change(database.state_dir, project, settings.migrate, container, options=options)
    original, before = database.head(), database.store.head(database.scratch)
    begun, cwd = time.monotonic(), str(database.state_dir)
    done = process.run(change.do, deadline_s=change.budget_s, stdin=text.encode(), cwd=cwd)
    seconds = round(time.monotonic() - begun, 3)
    now = database.head()
    if now != original:
        raise OperatorNeeded(
            f"the rehearsal migrated the live database from {original or 'none'} to {now or 'none'}: its release"
            " names the database in an unknown way; look at it, then: cutover snapshot list"
        )
    if done.code == process.TIMED_OUT:
        return no(question, f"no end within {settings.migrate.budget:g} s", seconds=seconds)
    if not done.ok:
        reason = f"the new image cannot migrate a copy of the data: {migration_error(done)}"
        return no(question, reason, code=done.code)
    head = database.store.head(database.scratch)
    text = f"{before or 'none'} → {head or 'none'}" if head != before else f"stays {head or 'none'}"
    return yes(question, f"revision {text} in {seconds:.1f} s", seconds=seconds, before=before, head=head)


def migration_error(done: process.CompletedCommand) -> str:
    """The line of a migration's output that names the reason: of a traceback its last error."""
    lines = [line.strip() for line in (done.out + "\n" + done.err).splitlines() if "error" in line.lower()]
    # SQLAlchemy prints a link to its manual below the error.
    errors = [line for line in lines if "http" not in line and not line.startswith(("File ", "raise "))]
    return (errors or [done.last_line])[-1]


# --- the live release ----------------------------------------------------------------------------------------------
def _check_live_release(database: ServiceDatabase, live: Rendered, name: str) -> Iterator[Verdict]:
    settings, service = database.settings, database.settings.service
    port = settings.gate.container_port or live.inner_port(service)
    flags = ("--detach", "--no-deps", "--name", name, "--publish", f"127.0.0.1::{port}", "-T")
    argv = Compose(live.project, STDIN).words("run", *flags, service)
    folder = database.state_dir / ONE_OFF
    _write_contents(live, [service], folder)
    text = compose_on_copy(live, service, _copy_access(database, live, service), folder)
    # In another folder Compose could read a .env file that is there.
    done = process.run(argv, deadline_s=START_TIMEOUT_S, stdin=text.encode(), cwd=str(database.state_dir))
    found = docker.inspect(name)
    if not done.ok or found is None:
        reason = f"the live release cannot be started on the new schema: {done.last_line}"
        yield no("rehearsal: ready", reason)
        return
    published = ((found.ports.get(f"{port}/tcp") or [{}])[0] or {}).get("HostPort")
    if not published:
        yield no("rehearsal: ready", _exit_reason(found))
        return
    health_s = health_budget(found.healthcheck).seconds if found.asks_health else 0.0
    url, budget_s = f"http://127.0.0.1:{published}", max(START_TIMEOUT_S, health_s)
    for verdict in _http_checks(settings, tag_of(live.image(service)) or "", url, name, budget_s):
        yield verdict.named(f"rehearsal: {verdict.question}")


def _http_checks(settings: Settings, tag: str, url: str, name: str, budget_s: float) -> Iterator[Verdict]:
    control = ControlProbe(lambda: docker.inspect(name) is not None, "the engine knows its container")
    with HttpClient(url, settings.gate.request_timeout) as http:
        first = _wait_ready(http, control, settings, name, budget_s)
        yield first
        if not first.ok:
            return
        if settings.version:
            yield version(http, control, settings.version, tag or None)
        for each in settings.endpoints:
            yield endpoint(http, control, each)


def _wait_ready(
    http: HttpClient, control: ControlProbe, settings: Settings, name: str, budget_s: float
) -> Verdict:
    """First yes within *budget_s*, else the last answer; ends at once when the container has exited."""
    end = time.monotonic() + budget_s
    while True:
        verdict = ready(http, control, settings.ready)
        found = docker.inspect(name)
        if verdict.ok:
            return verdict
        if found is None or not found.running:
            return no("ready", _exit_reason(found))
        if time.monotonic() >= end:
            return verdict
        time.sleep(POLL_S)


def _exit_reason(found: Container | None) -> str:
    if found is None:
        return "the live release's container is gone"
    tail = [row.split(" ", 1)[-1] for row in docker.logs(found.id, tail=3)]
    log = f"; last log lines: {' | '.join(tail)}" if tail else ""
    return f"the live release exits on the new schema: exit code {found.exit_code}{log}"
