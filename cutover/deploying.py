"""Deploys a release to a color, and asks whether exactly that runs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from cutover import identifying, keeping, preflight, scene
from cutover.changes import Change
from cutover.changes.up import Previous, ensure, up
from cutover.core.errors import ConfigError, EngineUnavailable, Inconclusive
from cutover.gate.log_checks import read_baseline
from cutover.preparing import prepare
from cutover.state import Record, now, write_atomically
from cutover.system import compose, docker, process, registry
from cutover.system.compose import Compose, Rendered
from cutover.system.container import Container
from cutover.walk import Walk


@dataclass(frozen=True, slots=True)
class Planned:
    """What a deploy will run, and how what runs now is put back."""

    rendered: Rendered
    images: dict[str, str]
    """Service -> the ID of its image."""
    previous: Previous | None


def plan(walk: Walk) -> Planned:
    """Everything that can be refused before a deploy, asked once."""
    color, request = walk.target.color, walk.request
    if color is None:
        raise ConfigError(f"--deploy needs a color, live or idle: {walk.target.name} is a plain URL")
    if request.targets[0] == walk.before and walk.settings.proxy is not None:
        raise ConfigError(
            f"{color} is live: say --target=live to replace it in place, --target=idle to release without a gap"
        )
    rendered = compose.render(walk.settings, color, request.deploy)
    preflight.require(
        preflight.problems(walk.scene, rendered, switching=request.switch, environment=os.environ)
    )
    images = preflight.images_of(walk.settings, rendered, pull=not request.plan)
    try:
        previous, _ = preflight.previous_of(walk.state, walk.scene, color, keep=not request.plan)
    except ConfigError:
        if not request.allow_no_rollback:
            raise
        previous = None
    return Planned(rendered, images, previous)


def check(walk: Walk) -> None:
    """The preflight of a session that deploys, as a line of the run of show; nothing is changed."""
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        version = pool.submit(compose.require_compose)
        planned = walk.planned = plan(walk)
        version.result()
    rendered, image = planned.rendered, planned.images[walk.settings.service]
    way = (
        f"way back {scene.running_tag(walk.settings, rendered.color)}"
        if planned.previous
        else "nothing runs there, so its way back is to remove it"
    )
    found = f"is {image[7:19]}" if image else "is not here: would be pulled"
    walk.told("T-15m", "preflight", f"{rendered.image(walk.settings.service)} {found}; {way}", begun)
    if not preflight.recovers_at_boot():
        said = "nothing runs `cutover recover` after a reboot of this host: install deploy/cutover-recover.service"
        walk.told("T-15m", "boot", said, None, "not asked")


def deploy(walk: Walk) -> None:
    """Run the wished release on its color, or find that exactly it runs there, proven; raises Failed, Inconclusive."""
    planned = walk.planned or plan(walk)
    settings, rendered, begun = walk.settings, planned.rendered, time.monotonic()
    image = planned.images[settings.service]
    fact = registry.local_image(rendered.image(settings.service))
    digest = fact.digest if fact else ""
    walk.evidence.fact(
        "to", {"tag": walk.request.deploy, "image": image, "digest": digest, "color": rendered.color}
    )
    path = _write_release(walk, rendered)
    with ThreadPoolExecutor(3) as pool:  # each is a command of 0.1 s that waits for the engine
        hashes = pool.submit(compose.config_hashes, Compose(rendered.project, path))
        pool.submit(_network, settings.shared_network)
        for each in {
            *planned.images.values(),
            *(planned.previous.images.values() if planned.previous else ()),
        }:
            pool.submit(keeping.pin_image, settings.project, each)
    if _runs_proven(walk, planned, hashes.result()):
        path.unlink()
        walk.deployed = True
        said = f"{walk.request.deploy} runs already and is proven: nothing to do"
        walk.told("T-10m", f"deploy {rendered.color}", said, begun)
        return
    prepare(walk, rendered, path)
    _keep_baseline(walk, rendered.color)
    _up(walk, planned, path, hashes.result())


def _write_release(walk: Walk, rendered: Rendered) -> Path:
    """Write the rendered release, which nobody edits, and from which it is put back one day."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    name = f"{stamp}-{hashlib.sha256(rendered.text.encode()).hexdigest()[:8]}.yml"
    path = walk.state.release_folder(rendered.color) / name
    write_atomically(path, rendered.text)
    return path


