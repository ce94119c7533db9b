"""The death matrix, with the real shell files and trivial words: whatever dies, wherever, one state is left."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from cutover.core.change import Change
from cutover.core.errors import Locked
from cutover.release.state import REVERTED_ELSEWHERE, did_revert
from tests.crash.acting import ID, second
from tests.crash.place import NEW, OLD, Place, go_on, kill, lives, reads, until

# The commands of a step in their order: what is dead before or after each of them.
STEP = ("flock", "cat open", "sync undo.new", "mv undo.new undo.sh", "sync", "timeout", "half done", "done")
DEATHS = [
    pytest.param(number, when, id=f"{when} {command}")
    for number, command in enumerate(STEP, 1)
    for when in ("before", "after")
    if (command, when) != ("timeout", "after")  # it becomes the words
]
TAKE_BACK = ("flock", "cat open", "cat undo.sh", "the undo", "rm unrecorded", "mv open", "rm", "sync")


@pytest.mark.parametrize(
    "victims",
    [
        ("step",),
        ("step", "guard"),
        ("session",),
        ("session", "step"),
        ("session", "guard"),
        ("session", "step", "guard"),
    ],
    ids="+".join,
)
@pytest.mark.parametrize(("at", "when"), DEATHS)
def test_a_death_in_a_step_leaves_what_was_there(
    place: Place, at: int, when: str, victims: tuple[str, ...]
) -> None:
    """Whoever dies at whatever point of a step, the revert puts back what was there, once."""
    with place.session(environment=place.shims(at, when, *victims)) as session:
        said = session.communicate()[0]
    assert "committed" not in said
    if {"session", "guard"} <= set(victims):
        assert place.state.open_release() == ID
        assert place.state.revert(ID).ok
    place.assert_reverted()


@pytest.mark.parametrize(("at", "when"), DEATHS)
def test_a_guard_that_dies_in_a_step_stops_nothing(place: Place, at: int, when: str) -> None:
    """The session goes on, with another guard at its next change, and commits."""
    with place.session(environment=place.shims(at, when, "guard")) as session:
        said = session.communicate()[0]
    assert "committed True" in said
    place.assert_kept()


def test_the_points_are_all_commands_of_the_shell_files(place: Place) -> None:
    """A command more in a step or a revert is a point more at which something can die."""
    with place.session(environment=place.shims(0, "never")) as session:
        assert "committed True" in session.communicate()[0]
    halves = 2  # what the words of the first change are, and those of the second are not
    assert place.turns == 2 * len(STEP) - halves
    place.assert_kept()
    place.left_open()
    assert _revert(place, 0, "never").returncode == 0
    assert place.turns == len(TAKE_BACK)


@pytest.mark.parametrize("point", ["opened", "undo written", "did write", "did second"])
@pytest.mark.parametrize("guarded", [True, False], ids=["guard", "no guard"])
def test_a_death_between_steps_leaves_what_was_there(place: Place, point: str, guarded: bool) -> None:
    """A session that dies between two steps, or before its first, is reverted by its guard or by the next."""
    with place.session(point) as session:
        assert place.state.open_release() == ID
        if not guarded:
            kill(place.guard)
        session.kill()
        session.wait()
    if not guarded:
        assert place.state.open_release() == ID
        assert did_revert(place.state.revert(ID), ID)
    place.assert_reverted()


def test_a_death_after_the_commit_changes_nothing(place: Place) -> None:
    """The commit is one rename: a session that dies right after it has released."""
    with place.session("renamed") as session:
        session.kill()
        session.wait()
        place.assert_kept()
    assert not did_revert(place.state.revert(ID), ID)
    assert place.says == NEW


@pytest.mark.parametrize("number", range(6))
def test_a_death_around_the_commit_leaves_one_of_two_states(place: Place, number: int) -> None:
    """Committed or reverted, and never said to be committed when it was reverted."""
    with place.session("did second") as session:
        go_on(session)
        for _ in range(number * 300):
            os.getpid()  # a different moment each time, without a clock
        session.kill()
        said = session.communicate()[0]
    until(lambda: not lives(place.guard), "the guard goes")
    assert place.is_closed
    taken = f"reverted: {ID}" in (place.state.root / "guard.log").read_text()
    assert place.says == (OLD if taken else NEW)
    assert not (taken and "committed True" in said)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, len(TAKE_BACK) + 1), ids=TAKE_BACK)
def test_a_revert_that_dies_is_finished_by_the_next(place: Place, at: int, when: str) -> None:
    """A revert that is killed at any of its commands is repeated, also when that one dies too, and then all is done."""
    for again in range(len(TAKE_BACK) + 1):  # the first time only one dies
        place.left_open()
        assert _revert(place, at, when).returncode == -signal.SIGKILL
        if place.state.open_release() is None:
            assert place.says == OLD
        if again:
            _revert(place, again, when)
        assert place.state.revert(ID).ok
        assert place.state.open_release() is None
        assert place.says == OLD
    place.assert_reverted()


def _revert(place: Place, at: int, when: str) -> subprocess.CompletedProcess[bytes]:
    """A revert that dies before or after its command number *at*."""
    shims = place.shims(at, when, "step")
    argv = ("sh", str(place.state.root / "revert.sh"), str(place.state.root), ID)
    path = f"{shims['SHIMS']}:{os.environ['PATH']}"
    return subprocess.run(argv, env=shims | {"PATH": path}, check=False, start_new_session=True)


def test_two_reverts_at_once_do_it_once(place: Place) -> None:
    """Reverting is serialized: of several at once exactly one does it, and all end well."""
    place.left_open()
    argv = ("sh", str(place.state.root / "revert.sh"), str(place.state.root), ID)
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [each.communicate()[0] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0, 0]
    assert sorted(said) == ["", "", "", f"reverted: {ID}\n"]
    place.assert_reverted()


def test_a_paused_session_is_not_dead(place: Place) -> None:
    """A stopped session holds its lock: nobody else releases, its guard waits, and going on it commits."""
    with place.session("did second") as session:
        session.send_signal(signal.SIGSTOP)
        with pytest.raises(Locked, match=r"ana is releasing a test since .* alive"):
            place.state.acquire({"who": "ben"})
        assert lives(place.guard)
        assert (place.state.open_release(), place.says) == (ID, NEW)
        session.send_signal(signal.SIGCONT)
        go_on(session)
        assert reads(session, "committed True")
        session.wait()
    place.assert_kept()


def test_a_revert_waits_for_an_orphan(place: Place) -> None:
    """A word that outlives its session and its step holds the step lock: the undo runs after it, not under it."""
    place.left_open()
    may_end = place.folder / "end"
    os.mkfifo(may_end)
    (place.state.root / "undo.new").write_text((place.state.root / "undo.sh").read_text())
    begun = place.folder / "begun"
    script = '>"$3"; read -r _ <"$1"; echo late >"$2"'
    words = ("sh", "-c", script, "sh", str(may_end), str(place.thing), str(begun))
    step = subprocess.Popen(
        ("sh", str(place.state.root / "step.sh"), str(place.state.root), ID, "60", *words)
    )
    until(begun.exists, "the words run")
    kill(step.pid)
    step.wait()
    taking = subprocess.Popen(("sh", str(place.state.root / "revert.sh"), str(place.state.root), ID))
    assert not place.hand_is_free()
    assert (taking.poll(), place.state.open_release()) == (None, ID)
    may_end.write_text("now\n")
    assert taking.wait() == 0
    place.assert_reverted()


def test_a_revert_does_not_wait_for_ever(place: Place) -> None:
    """A word that never ends does not hold a revert for ever: it fails, says why, and nothing is closed."""
    place.left_open()
    argv = ("sh", str(place.state.root / "revert.sh"), str(place.state.root), ID)
    with place.state._step_lock():
        done = subprocess.run(
            argv, env=os.environ | {"CUTOVER_STEP_LOCK_S": "0.2"}, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "still runs" in done.stderr
    assert place.state.open_release() == ID


def test_a_step_after_somebody_elses_revert_does_nothing(place: Place) -> None:
    """75: the release is no longer ours, and not a word was run."""
    place.left_open()
    assert place.state.revert(ID).ok
    with place.state.locked({"who": "ana"}):
        assert place.state.step(ID, [second(place.thing)], 3600.0).code == REVERTED_ELSEWHERE
    place.assert_reverted()


def test_a_step_without_its_undo_does_nothing(place: Place) -> None:
    """What could not be reverted is not done."""
    place.left_open()
    touched = place.folder / "touched"
    argv = ("sh", str(place.state.root / "step.sh"), str(place.state.root), ID, "60", "touch", str(touched))
    assert subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode
    assert not touched.exists()


def test_a_living_session_learns_that_it_was_reverted(place: Place) -> None:
    """Somebody reverts while the session lives: its next step answers 75 and its end changes nothing."""
    with place.session("did write") as session:
        assert did_revert(place.state.revert(ID), ID)
        go_on(session)
        assert reads(session, f"second {REVERTED_ELSEWHERE}")
        assert reads(session, "undone 0")
    place.assert_reverted()


def test_a_commit_after_somebody_elses_revert_is_none(place: Place) -> None:
    """A session that was reverted before its commit is told so by the commit."""
    with place.session("did second") as session:
        assert did_revert(place.state.revert(ID), ID)
        go_on(session)
        assert reads(session, "committed False")
    place.assert_reverted()


def test_the_first_undo_line_that_fails_stops_the_revert(place: Place) -> None:
    """A line that needs another one does not run without it; what was not reverted stays open."""
    place.left_open(f"false\nrm -f {place.thing}\n")
    assert not place.state.revert(ID).ok
    assert (place.state.open_release(), place.says) == (ID, NEW)


def test_a_lost_undo_is_no_undo(place: Place) -> None:
    """A release whose undo script is gone is not said to be reverted."""
    place.left_open()
    (place.state.root / "undo.sh").unlink()
    assert not place.state.revert(ID).ok
    assert place.state.open_release() == ID


@pytest.mark.parametrize("script", ["step.sh", "revert.sh", "guard.sh"])
def test_no_id_means_no_release(place: Place, script: str) -> None:
    """An empty release id, with nothing open, does not run the undo of a release that was committed long ago."""
    place.left_open()
    assert place.state.close(ID)
    argv = ("sh", str(place.state.root / script), str(place.state.root), "", "1", "true")
    assert subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode == 2
    assert place.says == NEW


def test_signals_do_not_stop_a_revert(place: Place) -> None:
    """Ctrl-C, a hang-up or a TERM during a revert are ignored by it."""
    ready, may_end = place.folder / "ready", place.folder / "end"
    os.mkfifo(ready)
    os.mkfifo(may_end)
    place.left_open(f"echo >{ready}\nread -r _ <{may_end}\ncp {place.thing}.before {place.thing}\n")
    argv = ("sh", str(place.state.root / "revert.sh"), str(place.state.root), ID)
    taking = subprocess.Popen(argv, start_new_session=True)
    ready.read_text()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.killpg(taking.pid, number)
    may_end.write_text("now\n")
    assert taking.wait() == 0
    assert place.says == OLD


def test_words_that_take_too_long_are_ended(place: Place) -> None:
    """The budget of a change ends its words and what they started; the step lock is free afterwards."""
    place.left_open()
    slow = Change("slow", "never ends", ("sh", "-c", "sleep 600; touch never"), (), 0.3)
    with place.state.locked({"who": "ana"}):
        assert place.state.step(ID, [slow], 3600.0).code == 124
    # What the words started got the same signal, and may die a moment later than they.
    until(place.hand_is_free, "what the words started is ended too")
