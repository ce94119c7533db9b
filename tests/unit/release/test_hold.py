"""A held release: its deadline by uptime and clock, its file, and what a confirmation asks and answers."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutover.cli import operations
from cutover.core.change import UNDO_END
from cutover.core.config import url_config
from cutover.core.errors import ConfigError, Failed, Locked, OperatorNeeded
from cutover.core.verdict import Outcome
from cutover.proxy.base import Live
from cutover.release import confirm as module
from cutover.release import rollback, verify
from cutover.release.confirm import _after_commit, _ended_before, _too_late, confirm, judge_serving
from cutover.release.history import HOLD_FILE, Hold, Moment, Record, Unrecorded, unresolved
from cutover.release.state import State
from cutover.system.files import write_atomically
from tests.helpers.containers import container
from tests.plugin.project import Project

ID, HOUR = "20250904T021000-7", 3600.0
BEGUN = Moment(1_756_951_800.0, "boot-1", 500.0)
FOUND = container()
RECORD = Record("green", "sha-2", FOUND.image, "h2", FOUND.id, "2.yml", verified=True, by="ana", at="x")
FACTS = {"color": "green", "tag": "sha-2", "who": "ana@web-1"}
LEFT = Unrecorded(ID, "released", FACTS, RECORD, {"to": "green", "before": "blue", "file": "", "warm": True})
HOLD = Hold(LEFT, BEGUN, HOUR, "blue")


@pytest.mark.parametrize(
    ("now", "left_s"),
    [
        pytest.param(Moment(BEGUN.epoch_s + 600, "boot-1", 1100.0), 3000.0, id="ten minutes later"),
        pytest.param(Moment(BEGUN.epoch_s + 86400, "boot-1", 1100.0), 3000.0, id="clock set ahead by a day"),
        pytest.param(Moment(BEGUN.epoch_s - 86400, "boot-1", 1100.0), 3000.0, id="clock set back by a day"),
        pytest.param(Moment(BEGUN.epoch_s + 600, "boot-2", 20.0), 3000.0, id="rebooted"),
        pytest.param(
            Moment(BEGUN.epoch_s + 600, "boot-1", 20.0), 3000.0, id="uptime began anew in the same boot"
        ),
        pytest.param(Moment(BEGUN.epoch_s + 4000, "boot-1", 4500.0), -400.0, id="too late"),
    ],
)
def test_the_deadline_is_moved_by_no_clock(now: Moment, left_s: float) -> None:
    """Within one boot the uptime decides, after a reboot the clock."""
    assert HOLD.left_s(now) == left_s
    assert HOLD.until(now) == now.epoch_s + left_s


def test_its_file_says_all_of_it() -> None:
    """It is read back as it was; its first line has what guard.sh reads."""
    text = HOLD.as_text()
    assert Hold.parse(text) == HOLD
    assert text.splitlines()[0] == f"{ID} 1756955400 boot-1 500 4100"
    in_place = replace(HOLD, old=None, left=replace(LEFT, record=None, live=None))
    assert Hold.parse(in_place.as_text()) == in_place


def test_it_is_said_in_one_line() -> None:
    """Who holds what until when."""
    soon = Moment(BEGUN.epoch_s + 600, "boot-1", 1100.0)
    said = "sha-2 on green is held by ana@web-1 until 2025-09-04 03:10:00 UTC"
    assert HOLD.line(soon) == f"{said} (for 50 min)"
    assert HOLD.line(replace(soon, uptime_s=5000.0)).endswith("(the time is over)")


@pytest.mark.parametrize("text", ["", "x", f"{ID} 1 b 2 3\n1 2 3", f"{ID} 1 b 2 3\n1 2 3 -\n{{}}\n"])
def test_a_damaged_file_is_no_hold(tmp_path: Path, text: str) -> None:
    """The release is then one that was left open, which its guard or the next session reverts."""
    state = State(tmp_path)
    write_atomically(state.root / "open", f"{ID}\n")
    write_atomically(state.root / HOLD_FILE, text)
    assert state.held() is None


def test_only_the_open_release_is_held(tmp_path: Path) -> None:
    """A file that was left beside another open release, or beside none, holds nothing."""
    state, now = State(tmp_path), Moment.now()
    write_atomically(state.root / HOLD_FILE, replace(HOLD, begun=now).as_text())
    assert state.held() is None
    state.require_not_held()
    write_atomically(state.root / "open", f"{ID}\n")
    with pytest.raises(Locked, match=f"held by ana@web-1 until .* `cutover confirm {ID}` keeps it"):
        state.require_not_held()
    write_atomically(state.root / HOLD_FILE, replace(HOLD, begun=now, seconds=-1.0).as_text())
    state.require_not_held()  # the next session reverts it
    write_atomically(state.root / "open", "another\n")
    assert state.held() is None


@pytest.mark.parametrize(
    ("hold", "live", "found", "outcome", "said"),
    [
        (HOLD, Live("green", ""), FOUND, Outcome.YES, "sha-2 on green serves"),
        (
            HOLD,
            Live("blue", "header"),
            FOUND,
            Outcome.NO,
            "traffic goes to blue, not to sha-2 on green (header)",
        ),
        (HOLD, Live(None, "no answer"), FOUND, Outcome.UNKNOWN, "no answer"),
        (HOLD, Live("green", ""), None, Outcome.NO, "does not run any more (nothing runs there)"),
        (HOLD, Live("green", ""), container(Status="exited"), Outcome.NO, "does not run any more (exited)"),
        (
            HOLD,
            Live("green", ""),
            replace(FOUND, id="f" * 64),
            Outcome.NO,
            "a container that was not verified",
        ),
    ],
)
def test_only_what_serves_is_confirmed(
    hold: Hold, live: Live, found: object, outcome: Outcome, said: str
) -> None:
    """A confirmation is refused for a release that users do not get any more."""
    done = judge_serving(hold, live, found)  # type: ignore[arg-type]  # one row has none
    assert done.outcome is outcome
    assert said in done.reason


@pytest.mark.parametrize(
    ("tasks", "now", "outcome"),
    [
        (True, {"id": "f" * 64}, Outcome.YES),
        (False, {"id": "f" * 64}, Outcome.NO),
        (True, {"id": "f" * 64, "image": "sha256:other"}, Outcome.NO),
        (True, {"id": "f" * 64, "config_hash": "other"}, Outcome.NO),
    ],
)
def test_a_task_that_the_swarm_has_replaced_is_of_the_same_release(
    tasks: bool, now: dict[str, Any], outcome: Outcome
) -> None:
    """By its image and its configuration; a container that somebody has made anew was not verified."""
    found = replace(FOUND, **{"config_hash": RECORD.config_hash, **now})
    assert judge_serving(HOLD, Live("green", ""), found, tasks=tasks).outcome is outcome


@pytest.mark.parametrize(
    ("rows", "wanted", "said"),
    [
        ((), None, ConfigError("nothing is held: nothing to confirm")),
        ((), "nope", ConfigError("no release nope was held here; nothing is held")),
        (("held", "released"), None, f"{ID} is confirmed already: it was released at"),
        (("held", "released"), ID, f"{ID} is confirmed already: it was released at"),
        (("held", "reverted"), ID, Failed(f"{ID} cannot be confirmed: it was reverted at")),
        (("held", "recovered"), None, Failed(f"{ID} cannot be confirmed: it was recovered at")),
    ],
)
def test_what_is_not_held_is_told_apart(
    tmp_path: Path, rows: tuple[str, ...], wanted: str | None, said: str | Exception
) -> None:
    """Confirmed already is as good as confirmed; reverted is said with its time; an unknown name is refused."""
    state = State(tmp_path)
    for event in rows:
        state.journal(event, release=ID, who="ana@web-1")
    if isinstance(said, str):
        assert _ended_before(state, wanted, None).sentence.startswith(said)
        return
    with pytest.raises(type(said)) as error:
        _ended_before(state, wanted, None)
    assert str(error.value).startswith(str(said))


@pytest.mark.parametrize(
    "recorded", [True, False], ids=["its record is completed", "no record can be written"]
)
def test_a_confirmation_that_died_after_its_commit_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """The next one says so: the release stays, and is no unknown one."""

    def write_down(_settings: object, state: State, left: Unrecorded) -> None:
        if not recorded:
            raise OSError(errno.ENOSPC, "No space left on device")
        state.journal(left.event, release=left.release, **left.facts)
        state.all_recorded()

    monkeypatch.setattr(rollback, "write_down", write_down)
    state = State(tmp_path / "state")
    state.prepare()
    state.journal("held", release=ID, who="ana@web-1")
    write_atomically(state.root / "open", f"{ID}\n")
    assert state.close(ID, LEFT)
    for wanted in (ID, None):
        done = confirm(url_config(), state, wanted)
        assert done.sentence.startswith(f"{ID} is confirmed already")
        assert done.facts["confirmed"] == ID
    assert (state.unrecorded() is None) is recorded
    with pytest.raises(ConfigError, match="no release other was held here"):
        confirm(url_config(), state, "other")


@pytest.mark.parametrize("kept", [True, False], ids=["kept for later", "lost"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_record_is_promised_only_if_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, error: BaseException
) -> None:
    """On a full disk nothing of it may be left for `cutover recover`; the release stays, whatever ends what follows."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "write_down", fail)
    monkeypatch.setattr(module, "prune_releases", lambda *_: None)
    monkeypatch.setattr(State, "leave", lambda *_: kept)
    state = State(tmp_path / "state")
    state.prepare()
    done = _after_commit(url_config(), state, HOLD)
    assert done.sentence.endswith("sha-2 on green is confirmed; nothing is open")
    assert done.notes[0].startswith("record: not written: ")
    assert done.notes[0].endswith("completes it" if kept else "make room and release it again")


