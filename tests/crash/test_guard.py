"""The guard: it outlives the session, reverts what that left open, goes on trying, and calls a person at last."""

from __future__ import annotations

import os
import subprocess

from cutover.release.state import REVERTED_ELSEWHERE, did_revert
from tests.crash.acting import ID
from tests.crash.place import Place, go_on, kill, lives, reads, until


def test_a_guard_that_was_killed_is_replaced_by_the_next_step(place: Place) -> None:
    """The session looks at its guard before each change, and starts another if it is gone."""
    with place.session("did write") as session:
        first = place.guard
        kill(first)
        until(lambda: not lives(first), "it is dead")
        go_on(session)
        assert reads(session, "second 0")
        assert place.guard != first
        assert lives(place.guard) or place.is_closed


def test_a_hung_session_is_ended_by_its_guard(place: Place) -> None:
    """After the longest time of a release it is reverted, though its session lives; that one learns it."""
    with place.session("did write", longest=5.0) as session:
        until(lambda: place.is_closed, "the guard reverts")
        assert session.poll() is None
        go_on(session)
        assert reads(session, f"second {REVERTED_ELSEWHERE}")
    place.assert_reverted()


def test_a_guard_that_gives_up_calls_a_person(place: Place) -> None:
    """An undo that keeps failing leaves the release open and says whose; once it can be done, all is well again."""
    cause = place.folder / "cause"
    cause.touch()
    place.left_open(f"[ ! -e {cause} ]\ncp {place.thing}.before {place.thing}\n")
    assert _guarded(place, tries="2").returncode == 0
    assert (place.state.needs_operator(), place.state.open_release()) == (ID, ID)
    assert not place.state.revert(ID).ok
    cause.unlink()
    assert did_revert(place.state.revert(ID), ID)
    place.assert_reverted()


def test_a_guard_tries_again(place: Place) -> None:
    """An engine that restarts fails an undo once or twice: the guard goes on until it works."""
    place.left_open(
        f'echo x >>"{place.folder}/tries"\n[ "$(wc -l <"{place.folder}/tries")" -ge 3 ]\ncp {place.thing}.before {place.thing}\n'
    )
    _guarded(place, tries="5")
    assert (place.folder / "tries").read_text() == "x\nx\nx\n"
    place.assert_reverted()


def test_a_guard_that_retries_is_ended_by_a_person(place: Place) -> None:
    """With the undo that it runs just then, although it ignores the signals of a terminal; what runs stays."""
    place.left_open(f"echo x >>{place.folder}/tries\nsleep 60\n")
    place.state.guard(ID, 0.0)
    guard = place.guard
    until((place.folder / "tries").exists, "it reverts")
    assert place.state.end_guard(ID)
    until(lambda: not lives(guard), "it is dead")
    assert place.state.close(ID)  # nobody holds the step lock any more
    assert place.state.open_release() is None
    assert not place.state.end_guard(ID)


def _guarded(place: Place, *, tries: str) -> subprocess.CompletedProcess[bytes]:
    """The guard of a release whose session is gone."""
    return subprocess.run(
        ("sh", str(place.state.root / "guard.sh"), str(place.state.root), ID, "60"),
        env=os.environ | {"CUTOVER_GUARD_TRIES": tries, "CUTOVER_GUARD_PAUSE_S": "0.05"}, check=False,
    )  # fmt: skip
