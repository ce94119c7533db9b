"""Releases on a Swarm whose traffic is switched by two nodes, over ssh."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from examples.releases import build
from examples.stand import Stand, latest, pause
from tests.helpers.color_servers import wait_until
from tests.helpers.load import Ask, load
from tests.helpers.registry_image import registry_image
from tests.helpers.ssh_hosts import tag_at
from tests.helpers.ssh_server import Server, docker
from tests.helpers.swarm import Node
from tests.helpers.swarm_fronts import LOG, FrontsStand, compose_fronts_stand, fronts_stand

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
GOOD, NEXT, FAILS_SOME = "sha-5a00001", "sha-5a00002", "sha-5a0bad3"
VERSION = (Ask("GET", "/version"),)
UNCHECKED = (Ask("GET", "/slow?seconds=0"),)
"""A route that no check asks for."""


@pytest.fixture(scope="module")
def images() -> list[str]:
    """The releases."""
    return [build(GOOD), build(NEXT), build(FAILS_SOME, "rare-error")]


@pytest.fixture(scope="module")
def stand(images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontsStand]:
    """A Swarm of two nodes with nginx, on which the first release runs."""
    with fronts_stand(tmp_path_factory.mktemp("fronts"), f"fronts{uuid.uuid4().hex[:6]}", images) as made:
        first = made.pytest("smoke", "--target=blue", f"--deploy={GOOD}")
        assert first.code == 0, first.out
        yield made


@pytest.fixture
def before(stand: FrontsStand) -> str:
    """The tag that users of both fronts get before the test."""
    found = {*stand.tags().values()}
    assert len(found) == 1, found
    return found.pop()


def next_after(tag: str) -> str:
    """A good release that is not *tag*."""
    return NEXT if tag == GOOD else GOOD


def release(stand: FrontsStand, tag: str, *more: str) -> str:
    """Release *tag* to the idle color and watch it; exit code and output in one text."""
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", *more)
    return f"{done.out}\nexit code {done.code}"


def both(value: str) -> dict[str, str]:
    """*value* for both fronts."""
    return {"web-1": value, "web-2": value}


def colors(stand: FrontsStand) -> tuple[str, str]:
    """The live and the idle color."""
    live = str(stand.status()["live"])
    return live, "blue" if live == "green" else "green"


def test_a_front_that_ssh_does_not_know_is_refused(stand: FrontsStand) -> None:
    """One line names it before anything is changed."""
    text, before = stand.config.read_text(), stand.status()["colors"]
    stand.config.write_text(text.replace("web-2 =", "web-9 ="))
    try:
        said = release(stand, NEXT)
    finally:
        stand.config.write_text(text)
    assert "exit code 4" in said, said
    assert "web-9: no host of that name: name it as `ssh` knows it" in said
    assert stand.status()["colors"] == before


def test_a_front_whose_log_cannot_be_read_is_refused(stand: FrontsStand) -> None:
    """It is named before anything is changed: nobody would see how its users' requests fail."""
    second, colors_before = Server(stand.nodes["web-2"].name), stand.status()["colors"]
    second.run(f"mv {LOG} {LOG}.1 && mkdir {LOG}", user="root")
    try:
        said = release(stand, NEXT)
    finally:
        second.run(f"rmdir {LOG} && mv {LOG}.1 {LOG}", user="root")
    assert "exit code 4" in said, said
    assert f"[proxy] access_log: web-2: {LOG} cannot be read: it is no regular file" in said
    assert stand.status()["colors"] == colors_before


