"""Deploy a rendered release to a color, and verify that exactly it runs and stays up."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from cutover.core.change import Change
from cutover.core.config import Settings
from cutover.core.config_schema import parse_duration
from cutover.core.errors import EngineUnavailable, Failed
from cutover.core.target import ControlProbe, Target
from cutover.core.text import now
from cutover.core.verdict import Outcome, Verdict
from cutover.env.compose_rules import health_command_of
from cutover.gate.container_checks import (
    access_to,
    judge_from_outside,
    judge_not_started,
    stays_up,
    wait_healthy,
    wait_ready,
    why_not_by_health,
    with_log_tail,
)
from cutover.gate.http_checks import ready
from cutover.gate.log_checks import LogWindow, read_baseline
from cutover.gate.task_checks import ExpectedTasks, judge_tasks, why_not_running
from cutover.release.changes import ensure_line, up_change
from cutover.release.colors import Situation, replicas_of, tag_of
from cutover.release.history import Record
from cutover.release.migrate import migrate_database, one_off_file, run_one_shots
from cutover.release.plan import DeployPlan, ReleasePlan
from cutover.release.running import hashes_of, wait_for
from cutover.release.state import State, who
from cutover.release.transaction import ActiveRelease, Containers, Reporter
from cutover.system import docker, registry
from cutover.system.compose import Rendered
from cutover.system.container import HERE, Container
from cutover.system.files import write_atomically
from cutover.system.http import HttpClient
from cutover.system.nodes import nodes_of
from cutover.system.platform import project_of
from cutover.system.process import TIMED_OUT, CompletedCommand


@dataclass(frozen=True, slots=True)
class Deployed:
    """A release that runs on its color, exactly as it was rendered, and stayed up."""

    target: Target
    """The target of the session, with the deployed tag."""
    baselines: Mapping[str, LogWindow] = field(default_factory=dict)
    """Service -> what its old container logged."""


def deploy(on: ActiveRelease) -> Deployed:
    """Deploy what is planned, unless exactly that runs already and is verified; raises Failed or Inconclusive."""
    tx, situation, plan, report = on.tx, on.situation, on.plan, on.report
    planned = plan.deploy
    if planned is None:
        raise Failed("nothing was planned to be deployed")
    settings, rendered, begun = situation.settings, planned.rendered, time.monotonic()
    image = registry.local_image(rendered.image(settings.service))
    fact = {"tag": planned.tag, "image": planned.images[settings.service], "color": rendered.color}
    report.evidence.fact("to", fact | {"digest": image.digest if image else ""})
    path = _write_release(tx.state, rendered)
    hashes = hashes_of(rendered)
    target = replace(situation.target, tag=planned.tag)
    if _runs_verified(tx.state, settings, planned, hashes):
        path.unlink()
        said = f"{planned.tag} runs already and is verified: nothing to do"
        report.line("T-10m", f"deploy {rendered.color}", said, begun)
        return Deployed(target)
    with one_off_file(situation, rendered, path) as file:
        migrate_database(tx, situation, rendered, file, report)
        run_one_shots(tx, situation, rendered, file, report)
    baselines = _read_baselines(settings, (rendered.color, situation.before.live))
    before = docker.by_service(rendered.project, settings.services)
    tx.note_containers(rendered.color, before, replicas_of(settings, rendered.color, settings.services))
    # From here on *begun* is when the color is started, without the time of the migration.
    wait_s, begun = _start_timeout(settings, planned), time.monotonic()
    change = _up_with_undo(situation, plan, planned, before, path, wait_s)
    with report.step("T-10m", f"deploy {rendered.color}") as text:
        report.evidence.fact("released_at", time.time())
        updates = _updates(settings, rendered)
        done = tx.apply(change)
        elsewhere = list[Container]()
        if done.ok and settings.platform.kind == "swarm":
            elsewhere = _require_tasks(situation, rendered, updates, report)
        found = {each: docker.replicas(rendered.project, each) for each in settings.services}
        started = [*chain(*found.values()), *elsewhere]
        if not (done.ok and all(found.values()) and all(each.running for each in started)):
            seconds = (time.monotonic() - begun, wait_s)
            raise _not_started(situation, report, done, _first_bad(found), seconds)
        for each in started:
            name = each.service
            require_identity(each, planned.images[name], hashes.get(name, ""), rendered.tag(name))
        waited = [_wait_stable(situation, each, wait_s, report) for each in started]
        ready_by = next(filter(None, waited), "")
        took = f"after {time.monotonic() - begun:.1f} s of at most {wait_s:.0f} s"
        text.append(f"ready {took}, {ready_by}" if ready_by else f"healthy {took}")
    main = found[settings.service][0]
    identity = (main.image, main.config_hash, main.id)
    tx.record = Record(rendered.color, planned.tag, *identity, path.name, verified=False, by=who(), at=now())
    return Deployed(target, baselines)


def _write_release(state: State, rendered: Rendered) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    name = f"{stamp}-{hashlib.sha256(rendered.text.encode()).hexdigest()[:8]}.yml"
    path = state.release_folder(rendered.color) / name
    write_atomically(path, rendered.text)
    return path


def _runs_verified(state: State, settings: Settings, plan: DeployPlan, hashes: Mapping[str, str]) -> bool:
    found = docker.by_service(plan.rendered.project, settings.services)
    for service, each in found.items():
        if each is None or not each.well or service not in hashes:
            return False
        if (each.image, each.config_hash) != (plan.images[service], hashes[service]):
            return False
    if plan.rendered.is_stack and not all(_tasks_run(plan.rendered, each) for each in settings.services):
        return False  # these are the containers on this node only
    return state.verified_record(plan.rendered.color, found[settings.service]) is not None


def _tasks_run(rendered: Rendered, service: str) -> bool:
    """Whether the Swarm runs all tasks of *service* as *rendered* says, on all nodes."""
    found = docker.swarm_service(f"{rendered.project}_{service}")
    # The last update may have been paused, and its tasks replaced since.
    began = found.update_began if found else ""
    expected = ExpectedTasks(rendered.image(service), rendered.hashes.get(service, ""), began)
    return judge_tasks(found, expected).ok


def _read_baselines(settings: Settings, colors: Sequence[str | None]) -> dict[str, LogWindow]:
    """Service -> its log on the first of *colors* that has one; read now, because a recreate deletes the log."""
    found: dict[str, LogWindow] = {}
    for color in filter(None, colors):
        for service, each in docker.by_service(settings.compose_project(color), settings.services).items():
            before = read_baseline(each, settings.logs) if each is not None and service not in found else None
            if before is not None:
                found[service] = before
    return found


def _start_timeout(settings: Settings, plan: DeployPlan) -> float:
    if settings.gate.start_timeout:
        return settings.gate.start_timeout
    checks = {each: image_healthcheck(plan.images[each], plan.rendered, each) for each in settings.services}
    main = settings.service
    return max(wait_for(check) for each, check in checks.items() if each == main or check.get("Test"))


def _up_with_undo(
    situation: Situation,
    plan: ReleasePlan,
    planned: DeployPlan,
    before: Containers,
    path: Path,
    wait_s: float,
) -> Change:
    settings, rendered, live = situation.settings, planned.rendered, situation.before.live
    old_grace = (each.grace_s for each in before.values() if each)
    change = up_change(
        situation.state.root,
        project_of(settings, rendered.color, path),
        settings.services,
        text=f"{rendered.color} to {planned.tag}",
        wait_s=wait_s,
        previous=planned.previous,
        grace_s=max((*old_grace, *map(rendered.grace_s, settings.services))),
    )
    if planned.unrestorable:
        change = replace(change, undo=())  # a failed release serves more than nothing does
    if plan.old is None or live is None or live == rendered.color:
        return change
    # After a crash dockerd does not restart our containers, so the undo must start the old color itself.
    project = project_of(settings, live, plan.old.file)
    old = ensure_line(situation.state.root, project, settings.service, plan.old)
    return replace(change, undo=(*change.undo, old))


def _updates(settings: Settings, rendered: Rendered) -> dict[str, str]:
    """Service -> when its last update of a Swarm began; empty for Compose."""
    if settings.platform.kind != "swarm":
        return {}
    found = {each: docker.swarm_service(f"{rendered.project}_{each}") for each in settings.services}
    return {service: each.update_began for service, each in found.items() if each}


def _require_tasks(
    situation: Situation, rendered: Rendered, updates: Mapping[str, str], report: Reporter
) -> list[Container]:
    """Return the containers on other nodes.

    Raises Failed unless all tasks of all services run their image, and at least one of each is on this node.
    """
    nodes, elsewhere = nodes_of(situation.settings.platform), list[Container]()
    for service in situation.settings.services:
        began, config_hash = updates.get(service, ""), rendered.hashes.get(service, "")
        expected = ExpectedTasks(rendered.image(service), config_hash, began)
        found = docker.swarm_service(f"{rendered.project}_{service}")
        report.require(judge_tasks(found, expected), "deploy::tasks", situation.target.name)
        here = [each for each in docker.containers(rendered.project, service) if each.running]
        if not here:
            way_out = "deploy: {mode: global}, or a placement constraint"
            raise Failed(f"no task of {service} runs on this node, so that none can be checked: {way_out}")
        there = nodes.replicas(rendered.project, service)
        elsewhere += there
        ids = {each.id for each in (*here, *there)}
        for task in found.tasks if found else ():
            if task.container not in ids:
                why = nodes.why_not(task.node) or "it has another container by now"
                text = f"container, logs and resources of {service} on {task.node}: {why}"
                report.line("T-10m", "tasks", text, None, "not asked")
    return elsewhere


def _first_bad(found: Mapping[str, Sequence[Container]]) -> Container | None:
    bad = [there for there in found.values() if not there or not all(each.well for each in there)]
    there = [*(bad or [*found.values()])[0]]
    return next((each for each in there if not each.well), there[0] if there else None)


def _not_started(
    situation: Situation,
    report: Reporter,
    done: CompletedCommand,
    found: Container | None,
    seconds: tuple[float, float],
) -> Failed:
    said, tasks = "healthy" if done.ok else done.last_line, _tasks_that_do_not_run(situation)
    if tasks and done.code == TIMED_OUT:
        said = ""  # it is only how many run
    verdict = judge_not_started(found, said, *seconds, tasks)
    if found is not None and not (tasks and found.well):
        verdict = _from_outside(situation, found, with_log_tail(verdict, found.id))
    check = report.evidence.check("deploy::up", situation.target.name, 0, verdict, seconds[0])
    return Failed(f"{verdict.question}: {verdict.reason}", check=check.id)


def _tasks_that_do_not_run(situation: Situation) -> str | None:
    """What a Swarm says of tasks of the color that do not run, on any node; None for Compose."""
    settings = situation.settings
    if settings.platform.kind != "swarm":
        return None
    project = settings.compose_project(situation.color)
    with suppress(EngineUnavailable):  # without a leader, or before the first deploy: docker has said so
        nodes = docker.swarm_nodes()
        tasks = (docker.swarm_tasks(f"{project}_{each}", nodes) for each in settings.services)
        return next(filter(None, map(why_not_running, tasks)), "")
    return ""


def _wait_stable(situation: Situation, found: Container, wait_s: float, report: Reporter) -> str:
    """Wait until *found* is healthy and stays up; how it was asked if its HEALTHCHECK does not tell, else empty."""
    settings, target, ready_by = situation.settings, situation.target.name, ""
    if found.asks_health:
        verdict = wait_healthy(found.id, wait_s, access_to(found))
        if verdict.outcome is Outcome.NO:
            verdict = _from_outside(situation, found, verdict)
        report.require(verdict, "deploy::healthy", target)
    elif found.service == settings.service and found.engine == HERE:  # others get no requests of ours
        ask, what = partial(_ask_ready, situation), settings.ready.asked
        report.require(wait_ready(found.id, ask, what, wait_s), "deploy::ready", target)
        ready_by = f"by {what}: {why_not_by_health(found)}"
    report.require(stays_up(found, settings.gate.min_uptime), "deploy::settled", target)
    return ready_by


def _from_outside(situation: Situation, found: Container, verdict: Verdict) -> Verdict:
    if found.service != situation.settings.service or found.engine != HERE or not found.health_command:
        return verdict
    return judge_from_outside(verdict, found, _ask_ready(situation), situation.settings.ready.asked)


def _ask_ready(situation: Situation) -> Verdict:
    wanted = situation.settings.ready
    with HttpClient(situation.colors.url(situation.color), wanted.timeout) as client:
        return ready(client, ControlProbe(lambda: True), wanted)


# --- identity ------------------------------------------------------------------------------------------------------
def require_identity(found: Container, image: str, config_hash: str, tag: str) -> None:
    """Raise Failed unless *found* runs the image with the ID *image* and, where known, this config hash and *tag*."""
    running = tag_of(found.image_name)
    if tag and running not in {tag, None}:
        raise Failed(f"identity: expected tag {tag}, {found.name} runs {running}")
    if found.image != image:
        raise Failed(f"identity: expected image {image[7:19]}, {found.name} runs {found.image[7:19]}")
    if config_hash and found.config_hash != config_hash:
        has = f"{found.name} has {found.config_hash[:12]}"
        raise Failed(f"identity: expected config hash {config_hash[:12]}, {has}")


def image_healthcheck(reference: str, rendered: Rendered, service: str) -> dict[str, object]:
    """The HEALTHCHECK that a container will have: that of the image, overridden by the Compose file."""
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
    if test := health_command_of(rendered.service(service)):
        over["Test"] = test
    return dict(image) | over
