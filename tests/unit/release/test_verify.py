"""What a revert is compared with: the containers that were there, by what the engine says of them now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cutover.release.verify import container_differs, describe_container, judge_reverted
from cutover.system.container import Container, read_container
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


def container_of(tag: str, status: str = "running") -> Container:
    """A container of *tag*."""
    state = {"Status": status, "Running": status == "running"}
    config = {"Image": f"api:{tag}"}
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
