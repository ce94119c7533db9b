"""What a revert is compared with: the containers that were there, by what the engine says of them now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cutover.core.config import url_config
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxy.base import Live, Proxy
from cutover.release import verify
from cutover.release.colors import BeforeRelease
from cutover.release.history import Record
from cutover.release.state import State
from cutover.release.transaction import Transaction
from cutover.release.verify import (
    container_differs,
    describe_container,
    engine_causes,
    judge_old_release,
    judge_reverted,
    judge_users,
    settle,
    verify_reverted,
)
from cutover.system import docker
from cutover.system.container import Container, read_container
from cutover.system.docker import SwarmTask
from tests.helpers.containers import container

OTHER = container(id="b" * 64)
RUNNING, ELSE = container(), replace(container(), image="sha256:2")
EXITED, LOOPING, PAUSED = (container(Status=each) for each in ("exited", "restarting", "paused"))


@pytest.mark.parametrize(
    ("was", "now", "differ"),
    [
        (RUNNING, RUNNING, False),
        (RUNNING, OTHER, False),
        (RUNNING, None, True),
        (RUNNING, ELSE, True),
        (RUNNING, EXITED, True),
        (RUNNING, LOOPING, True),
        (None, None, False),
        (None, EXITED, False),
        (None, RUNNING, True),
        (None, LOOPING, True),
        (EXITED, None, False),
        (EXITED, RUNNING, True),
        (LOOPING, LOOPING, False),
        (LOOPING, RUNNING, False),
        (LOOPING, None, True),
        (PAUSED, RUNNING, False),
        (PAUSED, None, True),
    ],
)
def test_what_ran_runs_again(was: Container | None, now: Container | None, differ: bool) -> None:
    """The same image runs, in whatever container; one that looped or was paused before is not nothing."""
    assert container_differs(was, now) is differ


@pytest.mark.parametrize(
    ("found", "text"), [(None, "not there"), (EXITED, "exited ("), (RUNNING, "running (")]
)
def test_it_is_said_in_words(found: Container | None, text: str) -> None:
    """A person reads what became of it."""
    assert describe_container(found).startswith(text)


@pytest.mark.parametrize(
    ("live", "had", "has", "trouble", "notes"),
    [
        ("blue", 4, 4, "", 0),
        ("blue", 1, 2, "", 0),
        ("blue", 4, 1, "api of blue ran in 4 containers, now it runs in 1", 0),
        ("green", 4, 1, "", 1),
    ],
)
def test_a_part_of_the_replicas_is_not_as_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    live: str,
    had: int,
    has: int,
    trouble: str,
    notes: int,
) -> None:
    """Where users are served; of the idle color it is said."""
    settings, proxy = url_config(), cast("Proxy", object())
    tx = Transaction(State(tmp_path), 60.0, "sha-2", BeforeRelease(live, "sha-1"), "blue")
    tx.note_containers("blue", {"api": RUNNING}, {"api": had})
    monkeypatch.setattr(verify, "wait_live", lambda *_: Live(live, "asked"))
    monkeypatch.setattr(docker, "by_service", lambda *_: {"api": RUNNING})
    monkeypatch.setattr(verify, "replicas_of", lambda *_: {"api": has})
    after = verify_reverted(settings, proxy, tx)
    assert (after.trouble, len(after.notes)) == (trouble, notes)


def container_of(tag: str, status: str = "running", name: str = "") -> Container:
    """A container of *tag*, or of an image that is named otherwise."""
    state = {"Status": status, "Running": status == "running"}
    config = {"Image": name or f"api:{tag}"}
    found = {
        "Id": "c1",
        "Name": "/api",
        "Image": "sha256:11",
        "Config": config,
        "State": state,
        "HostConfig": {},
    }
    return read_container(found)


WAS = {"live": "blue", "color": "blue", "tag": "sha-1"}
NOTHING_RAN = {"live": None, "color": "blue", "tag": None}
UNTAGGED = {"live": "blue", "color": "blue", "tag": None, "image": "sha256:11"}
BUILT = container_of("", name="shop-api")


@pytest.mark.parametrize(
    ("was", "live", "found", "trouble"),
    [
        (WAS, "blue", container_of("sha-1"), ""),
        (WAS, "green", container_of("sha-1"), "traffic goes to green, it went to blue"),
        (WAS, None, container_of("sha-1"), "traffic goes to no color that is known, it went to blue"),
        (WAS, "blue", container_of("sha-2"), "blue runs sha-2, it ran sha-1"),
        (WAS, "blue", container_of("sha-1", "exited"), "blue runs nothing, it ran sha-1"),
        (WAS, "blue", None, "blue runs nothing, it ran sha-1"),
        (NOTHING_RAN, None, None, ""),
        (NOTHING_RAN, "blue", container_of("sha-2"), "blue runs sha-2, it ran nothing"),
        (WAS | {"image": "sha256:11"}, "blue", container_of("sha-1"), ""),
        (
            WAS | {"image": "sha256:99"},
            "blue",
            container_of("sha-1"),
            "blue runs sha-1 from image 11, it was 99",
        ),
        (UNTAGGED, "blue", BUILT, ""),
        (UNTAGGED, "blue", container_of("", name=f"api@sha256:{'a' * 64}"), ""),
        (UNTAGGED, "blue", None, "blue runs nothing, it ran 11"),
        (UNTAGGED, "blue", container_of("", "exited", "shop-api"), "blue runs nothing, it ran 11"),
        (UNTAGGED | {"image": "sha256:99"}, "blue", BUILT, "blue runs 11, it ran 99"),
        (WAS, "blue", BUILT, "blue runs 11, it ran sha-1"),
        (NOTHING_RAN, None, BUILT, "blue runs 11, it ran nothing"),
        ({}, "blue", container_of("sha-1"), ""),
        ({}, None, None, "the journal does not say what served before, and nothing is known to serve now"),
    ],
)
def test_a_revert_is_judged_by_what_serves(
    was: dict[str, Any], live: str | None, found: Container | None, trouble: str
) -> None:
    """Color, tag, and that it runs, as they were when the release was opened."""
    assert judge_reverted(was, live, found, proxied=False) == trouble
    assert judge_reverted(was, None, found, proxied=True) != ""


READY, LOGS = {"ready": "expected status 200, got 503"}, {"logs": "5 crashes of a new kind"}


@pytest.mark.parametrize(
    ("failed", "before", "verified", "trouble", "notes"),
    [
        ({}, {}, True, "", []),
        (LOGS, {}, True, "", ["its gate says: logs: 5 crashes"]),
        (LOGS, {"logs": "4 crashes of a new kind"}, True, "", ["as it did before: logs: 5 crashes"]),
        ({"health": "unhealthy"}, {}, True, "", ["its gate says: health: unhealthy"]),
        ({"identity": "runs configuration 4fb9"}, {}, True, "", ["identity"]),
        ({"latency of /": "expected p95 1 s, got 2 s"}, {}, True, "", ["latency of /"]),
        (READY, {}, True, "does not pass the gate: ready: expected status 200", []),
        (READY, READY, True, "", ["as it did before: ready"]),
        (READY, {}, False, "", ["ready"]),  # never verified, so perhaps it never was ready
        ({"test_orders": "assert 0"}, {}, True, "does not pass the gate: test_orders", []),
        (LOGS | READY, LOGS, True, "does not pass the gate: ready", ["as it did before: logs"]),
    ],
)
def test_the_old_release_is_compared_with_what_it_was(
    failed: dict[str, str], before: dict[str, str], verified: bool, trouble: str, notes: list[str]
) -> None:
    """An operator is needed only for what users notice and did not have before; the rest is said."""
    seen, said = judge_old_release(failed, before, verified=verified)
    assert trouble in seen
    assert bool(trouble) == bool(seen)
    assert len(said) == len(notes)
    assert all(each in text for each, text in zip(notes, said, strict=True))


@pytest.mark.parametrize(
    ("says", "times", "end", "asked"),
    [
        (["", "x"], [0.0], "", 1),
        (["x", "x", ""], [0.0, 1.0, 2.0], "", 3),
        (["x", "x", "x"], [0.0, 20.0, 31.0], "x", 3),
    ],
)
def test_the_old_release_may_need_a_moment(says: list[str], times: list[float], end: str, asked: int) -> None:
    """It is asked again while it is not as it was, within a budget."""
    answers, clock = iter(says), iter([0.0, *times])
    seen: list[str] = []

    def judge() -> tuple[str, tuple[str, ...]]:
        seen.append(next(answers))
        return seen[-1], ()

    assert settle(judge, 30.0, clock=lambda: next(clock), sleep=lambda _: None) == (end, ())
    assert len(seen) == asked


OURS = Record(
    "green", "sha-2", "sha256:1", "", "a" * 64, "r.yml", verified=False, by="ana", at="2025-09-04T02:10:00Z"
)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (container(), ""),
        (None, "api of green is gone: somebody removed the container that we started"),
        (
            OTHER,
            "api of green is not the container that we started: somebody started recall_green-api-1 (running",
        ),
        (
            container(Status="exited", ExitCode=137, OOMKilled=True),
            "recall_green-api-1: exited (137, SIGKILL), killed for its memory limit",
        ),
        (container(restart_count=3), "was started again: 3 times"),
    ],
)
def test_the_engine_says_how_a_release_ended(found: Container | None, said: str) -> None:
    """Exit code, memory limit, or that somebody else has replaced it; nothing for a container that simply runs."""
    causes = engine_causes(OURS, "api", {"api": found})
    assert len(causes) == bool(said)
    assert said in "".join(causes)


def test_a_container_that_a_port_swap_made_anew_was_started_by_nobody_else() -> None:
    """During the swap its id is not known, so it is not compared; the causes name how it ended."""
    during = replace(OURS, container="")
    assert engine_causes(during, "api", {"api": OTHER}) == []
    assert "exited (3)" in "".join(
        engine_causes(during, "api", {"api": container(Status="exited", ExitCode=3)})
    )


ENDED = SwarmTask("failed", "api", "h", "web-1", ": task: non-zero exit (137)", "shutdown", 1, "a" * 64)
FORGOTTEN = replace(ENDED, container="f" * 64)
AGAIN = "; the Swarm started another"


@pytest.mark.parametrize(
    ("found", "tasks", "said"),
    [
        (OTHER, [ENDED], f"a task of api on web-1 failed: task: non-zero exit (137){AGAIN}"),
        (OTHER, [FORGOTTEN], f"a task of api on web-1 failed: task: non-zero exit (137){AGAIN}"),
        (
            OTHER,
            [replace(ENDED, state="complete", why="")],
            f"a task of api on web-1 ended with exit code 0{AGAIN}",
        ),
        (OTHER, [replace(ENDED, state="shutdown"), FORGOTTEN], "the task of api was replaced: recall_green"),
        (OTHER, [replace(FORGOTTEN, slot=2)], "the task of api was replaced: recall_green"),
        (OTHER, [], "the task of api was replaced: recall_green-api-1 runs since 2026-01-01T00:00:10Z"),
        (replace(OTHER, image="sha256:2"), [ENDED], "somebody started recall_green-api-1"),
        (container(Status="exited", ExitCode=3), [], "recall_green-api-1: exited (3)"),
        (container(), [FORGOTTEN], ""),
        (None, [ENDED], "api of green is gone"),
    ],
)
def test_a_task_that_the_swarm_replaced_was_started_by_nobody(
    found: Container | None, tasks: list[SwarmTask], said: str
) -> None:
    """Its reason is how the task ended that it replaces; another image is there by somebody."""
    causes = engine_causes(OURS, "api", {"api": found}, tasks)
    assert len(causes) == bool(said)
    assert said in "".join(causes)


ANSWERS, LOGS_ERRORS = yes("ready", "status 200"), no("logs", "5 errors")
NOT_READY, LOST = no("ready", "expected status 200, got 503"), no("GET /items", "got 404")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([ANSWERS, LOGS_ERRORS], "served by green (sha-2), which answers as its gate expects"),
        ([NOT_READY, LOST], "not served by green (sha-2): ready: expected status 200, got 503"),
        ([ANSWERS, LOST], "not all served by green (sha-2): GET /items: got 404"),
        (
            [unknown("ready", "the way is down")],
            "whether green (sha-2) serves them is unknown: the way is down",
        ),
        ([], "whether green (sha-2) serves them is unknown: it could not be asked"),
    ],
)
def test_whether_users_are_served_is_said(asked: list[Verdict], said: str) -> None:
    """By requests as users send them; what was not answered is unknown, and no yes."""
    assert judge_users("green", "sha-2", asked) == said
