"""Deploys a release to a colour, and asks whether exactly that runs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cutover import compose, engine, host, preflight, registry, scene
from cutover.changes import Change
from cutover.changes.up import Previous, up
from cutover.changes.up import put_back as up_undo
from cutover.compose import Compose, Rendered
from cutover.errors import Failed, Inconclusive, UsageProblem
from cutover.preparing import prepare
from cutover.probes.logs import baseline
from cutover.state import Record, now, write_atomically
from cutover.walk import Walk


@dataclass(frozen=True, slots=True)
class Planned:
    """What a deploy will run, and how what runs now is put back."""

    rendered: Rendered
    image: str
    previous: Previous | None


def plan(walk: Walk) -> Planned:
    """Everything that can be refused before a deploy, asked once."""
    colour, wish = walk.target.colour, walk.wish
    if colour is None:
        raise UsageProblem(f"--deploy needs a colour, live or idle: {walk.target.name} is a plain URL")
    if wish.targets[0] == walk.before and walk.settings.proxy is not None:
        raise UsageProblem(
            f"{colour} is live: say --target=live to replace it in place, --target=idle to release without a gap"
        )
    rendered = compose.render(walk.settings, colour, wish.deploy)
    preflight.require(preflight.problems(walk.scene, rendered, switching=wish.switch, environment=os.environ))
    image = preflight.image_of(rendered, walk.settings.service)
    try:
        previous, _ = preflight.previous_of(walk.state, walk.scene, colour)
    except UsageProblem:
        if not wish.no_way_back:
            raise
        previous = None
    return Planned(rendered, image, previous)


def check(walk: Walk) -> None:
    """The preflight of a session that deploys, as a line of the run of show; nothing is changed."""
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        version = pool.submit(compose.compose_version)
        planned = walk.planned = plan(walk)
        version.result()
    rendered, image = planned.rendered, planned.image
    way = (
        f"way back {scene.running_tag(walk.settings, rendered.colour)}"
        if planned.previous
        else "nothing runs there, so its way back is to remove it"
    )
    walk.told("T-15m", "preflight", f"{rendered.image(walk.settings.service)} is {image[7:19]}; {way}", begun)
    if not preflight.recovers_at_boot():
        said = "nothing runs `cutover recover` after a reboot of this host: install deploy/cutover-recover.service"
        walk.told("T-15m", "boot", said, None, "not asked")


def deploy(walk: Walk) -> None:
    """Run the wished release on its colour, or find that exactly it runs there, proven; raises Failed, Inconclusive."""
    planned = walk.planned or plan(walk)
    settings, rendered, image, begun = walk.settings, planned.rendered, planned.image, time.monotonic()
    fact = registry.inspected(rendered.image(settings.service))
    digest = fact.digest if fact else ""
    walk.evidence.fact(
        "to", {"tag": walk.wish.deploy, "image": image, "digest": digest, "colour": rendered.colour}
    )
    path = _write_release(walk, rendered)
    with ThreadPoolExecutor(3) as pool:  # each is a command of 0.1 s that waits for the engine
        hashes = pool.submit(compose.hashes, Compose(rendered.project, path))
        pool.submit(_network, settings.shared_network)
        for each in (image, *(planned.previous.images.values() if planned.previous else ())):
            pool.submit(keep_image, settings.project, each)
    config_hash = hashes.result().get(settings.service, "")
    if _runs_proven(walk, rendered.colour, image, config_hash):
        path.unlink()
        walk.deployed = True
        said = f"{walk.wish.deploy} runs already and is proven: nothing to do"
        walk.told("T-10m", f"deploy {rendered.colour}", said, begun)
        return
    prepare(walk, rendered, path)
    _keep_baseline(walk, rendered.colour)
    _up(walk, planned, path, config_hash)


def _write_release(walk: Walk, rendered: Rendered) -> Path:
    """Write the rendered release, which nobody edits, and from which it is put back one day."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    name = f"{stamp}-{hashlib.sha256(rendered.text.encode()).hexdigest()[:8]}.yml"
    path = walk.state.release_folder(rendered.colour) / name
    write_atomically(path, rendered.text)
    return path


