"""SIGKILL during a release: one release serves, `status` names it, and no release stays open."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutover.core.evidence import load_evidence
from examples.stand import Stand
from tests.helpers import kill_session
from tests.helpers.kill_points import POINTS, SWITCH, Point, Run, compose_ups, family, other, watches
from tests.helpers.kill_session import only_serves, report_of

pytestmark = pytest.mark.engine
DOES = [each.name for each in POINTS if each.name.startswith("do ") and not each.command]
STAYS_S = 20.0  # longer than a stop that the engine may still have pending


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand on which OLD is live on blue and verified."""
    made = kill_session.make(tmp_path_factory.mktemp("stand"), f"dea{uuid.uuid4().hex[:6]}")
    try:
        yield made
    finally:
        made.remove()


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_death_in_a_run_of_show(stand: Stand, point: Point, tmp_path: Path) -> None:
    """After a kill at any point one color serves the correct release, `status` agrees, and a report can be made."""
    with kill_session.running(stand, point, tmp_path) as run:
        kill_session.settled(run, point)
    kill_session.as_it_must(run, point)
    if point.migrate and point.kept:
        changes = [row["change"] for row in run.journal if row["event"] == "do"]
        assert [f"do {each}" for each in changes] == DOES, "a change has no point at which a session dies"


def container(stand: Stand, color: str) -> str:
    """Id of the running container of *color*."""
    project = f"label=com.docker.compose.project={stand.project(color)}"
    return stand.docker("ps", "--no-trunc", "--quiet", "--filter", project).strip()


def containers(stand: Stand, color: str) -> list[str]:
    """Ids of all containers of *color*, also stopped ones, without the migration's one-off container."""
    project = f"label=com.docker.compose.project={stand.project(color)}"
    own = ("--filter", project, "--filter", "label=com.docker.compose.oneoff=False")
    return stand.docker("ps", "--all", "--no-trunc", "--quiet", *own).split()


def in_place(reached: Callable[[Run], bool]) -> Point:
    """A point of a release that replaces the live container."""
    return Point("in place", reached, arguments=("--target=live",))


def test_a_session_killed_while_the_old_container_is_gone(stand: Stand, tmp_path: Path) -> None:
    """Killed during an in-place recreate: the guard waits for the orphaned Compose, then restores the old container."""
    live = str(stand.status()["live"])
    old = container(stand, live)
    point = in_place(lambda run: run.does("up") and old not in containers(stand, live))
    with kill_session.running(stand, point, tmp_path) as run:
        kill_session.settled(run, point)
    only_serves(stand, run.tag, live)
    assert report_of(run)["status"] == "INCONCLUSIVE"
    again = container(stand, live)
    for _ in range(2):
        subprocess.run(("sh", "-eu", str(stand.state / "undo.sh")), check=True, stdin=subprocess.DEVNULL)
        assert container(stand, live) == again, "what is back is taken away once more"


def test_a_compose_killed_in_the_middle_of_its_recreate(stand: Stand, tmp_path: Path) -> None:
    """The session reverts, and the restored container stays although the engine may have a stop pending."""
    live = str(stand.status()["live"])
    old = container(stand, live)
    point = in_place(lambda run: run.does("up") and containers(stand, live) not in ([old], []))
    with kill_session.running(stand, point, tmp_path) as run:
        ups = compose_ups(family(run.process.pid), stand.project(live))
        assert ups
        for each in ups:
            with contextlib.suppress(ProcessLookupError):  # docker's plugin may end with docker
                os.kill(each, signal.SIGKILL)
        said = run.process.communicate()[0]
    assert run.process.returncode == 1, said
    only_serves(stand, run.tag, live)
    assert report_of(run)["status"] == "ROLLED BACK"
    stays = container(stand, live)
    deadline = time.monotonic() + STAYS_S
    while time.monotonic() < deadline:
        assert container(stand, live) == stays
        time.sleep(0.5)
    only_serves(stand, run.tag, live)


def test_a_rollback_ends_a_watch(stand: Stand, tmp_path: Path) -> None:
    """A second session exits 12; `cutover rollback` reverts the release, and its session reports that."""
    point = Point("watch", watches, arguments=SWITCH)
    with kill_session.running(stand, point, tmp_path) as run:
        second = stand.pytest("smoke", "--target=idle", f"--deploy={run.tag}", CUTOVER_WHO="ben")
        assert second.code == 12, second.out
        assert f"is releasing {run.wanted} to idle" in second.out
        done = stand.cutover("rollback")
        assert done.code == 0, done.out
        assert stand.ask().get("version") == run.tag
        said = run.process.communicate()[0]
    assert run.process.returncode == 1, said
    assert "the release was reverted by ana" in said
    only_serves(stand, run.tag, run.live)
    assert report_of(run)["status"] == "ROLLED BACK"


def test_a_proxy_that_restarts_in_the_watch(stand: Stand, tmp_path: Path) -> None:
    """The release is kept or reverted as the watch decides, and exit code, report and reasons agree with the result."""
    point = Point("watch", watches, arguments=(*SWITCH[:2], "--watch=10s"))
    with kill_session.running(stand, point, tmp_path) as run:
        stand.docker("restart", "--time", "1", f"{stand.name}-proxy")
        said = run.process.communicate()[0]
    kept = run.process.returncode == 0
    assert kept or run.process.returncode in {1, 10}, said
    only_serves(stand, run.wanted if kept else run.tag, other(run.live) if kept else run.live)
    assert report_of(run)["status"] == ("RELEASED" if kept else "ROLLED BACK"), said
    ending = load_evidence(run.report / "evidence.jsonl").facts["result"]
    assert [each["tag"] for each in ending["running"] if each["live"]] == [run.wanted if kept else run.tag]
    words = " ".join(said.split())
    assert all(" ".join(each["text"].split()) in words for each in ending["reasons"]), said
    assert bool(ending["reasons"]) is not kept