def test_good_release_is_switched_to_on_both_fronts(stand: FrontsStand, before: str) -> None:
    """Users of neither front lose a request; each front has its proof."""
    tag, (live, idle) = next_after(before), colors(stand)
    with (
        load(stand.front("web-1"), connections=10, rate=50, asks=VERSION) as one,
        load(stand.front("web-2"), connections=10, rate=50, asks=VERSION) as two,
    ):
        said = release(stand, tag)
    assert "exit code 0" in said, said
    for users in (one, two):
        assert users.failed == []
        assert users.by(live) > 0
        assert users.by(idle) > 0
    rows = [json.loads(row) for row in (latest(stand.folder) / "evidence.jsonl").read_text().splitlines()]
    asked = {row.get("test") for row in rows}
    assert {"switch::proof[web-1]", "switch::proof[web-2]"} < asked, asked
    (watched,) = (row for row in rows if "stays_well[live-5xx]" in str(row.get("test")))
    until = watched["at"] - time.time() + time.monotonic()
    alone = [sum(each.color == idle and each.ended < until for each in users.shots) for users in (one, two)]
    assert max(alone) < watched["verdict"]["evidence"]["requests"] <= one.by(idle) + two.by(idle)
    assert "on web-1, web-2, done and seen" in said
    assert f"recall/api:{tag} has no digest" in said
    status = stand.status()
    assert (status["live"], status["fronts"]) == (idle, both(idle))
    assert stand.tags() == both(tag)


def test_a_second_front_that_fails_flips_the_first_back(stand: FrontsStand, before: str) -> None:
    """The marker of the second one cannot be renamed: users of both have the old release again."""
    live, idle = colors(stand)
    second = Server(stand.nodes["web-2"].name)
    read_only = f"mount --bind {stand.marker} {stand.marker}; mount -o remount,bind,ro {stand.marker}"
    second.run(read_only, user="root")
    try:
        said = release(stand, next_after(before))
    finally:
        second.run(f"umount {stand.marker}", user="root")
    assert "exit code 1" in said, said
    assert f"the switch to {idle} failed" in said
    assert stand.tags() == both(before)
    undo = (stand.state / "undo.sh").read_text()
    assert undo.index("web-2:$!") < undo.index("web-1:$!")
    assert stand.status()["fronts"] == both(live)


def test_a_release_that_fails_users_of_one_front_is_reverted_on_both(stand: FrontsStand, before: str) -> None:
    """Only the log of the second one shows it; each failed request is counted. Then `cutover rollback` goes further."""
    earlier = next_after(before)
    if stand.status()["rollback"]["how"] is None:  # type: ignore[index]
        assert "exit code 0" in release(stand, earlier)
        before, earlier = earlier, before
    with load(stand.front("web-2"), connections=5, rate=20, asks=UNCHECKED) as users:
        said = release(stand, FAILS_SOME, "--watch=5m")
    assert "exit code 1" in said, said
    assert "switch and deploy reverted" in said
    assert "5xx: expected at most" in said
    assert len(users.failed) > 2
    assert f"Users saw {len(users.failed)} failed requests" in " ".join(said.split())
    assert stand.tags() == both(before)
    done = stand.cutover("rollback")
    assert done.code == 0, done.out
    assert stand.tags() == both(earlier)


@pytest.mark.usefixtures("images")
def test_fronts_with_compose(tmp_path: Path) -> None:
    """Colors of plain Compose behind two proxies: both are switched, both are watched, both go back."""
    with compose_fronts_stand(tmp_path, f"cfront{uuid.uuid4().hex[:6]}") as stand:
        first = stand.release(GOOD, "blue")
        assert first.code == 0, first.out
        with load(stand.urls["web-2"], connections=5, rate=20, asks=UNCHECKED) as users:
            words = ("smoke", "checks", "--target=idle", f"--deploy={FAILS_SOME}", "--switch", "--watch=5m")
            done = stand.pytest(*words)
        assert done.code == 1, done.out
        assert "on web-1, web-2, done and seen" in done.out
        assert f"Users saw {len(users.failed)} failed requests" in " ".join(done.out.split())
        assert stand.tags() == both(GOOD)