def test_a_late_confirmation_that_leads_to_no_good_end_is_in_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are not served as before: `cutover status` and `cutover recover` know it, and of which release."""
    project = Project.at(tmp_path)
    state = State(project.state)
    state.prepare()
    state.journal("open", release=ID, live="blue", tag="sha-1")
    state.journal("held", release=ID, who="ana@web-1")
    write_atomically(state.root / "open", f"{ID}\n")
    write_atomically(state.root / HOLD_FILE, replace(HOLD, begun=Moment.now(), seconds=-1.0).as_text())
    undo = state.root / "undo.sh"
    undo.write_text(f"{UNDO_END}\n")
    monkeypatch.setattr(
        verify, "served_after", lambda *_, **__: ("traffic goes to green, it went to blue", "")
    )
    monkeypatch.setenv("CUTOVER_STATE_DIR", str(project.state))
    with pytest.raises(OperatorNeeded, match="traffic goes to green"):
        operations.confirm_command.main(
            ["--cutover-config", str(project.folder / "cutover.toml")], standalone_mode=False
        )
    assert state.open_release() is None
    needed = unresolved(state.history())
    assert needed is not None
    assert (needed["release"], needed["run"]) == (ID, "cutover recover")


def test_a_guard_that_was_faster_than_a_late_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The confirmation says that the release is reverted, and what users have."""
    monkeypatch.setattr(rollback, "require_reverted", lambda *_: "blue serves sha-1, as before")
    state = State(tmp_path / "state")
    state.prepare()
    state.journal("held", release=ID, who="ana@web-1")
    (state.root / f"closed.{ID}").touch()
    (state.root / "guard.log").write_text(f"reverted: {ID}\n")
    with pytest.raises(
        Failed, match=f"{ID} was not confirmed in time and is reverted now: blue serves sha-1"
    ):
        _too_late(url_config(), state, HOLD)