def _up(walk: Walk, planned: Planned, path: Path, config_hash: str) -> None:
    """The change itself, and the question whether exactly that release runs and stays up."""
    settings, rendered, previous = walk.settings, planned.rendered, planned.previous
    colour, service = rendered.colour, settings.service
    wait = settings.gate.up_budget or preflight.wait_for(
        preflight.image_healthcheck(planned.image, rendered, service)
    )
    main = previous.containers.get(service) if previous else None
    before = engine.inspect(main) if main else None
    walk.images_before[colour] = before.image if before else None
    text, project = f"{colour} to {walk.wish.deploy}", Compose(rendered.project, path)
    change = up(walk.state.root, project, settings.services, text=text, wait_s=wait, previous=previous)
    begun = time.monotonic()
    with walk.telling("T-10m", f"deploy {colour}") as words:
        done = walk.apply(change)
        found = _ask(walk, rendered.project)
        if found is None or not found.running or not done.ok:
            raise _not_up(walk, done, found, time.monotonic() - begun, wait)
        _identify(found, planned.image, config_hash)
        _settle(walk, found, wait)
        words.append(f"healthy after {time.monotonic() - begun:.1f} s of at most {wait:.0f} s")
    _remember(walk, found, path.name, config_hash)


def _keep_baseline(walk: Walk, colour: str) -> None:
    """Keep what the old container logged: a recreate deletes it. A first release is compared with the live colour."""
    for each in (colour, walk.before):
        if each is None:
            continue
        found = _ask(walk, walk.settings.compose_project(each))
        before = baseline(found, walk.settings.logs) if found is not None else None
        if before is not None:
            walk.baselines[colour] = before
            return


def _ask(walk: Walk, project: str) -> engine.Container | None:
    try:
        return engine.the_container(project, walk.settings.service)
    except engine.EngineSilent as error:
        raise Inconclusive(str(error)) from error


def _runs_proven(walk: Walk, colour: str, image: str, config_hash: str) -> bool:
    """Whether exactly this release runs on *colour* already, healthy, and a whole gate has passed on it."""
    found = engine.the_container(walk.settings.compose_project(colour), walk.settings.service)
    if found is None or not found.running or found.health_status not in {"healthy", "none"}:
        return False
    same = [
        row
        for row in walk.state.records(colour)
        if row.proven and row.is_running(found.id, image, config_hash)
    ]
    return bool(same) and found.image == image and found.config_hash == config_hash


KEEP = "cutover-keep-"
KEPT_RELEASES = 3


def keep_image(project: str, image: str) -> None:
    """Keep *image* from being pruned: by a container of ours that is created and never started."""
    flags = ("--name", _keeper(project, image), "--label", f"cutover.keep={project}", "--entrypoint", "true")
    host.run(("docker", "create", *flags, image), deadline_s=30)


def _keeper(project: str, image: str) -> str:
    return f"{KEEP}{project}-{image.removeprefix('sha256:')[:12]}"


def tidy(walk: Walk) -> None:
    """Let the images and files of old releases go: the last ones of each colour stay, for the way back."""
    settings, state = walk.settings, walk.state
    kept = {colour: state.records(colour)[-KEPT_RELEASES:] for colour in settings.colours}
    names = {_keeper(settings.project, row.image) for rows in kept.values() for row in rows}
    shown = ("--filter", f"label=cutover.keep={settings.project}", "--format", "{{.Names}}")
    there = host.run(("docker", "ps", "--all", *shown), deadline_s=15).out.split()
    for name in (each for each in there if each.startswith(KEEP) and each not in names):
        host.run(("docker", "rm", name), deadline_s=15)
    for colour in settings.colours:
        files = {row.file for row in state.records(colour)}
        rendered = sorted(state.release_folder(colour).glob("2*-*.yml"))[:-KEPT_RELEASES]
        for path in (each for each in rendered if each.name not in files):
            path.unlink(missing_ok=True)