@pytest.mark.slow
@pytest.mark.usefixtures("images")
def test_a_front_that_is_silent_in_the_watch(tmp_path: Path) -> None:
    """Nobody knows what its users get, so the release goes back: on that front too, as soon as it answers again."""
    with compose_fronts_stand(tmp_path, f"cfront{uuid.uuid4().hex[:6]}") as stand:
        first = stand.release(GOOD, "blue")
        assert first.code == 0, first.out
        before, silent = latest(stand.folder), stand.servers["web-2"].name
        words = ("smoke", "checks", "--target=idle", f"--deploy={NEXT}", "--switch", "--watch=5m")
        session = stand.start(*words)
        wait_until(lambda: has_step(stand, before, "drain blue"), "it watches", 120)
        pause(silent)
        try:
            wait_until(lambda: tag_at(stand.urls["web-1"]) == GOOD, "users of the other front are back", 120)
            time.sleep(5)
        finally:
            docker("unpause", silent)
        said = session.communicate(timeout=300)[0]
        assert session.returncode == 10, said
        assert "web-2" in said.rpartition("why")[2], said
        assert stand.tags() == both(GOOD)
        assert stand.status()["fronts"] == both("blue")


def has_step(stand: Stand, before: Path, name: str) -> bool:
    """Whether the session after that with the report folder *before* has ended the step *name*."""
    file = latest(stand.folder) / "evidence.jsonl"
    return file.parent != before and file.exists() and f'"name": "{name}"' in file.read_text()


def test_an_image_of_a_registry_is_named_by_its_digest(stand: FrontsStand, tmp_path: Path) -> None:
    """The stack file and every task name the content that was resolved once, beside the tag."""
    repository, (_, idle) = "127.0.0.1:5000/recall/api", colors(stand)
    with registries(stand, tmp_path):
        first = stand.nodes["web-1"]
        first.docker("tag", f"recall/api:{NEXT}", f"{repository}:{NEXT}")
        first.docker("push", "--quiet", f"{repository}:{NEXT}")
        for color in ("blue", "green"):
            env_file = stand.env_file(color)
            env_file.write_text(
                env_file.read_text().replace("IMAGE_REPO=recall/api", f"IMAGE_REPO={repository}")
            )
        done = stand.pytest("smoke", "--target=idle", f"--deploy={NEXT}")
    assert done.code == 0, done.out
    assert "has no digest" not in done.out
    shown = ("service", "ps", "--no-trunc", "--filter", "desired-state=running", "--format", "{{.Image}}")
    (image,) = {*stand.engine(*shown, f"{stand.project(idle)}_api").split()}
    assert re.fullmatch(rf"{repository}:{NEXT}@sha256:[0-9a-f]{{64}}", image)
    files = sorted((stand.state / "releases" / idle).glob("*.yml"))
    assert any(image in each.read_text() for each in files)
    assert stand.status()["colors"][idle]["tag"] == NEXT  # type: ignore[index]


def registry_answers(node: Node) -> bool:
    """Whether the registry of *node* does."""
    words = ("docker", "exec", node.name, "curl", "--silent", "--fail", "http://127.0.0.1:5000/v2/")
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@contextmanager
def registries(stand: FrontsStand, folder: Path) -> Iterator[None]:
    """The same registry on port 5000 of each node, which needs no certificate there; removed afterwards."""
    name, made = f"{stand.name}-registry", list[str]()
    config = "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\nhttp: {addr: 127.0.0.1:5000}\n"
    without = (
        "-u",
        "REGISTRY_AUTH",
        "-u",
        "REGISTRY_AUTH_HTPASSWD_REALM",
        "-u",
        "REGISTRY_AUTH_HTPASSWD_PATH",
    )
    serve = (
        f"printf '%s' '{config}' >/config.yml; exec env {' '.join(without)} docker-registry serve /config.yml"
    )
    image = registry_image(folder)
    try:
        for node in stand.nodes.values():
            place = ("--network", f"container:{node.name}", "--volume", f"{name}:/data")
            made.append(f"{name}-{node.name}")
            docker("run", "--detach", "--name", made[-1], *place, image, "sh", "-c", serve)
            wait_until(partial(registry_answers, node), "the registry answers")
        yield
    finally:
        for each in made:
            docker("rm", "--force", each)
        docker("volume", "rm", "--force", name)
