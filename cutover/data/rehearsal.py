"""The rehearsal: on a restored copy the new image upgrades the schema, then the live image passes its gate.

Nothing of the real service is touched, and writing endpoints are asked too: the copy is thrown away.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutover.changes.migrate import migrate
from cutover.core.config_schema import Database
from cutover.core.errors import EngineSilent, NeedsPerson, UsageProblem
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.data import Data
from cutover.data.location import PostgresUrl, locate
from cutover.system import docker, process
from cutover.system.compose import Compose, Rendered
from cutover.system.container import Container
from cutover.target import Control

STDIN = Path("-")
START_S = 60.0
PAUSE_S = 0.25
LOG_LINES = 20
STOP = (
    "its release names the database in a way that we do not know; look at it, then: cutover snapshot --list"
)
NOT_THERE = ("depends_on", "container_name", "ports", "profiles")


def rehearse(data: Data, new: Rendered, live: Rendered | None, live_image: str = "") -> list[Verdict]:
    """The verdicts of the upgrade and of the gate, in order; the first no of the upgrade ends it.

    Without a *live* release there is nothing that has to live with the new schema.
    """
    clear(data)
    try:
        upgraded = upgrade(data, new)
        return [upgraded, *gate(data, live, live_image)] if upgraded.ok and live else [upgraded]
    except EngineSilent as error:
        return [unknown("rehearsal", str(error))]
    finally:
        clear(data)


def names(project: str) -> tuple[str, str]:
    """The containers of a rehearsal: the one that upgrades, and the old release."""
    return f"{project}-rehearsal-migrate", f"{project}-rehearsal-live"


def clear(data: Data) -> None:
    """Remove the rehearsal's containers, those of a session that died too."""
    process.run(("docker", "rm", "--force", "--volumes", *names(data.settings.project)), deadline_s=60)


# --- the copy in place of the database -------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Copy:
    """How a service is pointed at the restored copy: by its URL's variable, or by the folder that it mounts."""

    variables: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    mounted_at: str = ""


def on_copy(rendered: Rendered, service: str, where: Copy, image: str = "") -> str:
    """The release as Compose reads it from standard input: *service* alone, on the copy, from *image*.

    Secrets stand in this text only, never on a command line. Compose reads a doubled dollar as one.
    """
    model: dict[str, Any] = {key: value for key, value in rendered.model.items() if key != "services"}
    one: dict[str, Any] = copy.deepcopy(dict(rendered.service(service)))
    for key in NOT_THERE:
        one.pop(key, None)
    one["environment"] = dict(one.get("environment") or {}) | {
        key: value.replace("$", "$$") for key, value in where.variables.items()
    }
    if image:
        one["image"] = image
    if where.folder is not None:
        others = [each for each in one.get("volumes") or () if each.get("target") != where.mounted_at]
        mount = {"type": "bind", "source": str(where.folder), "target": where.mounted_at}
        one["volumes"] = [*others, mount]
    return json.dumps(model | {"services": {service: one}})


def _copy(data: Data, rendered: Rendered, service: str) -> Copy:
    location = data.location
    if isinstance(location, PostgresUrl):
        return Copy(copy_variables(location, rendered.environment(service), data.scratch))
    folder, mounted_at = data.store.mount(data.scratch)
    return Copy(folder=folder, mounted_at=mounted_at)


def copy_variables(location: PostgresUrl, environment: Mapping[str, str], scratch: str) -> dict[str, str]:
    """Each variable that is a URL of the database, by whatever name, driver or pooler, with the copy in its place."""
    pointed = {}
    for key in environment:
        with contextlib.suppress(UsageProblem):
            found = locate(Database(url_key=key), environment, "")
            if isinstance(found, PostgresUrl) and found.name == location.name:
                pointed[key] = found.url_of(scratch).reveal()
    return pointed


