"""What a revert is compared with: the containers that were there, by what the engine says of them now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutover.as_before import differs, told
from cutover.system.container import Container
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
    assert differs(was, now) is differ


@pytest.mark.parametrize(
    ("found", "text"), [(None, "not there"), (EXITED, "exited ("), (RUNNING, "running (")]
)
def test_it_is_said_in_words(found: Container | None, text: str) -> None:
    """A person reads what became of it."""
    assert told(found).startswith(text)