def _up(walk: Walk, planned: Planned, path: Path, hashes: Mapping[str, str]) -> None:
    """The change itself, and the question whether exactly that release runs and stays up, service by service."""
    wait, begun = _longest(walk, planned), time.monotonic()
    change = _change(walk, planned, path, wait)
    with walk.telling("T-10m", f"deploy {planned.rendered.color}") as words:
        walk.evidence.fact("released_at", time.time())
        done = walk.apply(change)
        found = _all(walk, planned.rendered.project)
        if not (done.ok and all(found.values()) and all(each.running for each in chain(*found.values()))):
            raise identifying.not_up(walk, done, _worst(found), time.monotonic() - begun, wait)
        for each in chain(*found.values()):
            identifying.identify(each, planned.images[each.service], hashes.get(each.service, ""))
        for each in chain(*found.values()):
            identifying.wait_stable(walk, each, wait)
        words.append(f"healthy after {time.monotonic() - begun:.1f} s of at most {wait:.0f} s")
    main = walk.settings.service
    _remember(walk, found[main][0], path.name, hashes.get(main, ""))


def _worst(found: Mapping[str, Sequence[Container]]) -> Container | None:
    """Whose last words are shown: the first that is not well, of the first service that is not; None if it has none."""
    bad = [there for there in found.values() if not there or not all(each.well for each in there)]
    there = [*(bad or [*found.values()])[0]]
    return next((each for each in there if not each.well), there[0] if there else None)


def _change(walk: Walk, planned: Planned, path: Path, wait: float) -> Change:
    """What puts the release up, and what takes it away; the other color, which serves, runs when that is done."""
    settings, rendered, root = walk.settings, planned.rendered, walk.state.root
    before = walk.there_before[rendered.color] = _ask(walk, rendered.project)
    old_grace = (each.grace_s for each in before.values() if each)
    grace = max((*old_grace, *map(rendered.grace_s, settings.services)))
    text, project = f"{rendered.color} to {walk.request.deploy}", Compose(rendered.project, path)
    change = up(
        root, project, settings.services, text=text, wait_s=wait, previous=planned.previous, grace_s=grace
    )
    if walk.old is None or walk.before in {None, rendered.color}:
        return change
    # An engine that was killed stops what ran, once it is back, and starts none of it.
    old = ensure(root, settings.compose_project(walk.before or ""), settings.service, walk.old)
    return replace(change, undo=(*change.undo, old))


def _longest(walk: Walk, planned: Planned) -> float:
    """The longest wait for a healthy container: of the service that takes the traffic, and who else is asked."""
    if walk.settings.gate.start_timeout:
        return walk.settings.gate.start_timeout
    asked = {
        each: preflight.image_healthcheck(planned.images[each], planned.rendered, each)
        for each in walk.settings.services
    }
    main = walk.settings.service
    return max(
        preflight.wait_for(check) for each, check in asked.items() if each == main or check.get("Test")
    )


def _keep_baseline(walk: Walk, color: str) -> None:
    """Keep what the old container logged: a recreate deletes it. A first release is compared with the live color."""
    missing = {*walk.settings.services}
    for each in (color, walk.before):
        if each is None or not missing:
            continue
        for service, found in _ask(walk, walk.settings.compose_project(each)).items():
            before = (
                read_baseline(found, walk.settings.logs) if found is not None and service in missing else None
            )
            if before is not None:
                walk.baselines[color, service] = before
                missing.remove(service)


def _ask(walk: Walk, project: str) -> dict[str, Container | None]:
    """Service -> its container."""
    try:
        return docker.by_service(project, walk.settings.services)
    except EngineUnavailable as error:
        raise Inconclusive(str(error)) from error


def _all(walk: Walk, project: str) -> dict[str, list[Container]]:
    """Service -> its containers, one for each replica."""
    try:
        return {each: docker.replicas(project, each) for each in walk.settings.services}
    except EngineUnavailable as error:
        raise Inconclusive(str(error)) from error


def _runs_proven(walk: Walk, planned: Planned, hashes: Mapping[str, str]) -> bool:
    """Whether exactly this release runs already, each service of it well, and a whole gate has passed on it."""
    found = docker.by_service(planned.rendered.project, walk.settings.services)
    for service, each in found.items():
        if each is None or not each.well:
            return False
        if (each.image, each.config_hash) != (planned.images[service], hashes.get(service, "")):
            return False
    main = found[walk.settings.service]
    records = walk.state.records(planned.rendered.color)
    return main is not None and any(
        row.proven and row.is_running(main.id, main.image, main.config_hash) for row in records
    )


def _network(name: str) -> None:
    """Make the network that both colors share, if it is not there."""
    if name and not process.run(("docker", "network", "inspect", name), deadline_s=15).ok:
        process.run(("docker", "network", "create", name), deadline_s=30)


def _remember(walk: Walk, found: Container, name: str, config_hash: str) -> None:
    """The release as it will be recorded at commit."""
    walk.deployed = True
    walk.target = replace(walk.target, tag=walk.request.deploy)
    walk.pending = Record(
        walk.target.color or "",
        walk.request.deploy or "",
        found.image,
        config_hash,
        found.id,
        name,
        proven=False,
        by=preflight.who(),
        at=now(),
    )
