"""The journal: masked, readable after a power cut, and told what a guard did without Python."""

from __future__ import annotations

import json
import stat
from datetime import datetime

import pytest

from cutover.core.masking import MASK, Mask
from cutover.release import history
from cutover.release.history import unresolved
from cutover.release.state import State

ID = "20250904T021000-7"


@pytest.mark.parametrize("secret", ["hunter22", 'hun"ter\\22', "hunt\u00e9r22", "event", "it's $HOME"])
def test_the_journal_is_masked_and_stays_readable(
    state: State, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """No spelling of a secret is written, and no secret takes a key away."""
    mask = Mask()
    mask.learn([secret])
    monkeypatch.setattr(MASK, "values", mask.values)
    state.journal("did", said=f"password {secret} refused", code=1)
    (row,) = state.history()
    assert row | {"at": ""} == {"at": "", "event": "did", "said": "password *** refused", "code": 1}
    assert stat.S_IMODE((state.root / "journal.jsonl").stat().st_mode) == 0o600


def test_a_damaged_line_of_the_journal_is_left_out(state: State) -> None:
    """A line that a power cut halved hides no other."""
    assert state.history() == []
    state.journal("open", release=ID)
    with (state.root / "journal.jsonl").open("a") as out:
        out.write('{"at": "2025\n5\n')
    state.journal("end")
    assert [row["event"] for row in state.history()] == ["open", "end"]


def test_what_a_guard_reverted_is_in_the_history(state: State) -> None:
    """It writes no journal: its own log says so, and the file that it renamed says when; nothing is told twice."""
    for release in ("first", "second", "third"):
        state.journal("open", release=release)
        state.journal("did", release=release, change="up")
    state.journal("recovered", release="third")
    (state.root / "closed.first").touch()
    (state.root / "guard.log").write_text("noise\nreverted: first\nreverted: third\nreverted: unheard of\n")
    rows = [(row["event"], row["release"], row.get("who")) for row in state.history()]
    assert rows[:4] == [
        ("open", "first", None), ("did", "first", None), ("reverted", "first", "its guard"), ("open", "second", None),
    ]  # fmt: skip
    assert [event for event, release, _who in rows if release != "first"] == [
        "open",
        "did",
        "open",
        "did",
        "recovered",
    ]
    at = state.history()[2]["at"]
    assert abs(datetime.fromisoformat(at).timestamp() - (state.root / "closed.first").stat().st_ctime) < 0.01


@pytest.mark.parametrize(
    ("closed_at", "resolved"),
    [("2025-09-04T02:10:02.000Z", False), ("2025-09-04T02:10:04.000Z", True), (None, True)],
    ids=["before the end", "after the end", "unknown"],
)
def test_the_revert_of_a_guard_is_where_it_was(
    state: State, monkeypatch: pytest.MonkeyPatch, closed_at: str | None, resolved: bool
) -> None:
    """It resolves an end that needs an operator only if it came later: else that was found out after the revert."""
    monkeypatch.setattr(history, "_closed_at", lambda *_: closed_at)
    rows = [
        {"at": "2025-09-04T02:10:00.000Z", "event": "open", "release": ID},
        {"at": "2025-09-04T02:10:01.000Z", "event": "held", "release": ID},
        {"at": "2025-09-04T02:10:03.000Z", "release": ID} | {"event": "end", "code": 11},
    ]
    (state.root / "journal.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (state.root / "guard.log").write_text(f"reverted: {ID}\n")
    events = [row["event"] for row in state.history()]
    assert events == ["open", "held", *(["end", "reverted"] if resolved else ["reverted", "end"])]
    assert (unresolved(state.history()) is None) is resolved


def test_a_journal_that_cannot_be_written_stops_nothing(state: State) -> None:
    """It is only not written."""
    (state.root / "journal.jsonl").mkdir()
    state.journal("reverted", release=ID)


NEEDED: dict[str, object] = {"event": "end", "code": 11, "release": "7", "why": "the undo failed"}


@pytest.mark.parametrize(
    ("rows", "open_still"),
    [
        ([], False),
        ([NEEDED], True),
        ([{"event": "reverted", "release": "7"}, NEEDED], True),
        ([NEEDED, {"event": "reverted", "release": "7"}], False),  # by its guard, later
        ([NEEDED, {"event": "reverted", "release": "8"}, {"event": "end", "code": 1, "release": "8"}], True),
        ([NEEDED, {"event": "released", "release": "8"}], False),
        ([NEEDED, {"event": "recovered"}], False),
        ([NEEDED, {"event": "rolled back"}], False),
        ([NEEDED, {"event": "given up"}], False),
        ([{"event": "given up"}, NEEDED], True),
    ],
)
def test_an_end_that_needs_an_operator_lasts_until_it_is_resolved(
    rows: list[dict[str, object]], open_still: bool
) -> None:
    """By a later good release, a rollback, `recover`, or the revert of that release; not by another bad one."""
    assert unresolved(rows) == (NEEDED if open_still else None)