def _network(name: str) -> None:
    """Make the network that both colours share, if it is not there."""
    if name and not host.run(("docker", "network", "inspect", name), deadline_s=15).ok:
        host.run(("docker", "network", "create", name), deadline_s=30)


def _identify(found: engine.Container, image: str, config_hash: str) -> None:
    """What runs is what was asked for, or Failed."""
    if found.image != image:
        raise Failed(f"identity: expected image {image[7:19]}, {found.name} runs {found.image[7:19]}")
    if config_hash and found.config_hash != config_hash:
        raise Failed(
            f"identity: expected config hash {config_hash[:12]}, {found.name} has {found.config_hash[:12]}"
        )


def _settle(walk: Walk, found: engine.Container, wait: float) -> None:
    """Healthy within its own HEALTHCHECK's budget, and no restart for `min_healthy` since its start."""
    from cutover.probes.health import wait_healthy
    from cutover.probes.restarts import settled

    walk.require(wait_healthy(found.id, wait), "deploy::healthy")
    walk.require(settled(found, walk.settings.gate.min_healthy), "deploy::settled")


def _not_up(
    walk: Walk, done: host.Done, found: engine.Container | None, waited: float, wait: float
) -> Failed:
    """What became of it, with its last words; they are kept as evidence."""
    from cutover.probes.came_up import not_up
    from cutover.probes.health import with_last_words

    verdict = not_up(found, "healthy" if done.ok else done.last_line, waited, wait)
    if found is not None:
        verdict = with_last_words(verdict, found.id)
    walk.evidence.check("deploy::up", walk.target.name, 0, verdict, waited)
    return Failed(f"{verdict.question}: {verdict.reason}")


def _remember(walk: Walk, found: engine.Container, name: str, config_hash: str) -> None:
    """The release as it will be recorded at commit."""
    walk.deployed = True
    walk.target = replace(walk.target, tag=walk.wish.deploy)
    walk.pending = Record(
        walk.target.colour or "",
        walk.wish.deploy or "",
        found.image,
        config_hash,
        found.id,
        name,
        proven=False,
        by=preflight.who(),
        at=now(),
    )


def rewrite_tag(env_file: Path, key: str, tag: str) -> None:
    """Make the user's env file say what runs now: its one `KEY=` line is rewritten, at commit only."""
    lines = env_file.read_text(encoding="utf-8").splitlines(keepends=True)
    new = [
        f"{key}={tag}\n"
        if row.split("=", 1)[0].strip().removeprefix("export ").strip() == key and "=" in row
        else row
        for row in lines
    ]
    if new != lines:
        write_atomically(env_file, "".join(new), mode=env_file.stat().st_mode & 0o777)


def put_back(walk: Walk, record: Record) -> None:
    """Open a release whose only content is its undo: the last proven release of a colour, put back."""
    settings, colour = walk.settings, record.colour
    path = scene.release_path(settings, colour, record.file)
    if not path.is_file() or engine.image_id(record.image) is None:
        raise UsageProblem(
            f"{colour}: the proven release {record.tag} cannot be put back, its file or image is gone"
        )
    reference = str(json.loads(path.read_text(encoding="utf-8"))["services"][settings.service]["image"])
    previous = Previous(
        path, {settings.service: record.container}, {reference: record.image}, settings.gate.up_budget or 60.0
    )
    undo = up_undo(walk.state.root, settings.compose_project(colour), settings.services, previous)
    walk.images_before[colour] = record.image
    walk.apply(
        Change("put back", f"{record.tag} on {colour}, the last proven release", ("true",), undo, 30.0)
    )