# --- the new image ---------------------------------------------------------------------------------------------
def upgrade(data: Data, new: Rendered) -> Verdict:
    """Whether the new image's own migration ends well on the copy."""
    question, settings = "rehearsal: migrate", data.settings.migrate
    if settings is None:
        return yes(question, "no [migrate] command: the schema stays")
    text = on_copy(new, settings.service, _copy(data, new, settings.service))
    name = names(data.settings.project)[0]
    change = migrate(data.state_dir, Compose(new.project, STDIN), settings, name, options=data.options(new))
    before, begun = data.store.head(data.scratch), time.monotonic()
    real = data.head()
    done = process.run(change.do, deadline_s=change.budget_s, stdin=text.encode(), cwd=str(data.state_dir))
    seconds = round(time.monotonic() - begun, 3)
    if data.head() != real:
        raise NeedsPerson(
            f"the rehearsal reached the real database: it was at {real or 'none'}, it is at {data.head()}; {STOP}"
        )
    if done.code == process.TIMED_OUT:
        return no(question, f"no end within {settings.budget:g} s", seconds=seconds)
    if not done.ok:
        return no(question, f"the new image cannot upgrade a copy of the data: {why(done)}", code=done.code)
    head = data.store.head(data.scratch)
    text = (
        f"revision {before or 'none'} → {head or 'none'}"
        if head != before
        else f"revision stays {head or 'none'}"
    )
    return yes(question, f"{text} in {seconds:.1f} s", seconds=seconds, before=before, head=head)


def why(done: process.Done) -> str:
    """The line that names the reason: a traceback's last error, not the link to its manual below it."""
    lines = [line.strip() for line in (done.out + "\n" + done.err).splitlines() if "error" in line.lower()]
    named = [line for line in lines if "http" not in line and not line.startswith(("File ", "raise "))]
    return (named or [done.last_line])[-1]


# --- the old image ---------------------------------------------------------------------------------------------
def gate(data: Data, live: Rendered, image: str) -> Iterator[Verdict]:
    """What a throw-away container of the live release answers on the upgraded copy."""
    settings, service = data.settings, data.settings.service
    name = names(settings.project)[1]
    listens = settings.gate.listens or live.inner_port(service)
    flags = ("--detach", "--no-deps", "--name", name, "--publish", f"127.0.0.1::{listens}", "-T")
    words = Compose(live.project, STDIN).words("run", *flags, service)
    text = on_copy(live, service, _copy(data, live, service), image)
    # Compose would read a stray .env of the folder that it runs in.
    done = process.run(words, deadline_s=START_S, stdin=text.encode(), cwd=str(data.state_dir))
    found = docker.inspect(name)
    if not done.ok or found is None:
        yield no(
            "rehearsal: ready", f"the live release cannot be started on the new schema: {done.last_line}"
        )
        return
    port = ((found.ports.get(f"{listens}/tcp") or [{}])[0] or {}).get("HostPort")
    if not port:
        yield no("rehearsal: ready", _died(found))
        return
    for verdict in _ask(data, live, f"http://127.0.0.1:{port}", name, _budget(found)):
        yield verdict.named(f"rehearsal: {verdict.question}")


def _ask(data: Data, live: Rendered, url: str, name: str, budget_s: float) -> Iterator[Verdict]:
    """The questions of the gate that HTTP can answer, readiness first."""
    from cutover.http import client
    from cutover.probes.endpoints import endpoint
    from cutover.probes.version import version

    settings = data.settings
    control = Control(lambda: docker.inspect(name) is not None, "the engine knows its container")
    with client(url, settings.gate.deadline) as http:
        first = _until_ready(http, control, data, name, budget_s)
        yield first
        if not first.ok:
            return
        if settings.version:
            yield version(http, control, settings.version, live.tag(settings.service) or None)
        for each in settings.endpoints:
            yield endpoint(http, control, each)


def _until_ready(http: Any, control: Control, data: Data, name: str, budget_s: float) -> Verdict:
    """The first yes within the budget, else the last answer; a container that died ends the waiting."""
    from cutover.probes.ready import ready

    end = time.monotonic() + budget_s
    while True:
        verdict = ready(http, control, data.settings.ready)
        found = docker.inspect(name)
        if verdict.ok:
            return verdict
        if found is None or not found.running:
            return no("ready", _died(found))
        if time.monotonic() >= end:
            return verdict
        time.sleep(PAUSE_S)  # no event tells that a service got ready: it is asked


def _died(found: Container | None) -> str:
    if found is None:
        return "the live release's container is gone"
    tail = [row.split(" ", 1)[-1] for row in docker.logs(found.id, tail=3)]
    said = f"; last log lines: {' | '.join(tail)}" if tail else ""
    return f"the live release ends on the new schema: exit code {found.exit_code}{said}"


def _budget(found: Container) -> float:
    """How long it may take to be ready, by its own HEALTHCHECK."""
    check = found.healthcheck
    if not check.get("Interval"):
        return START_S
    nanoseconds = check.get("StartPeriod", 0) + check["Interval"] * (check.get("Retries") or 3)
    return max(START_S, float(nanoseconds) / 1e9)
