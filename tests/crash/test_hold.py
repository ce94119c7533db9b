"""The kill matrix of a hold: whatever dies, it ends in exactly one release: confirmed in time, else the old one."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cutover.release.history import HOLD_FILE, Moment
from cutover.release.state import did_revert
from cutover.system.files import write_atomically
from tests.crash.acting import ID, hold
from tests.crash.place import NEW, Place, go_on, kill, lives, reads, until
from tests.helpers import disks

LATE_S = 10.0
"""How long after its deadline a release is reverted at the latest."""
HOLD_S = 9.0


def held(place: Place, seconds: float = HOLD_S, *, die: bool = False) -> None:
    """A session that holds its release and ends, or dies right after that."""
    with place.session("held", hold_s=seconds) as session:
        assert place.state.held() is not None
        if die:
            kill(session.pid)
        else:
            go_on(session)
            session.wait()


def assert_reverted_in_time(place: Place) -> None:
    """The new release is there until the deadline, and the old one from then on."""
    found = place.state.held()
    assert found is not None
    assert place.says == NEW
    while place.state.open_release() is not None:
        late = -found.left_s(Moment.now())
        assert late < LATE_S, f"{late:.1f} s after the deadline it is not reverted"
        time.sleep(0.05)
    assert found.left_s(Moment.now()) <= 1.0, (
        "reverted before the deadline"
    )  # the uptime has whole seconds in sh
    place.assert_reverted()
    assert not (place.state.root / HOLD_FILE).exists()
    until(lambda: not place.state.guards(ID), "both guards go")


@pytest.mark.parametrize("die", [False, True], ids=["session ends", "session dies"])
def test_a_hold_ends_at_its_deadline(place: Place, *, die: bool) -> None:
    """Without a confirmation the guard reverts it then; until then another release is refused."""
    held(place, die=die)
    assert place.state.guard_lives(ID)
    assert_reverted_in_time(place)
    last = place.state.history()[-1]
    assert (last["event"], last["who"]) == ("reverted", "its guard")


def test_a_confirmed_release_stays(place: Place) -> None:
    """The rename closes it, and its guards go without touching it."""
    held(place)
    two_guards(place)
    assert place.state.close(ID)
    assert place.state.held() is None
    until(lambda: not place.state.guards(ID), "both guards go")
    time.sleep(HOLD_S)
    place.assert_kept()


def two_guards(place: Place) -> list[int]:
    """The process ids of both guards; for a moment a shell that one of them forks looks like one, too."""
    looks: list[list[int]] = [[]]

    def settled() -> bool:
        looks.append(sorted(each.pid for each in place.state.guards(ID)))
        return len(looks[-1]) == 2 and looks[-3:].count(looks[-1]) == 3

    until(settled, "two guards")
    return looks[-1]


@pytest.mark.parametrize("which", [0, 1], ids=["the first", "the second"])
def test_a_guard_that_dies_is_started_by_the_other(place: Place, which: int) -> None:
    """Either may be killed: two are there again, and the release is reverted in time."""
    held(place, 9.0, die=which == 1)
    killed = two_guards(place)[which]
    kill(killed)
    until(lambda: not lives(killed), "it is dead")
    assert killed not in two_guards(place)
    assert place.state.guard_lives(ID)
    assert_reverted_in_time(place)


@pytest.mark.parametrize("over", [False, True], ids=["in time", "too late"])
def test_after_a_reboot(place: Place, *, over: bool) -> None:
    """Nothing of it runs any more, and the uptime began anew: it is armed again, or reverted when the time is over."""
    held(place, 9.0)
    _kill_all(place)
    found = place.state.held()
    assert found is not None
    passed = 60.0 if over else 0.0
    then = replace(
        found.begun, boot="another", uptime_s=found.begun.uptime_s + 1e6, epoch_s=found.begun.epoch_s - passed
    )
    write_atomically(place.state.root / HOLD_FILE, replace(found, begun=then).as_text())
    assert not place.state.guard_lives(ID)
    if over:
        place.state.require_not_held()
        place.state.recover(ID)
        place.assert_reverted()
        return
    assert place.state.ensure_guard(ID)
    assert not place.state.ensure_guard(ID)
    assert_reverted_in_time(place)


@pytest.mark.parametrize("by_s", [86400.0, -86400.0], ids=["ahead", "back"])
def test_a_step_of_the_clock_moves_no_deadline(place: Place, by_s: float) -> None:
    """The clock at the beginning of the hold was another one by a day."""
    held(place, 5.0)
    found = place.state.held()
    assert found is not None
    stepped = replace(found, begun=replace(found.begun, epoch_s=found.begun.epoch_s + by_s))
    write_atomically(place.state.root / HOLD_FILE, stepped.as_text())
    assert_reverted_in_time(place)


def test_on_a_full_disk_a_hold_ends_at_its_deadline(small: Place, disk: Path) -> None:
    """What it needs then are renames and removals."""
    small.state.prepare()
    held(small, 7.0)
    until(lambda: len(small.state.guards(ID)) == 2, "two guards")
    disks.fill(disk)
    assert_reverted_in_time(small)


def test_on_a_full_disk_a_hold_is_refused(small: Place, disk: Path) -> None:
    """It raises what the session tells, and the release is open as before: it is reverted."""
    small.state.prepare()
    with small.session("did second") as session:
        disks.fill(disk)
        with pytest.raises(OSError, match="No space left"):
            small.state.hold(hold(60.0))
        assert small.state.held() is None
        kill(session.pid)
    small.assert_reverted()


def test_a_session_that_is_too_late_holds_nothing(place: Place) -> None:
    """Its guard has reverted the release already."""
    with place.session("did second", longest=5.0, hold_s=60.0) as session:
        until(lambda: place.is_closed, "the guard reverts")
        go_on(session)
        assert reads(session, "held False")
    place.assert_reverted()
    assert place.state.held() is None


def reverting(guard: int) -> bool:
    """Whether a guard runs revert.sh, which waits for the step lock."""
    waiting = psutil.Process(guard).children(recursive=True)
    return any(each.name() == "flock" for each in waiting)


def test_a_guard_that_waits_for_the_lock_while_the_release_is_held_holds_it_too(place: Place) -> None:
    """The longest time of the session ends in the moment in which it holds its release: the hold counts."""
    with place.session("did second", longest=3600.0) as session:
        with place.state._step_lock():  # in which `hold` writes
            argv = ("sh", str(place.state.root / "guard.sh"), str(place.state.root), ID, "0")
            environment = os.environ | {"CUTOVER_GUARD_PAUSE_S": "0.1"}
            late = subprocess.Popen(argv, env=environment)
            until(lambda: reverting(late.pid), "it waits for the step lock")
            write_atomically(place.state.root / HOLD_FILE, hold(HOLD_S).as_text())
            for name in ("guard.1", "guard.2"):
                (place.state.root / name).touch()
        kill(session.pid)
    assert_reverted_in_time(place)
    late.wait()


@pytest.mark.parametrize("after_s", [0.8, 1.0, 1.1, 1.3, 1.5, 1.9])
def test_a_confirmation_against_the_deadline(place: Place, after_s: float) -> None:
    """Exactly one of both wins, by the rename under the step lock."""
    held(place, 4.0)
    found, kept = place.state.held(), []
    assert found is not None

    def confirm() -> None:
        time.sleep(max(0.0, found.left_s(Moment.now()) - 1.0 + after_s))
        kept.append(place.state.close(ID))

    confirming = threading.Thread(target=confirm)
    confirming.start()
    confirming.join()
    until(lambda: not place.state.guards(ID), "both guards go")
    assert place.is_closed
    assert not did_revert(place.state.revert(ID), ID)
    if kept[0]:
        assert place.says == NEW
    else:
        place.assert_reverted()


def test_a_person_ends_a_hold(place: Place) -> None:
    """`cutover recover --give-up` ends both guards and closes the release; `cutover rollback` reverts it."""
    held(place, 60.0)
    until(lambda: len(place.state.guards(ID)) == 2, "two guards")
    assert place.state.end_guard(ID)
    until(lambda: not place.state.guards(ID), "both guards go")
    assert place.state.close(ID)
    place.assert_kept()


def test_a_rollback_ends_a_hold_at_once(place: Place) -> None:
    """The guards find nothing open any more."""
    held(place, 60.0)
    assert did_revert(place.state.revert(ID), ID)
    place.assert_reverted()
    until(lambda: not place.state.guards(ID), "both guards go")


def _kill_all(place: Place) -> None:
    until(lambda: len(place.state.guards(ID)) == 2, "two guards")
    assert place.state.end_guard(ID)
    until(lambda: not place.state.guards(ID), "both are dead")
