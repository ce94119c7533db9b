"""The bench of endings: its releases follow from their seed, and its judge knows a false ending."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench_endings import said_of, told, untried
from benchmarks.ending_cases import (
    BEFORE,
    BREAKS,
    FAULTS,
    GOOD,
    KILLED,
    NONE,
    PAUSED,
    REACHED,
    SWITCH,
    TAG_OF_LIVE,
    WATCH,
    WELL,
    Case,
    case,
    reached,
)
from benchmarks.ending_judge import Sample, Seen, findings
from benchmarks.engine_relay import EngineRelay

OLD, NEW = "sha-1", "sha-2"
GOOD_CASE = Case(1, 1, SWITCH, GOOD, "", NONE, BEFORE, 2.0, WELL, NONE)
BAD_CASE = replace(GOOD_CASE, release="ready-503")
COMMAND = "sh /state/revert.sh /state 7"


def samples(tag: str, color: str, status: int = 200) -> list[Sample]:
    """What users got: twice the same."""
    return [Sample(at, status, tag, color) for at in (1.0, 2.0)]


def status(live: str, tag: str, event: str, *, other: str | None = None) -> dict[str, object]:
    """What `cutover status --json` says of a stand where *tag* is live."""
    idle: object = {"tag": other, "runs": other is not None, "state": "healthy"}
    colors: dict[str, object] = {live: {"tag": tag, "runs": True, "state": "healthy", "verified": True}}
    colors["green" if live == "blue" else "blue"] = idle
    none: dict[str, object] = {
        "open": None,
        "needs_operator": None,
        "run": None,
        "resolved": None,
        "proxy": None,
    }
    return {"live": live, "colors": colors, "last": {"event": event}, **none}


RELEASED = Seen(
    asked=NEW, before=OLD, verified_before=True, code=0, word="RELEASED", sentence=f"recall runs {NEW} on green.",
    run="", began=True, broke=False, at_end=samples(NEW, "green"), settled=samples(NEW, "green"), new_failed=0,
    running={"blue": [OLD], "green": [NEW]}, status=status("green", NEW, "released", other=OLD), status_code=0,
)  # fmt: skip
REVERTED = replace(
    RELEASED, code=1, word="ROLLED BACK", sentence=f"recall runs {OLD} on blue, as before.",
    at_end=samples(OLD, "blue"), settled=samples(OLD, "blue"), running={"blue": [OLD], "green": []},
    status=status("blue", OLD, "reverted"),
)  # fmt: skip
LOST = replace(
    RELEASED, code=11, word="ROLLBACK FAILED", sentence="an operator is needed.", run=COMMAND,
    status=status("green", NEW, "released", other=OLD)
    | {"needs_operator": "no", "run": COMMAND, "open": "7"}, status_code=11,
    way_out={"run": COMMAND, "code": 0, "said": "", "status_code": 0, "served": [OLD]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "seen"),
    [
        (GOOD_CASE, RELEASED),
        (BAD_CASE, REVERTED),
        (
            BAD_CASE,
            replace(
                REVERTED,
                running={"blue": [OLD], "green": [NEW]},
                ran_before={"green": [NEW]},
                status=status("blue", OLD, "reverted", other=NEW),
            ),
        ),
        (BAD_CASE, LOST),
        (replace(BAD_CASE, edit=TAG_OF_LIVE), replace(REVERTED, code=4, word="", sentence="")),
    ],
    ids=["0", "1", "1 beside a copy", "11", "4"],
)
def test_a_true_ending(one: Case, seen: Seen) -> None:
    """A release that is kept, one that is reverted, one that could not be, and one that is refused for an edited file."""
    assert findings(one, seen) == []


@pytest.mark.parametrize(
    ("one", "seen", "says"),
    [
        (BAD_CASE, RELEASED, "is bad (ready-503) and was kept"),
        (GOOD_CASE, REVERTED, "a good release with no fault that could touch it ended with 1"),
        (replace(GOOD_CASE, release=BREAKS), replace(RELEASED, broke=True), "is bad (breaks-later) and was kept"),
        (GOOD_CASE, replace(RELEASED, settled=samples(OLD, "blue")), "exit 0, but users get sha-1"),
        (GOOD_CASE, replace(RELEASED, settled=samples("", "green", 500)), "exit 0, but users get status 500"),
        (GOOD_CASE, replace(RELEASED, sentence="recall runs sha-9 on green."), "do not name sha-2"),
        (BAD_CASE, replace(REVERTED, settled=samples(NEW, "green")), "exit 1, but users get sha-2"),
        (BAD_CASE, replace(REVERTED, settled=samples("", "", 0)), "exit 1, but users get no answer"),
        (BAD_CASE, replace(REVERTED, running={"blue": [OLD], "green": [NEW]}), "sha-2 still runs on green"),
        (BAD_CASE, replace(REVERTED, word="RELEASED"), "exit 1 with the words RELEASED"),
        (BAD_CASE, replace(REVERTED, status_code=10), "`status` ends with 10"),
        (BAD_CASE, replace(REVERTED, status=status("green", NEW, "reverted")), "says that sha-2 is live"),
        (BAD_CASE, replace(REVERTED, status=status("blue", OLD, "released")), "the last event of `status` is released"),
        (BAD_CASE, replace(REVERTED, status={**REVERTED.status, "open": "7"}), "7 is open"),
        (
            BAD_CASE,
            replace(REVERTED, sentence="No request of a user was seen to fail.", new_failed=3),
            "the client saw 3 bad answers",
        ),
        (
            BAD_CASE,
            replace(LOST, at_end=samples(OLD, "blue"), running={"blue": [OLD]}),
            "exit 11, but users had sha-1 all the time",
        ),
        (BAD_CASE, replace(LOST, run=""), "exit 11 without a command"),
        (BAD_CASE, replace(LOST, run="cutover recover"), "the last lines name 'cutover recover', `status` names"),
        (BAD_CASE, replace(LOST, status_code=0), "needs an operator and ends with 0"),
        (BAD_CASE, replace(LOST, way_out={**LOST.way_out, "status_code": 11}), "`status` ends with 11"),
        (replace(GOOD_CASE, fault=PAUSED), replace(REVERTED, code=None, word=""), "nobody killed the session"),
        (
            replace(GOOD_CASE, fault=KILLED),
            replace(REVERTED, code=None, word="", settled=samples("", "green", 500)),
            "after the death users get status 500",
        ),
    ],
)  # fmt: skip
def test_a_false_ending(one: Case, seen: Seen, says: str) -> None:
    """Each way in which code, last lines and status may contradict what users have is a finding."""
    assert says in "; ".join(findings(one, seen))


def test_releases_follow_from_their_seed() -> None:
    """The same seed and number give the same release, whose fault begins in a moment that it reaches."""
    drawn = [case(3, number) for number in range(300)]
    assert drawn == [case(3, number) for number in range(300)]
    assert {each.fault for each in drawn} == set(FAULTS)
    for each in drawn:
        assert each.moment in {BEFORE, *reached(each.place, each.release, each.breaks)}, each
        assert (each.breaks in REACHED[each.place]) is (each.release == BREAKS), each
    assert any(each.moment == WATCH for each in drawn)


def test_the_table_counts_each_fault() -> None:
    """By fault, how the releases ended, and how many endings are true; a fault that came too late is no such row."""
    row = {"seconds": 9, "where": "here", "began": True, "false": []}
    rows = {
        "1-1": {"case": "switch: good; guard killed (gate)", "ended": "0 RELEASED", **row},
        "1-2": {
            "case": "switch: hangs; guard killed (gate); edited: env key",
            "ended": "1 ROLLED BACK",
            **row,
        },
        "1-3": {
            "case": "plain: good; edited: env key",
            "ended": "11 ROLLBACK FAILED",
            **row,
            "false": ["exit 11"],
        },
        "1-4": {"case": "switch: good; proxy away (watch)", "ended": "0 RELEASED", **row, "began": False},
    }
    text = told(rows)
    assert any("**3 of 4 endings are true**" in line for line in text)
    assert "| guard killed | 2 | 1 | 1 | 0 | 0 | 2 |" in text
    assert "| no fault | 1 | 0 | 0 | 1 | 0 | 0 |" in text
    assert "| over before its fault began | 1 | 1 | 0 | 0 | 0 | 1 |" in text
    [left] = [line for line in text if line.startswith("No row has yet: in place, staged, engine refuses, ")]
    assert ", guard killed" not in left


def test_a_table_of_everything_has_no_gap() -> None:
    """Three hundred releases of a seed have each place, fault, old release and edit."""
    assert untried([str(case(1, number)) for number in range(1, 301)]) == []


def test_the_last_lines_are_read() -> None:
    """Word, sentence and command; the note behind the command is not part of it."""
    out = f"T-0 switch\nROLLBACK FAILED  an operator is needed.\n  run    {COMMAND}      (on web-1; safe)\nexit 11\n"
    assert said_of(out) == ("ROLLBACK FAILED", "an operator is needed.", COMMAND)
    assert said_of("") == ("", "", "")


def test_a_relay_answers_refuses_and_is_mute(tmp_path: Path) -> None:
    """It passes on what the engine says, unless it refuses connections or is mute; each ends by `answer`."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "engine"))
        engine.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = engine.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(connection.recv(9).upper())

        threading.Thread(target=serve, daemon=True).start()
        relay = EngineRelay(tmp_path / "relay", tmp_path / "engine")

        def ask() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(0.3)
                client.connect(str(relay.path))
                client.sendall(b"ping")
                return client.recv(9)

        assert ask() == b"PING"
        relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            ask()
        relay.answer()
        assert ask() == b"PING"
        relay.mute()
        with pytest.raises(TimeoutError):
            ask()
        relay.answer()
        assert ask() == b"PING"
        relay.refuse()
        engine.shutdown(socket.SHUT_RDWR)
