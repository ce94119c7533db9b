"""`cutover status`: its exit code, its times, and where a rollback would lead; no engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutover.cli import status
from cutover.cli.status import (
    _color,
    _lines,
    _needs_operator,
    _rollback_now,
    _said_back,
    code_of,
    cold_rollback,
)
from cutover.core.config import url_config
from cutover.core.config_schema import Color, Platform
from cutover.core.errors import EngineUnavailable
from cutover.core.text import clock_of
from cutover.proxy.base import Live
from cutover.release.colors import Colors
from cutover.release.history import Record
from cutover.release.rollback import RollbackPlan
from cutover.release.state import State
from cutover.system.container import Container
from cutover.system.docker import SwarmService, SwarmTask
from tests.helpers.inspected import container


def facts(**more: Any) -> dict[str, Any]:
    """What status knows when all is well."""
    colors = {color: {"asked": True, "runs": True} for color in ("blue", "green")}
    usual = {
        "needs_operator": None,
        "problem": "",
        "live": "blue",
        "proxy": None,
        "fronts": {},
        "has_proxy": True,
        "colors": colors,
    }
    return usual | more


EMPTY = {color: {"asked": True, "runs": False} for color in ("blue", "green")}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, 0),
        ({"live": None}, 10),
        ({"proxy": "the marker names green, but blue answers"}, 10),
        ({"colors": {"blue": {"asked": False, "runs": False}}}, 10),
        ({"live": None, "has_proxy": False}, 10),
        ({"live": None, "has_proxy": False, "colors": EMPTY}, 0),
        ({"problem": ".env.blue: line 3"}, 4),
        ({"needs_operator": "7", "problem": ".env.blue: line 3", "live": None}, 11),
    ],
)
def test_status_ends_with_what_is_known(more: dict[str, Any], code: int) -> None:
    """0 only where who serves is known and the proxy agrees; an empty machine is known too."""
    assert code_of(facts(**more)) == code


def test_damaged_records_are_a_fact_of_their_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hide neither the other color nor the open release; the exit code is that of a file that cannot be read."""
    colors = {color: Color(env_file=tmp_path / color) for color in ("blue", "green")}
    settings, state = url_config().model_copy(update={"colors": colors}), State(tmp_path)
    damaged = state.release_folder("green") / "records.json"
    damaged.write_text("{")
    monkeypatch.setattr(status, "main_container", lambda *_: container())
    found = {color: _color(settings, state, color) for color in colors}
    assert found["blue"]["problem"] == ""
    assert found["green"]["verified"] is False
    assert found["green"]["problem"].startswith(f"{damaged} is damaged: ")
    told = facts(colors=found, open="7") | dict.fromkeys(
        ("hold", "rollback", "last", "resolved", "cold", "lease", "guard", "guard_said", "releasing"), None
    )
    shown = "\n".join(_lines(told | {"project": "p", "asked_s": 0.0, "live_how": ""}, "2026-01-01T00:00:00Z"))
    assert f"{damaged} is damaged: " in shown
    assert "release 7, its session is gone" in shown
    assert code_of(told) == 4


@pytest.mark.parametrize(
    ("stamp", "said"),
    [("2025-09-04T14:02:11.123Z", "14:02:11 UTC"), ("2025-09-01T14:02:11Z", "2025-09-01 14:02:11 UTC")],
)
def test_a_time_of_another_day_has_its_date(stamp: str, said: str) -> None:
    """What runs since three days is not shown like what runs since noon."""
    assert clock_of(stamp, "2025-09-04T23:59:00.000Z") == said


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (None, ""),
        ({"how": None, "why": "no"}, ""),
        ({"how": "flip", "color": "blue", "tag": "sha-1"}, ""),
        (
            {"how": "flip", "color": "green", "tag": "sha-1", "text": "flips to it"},
            " · roll back flips to it",
        ),
        (
            {"how": "flip", "color": "green", "tag": "sha-1", "seconds": 0.0021, "host": "web-1"},
            " · roll back takes about 2.1 ms (rehearsed on web-1)",
        ),
    ],
)
def test_status_says_where_the_way_back_leads(way: dict[str, Any] | None, said: str) -> None:
    """On the line of the color that it leads to, with the time where it was measured."""
    assert _said_back(way, "green") == said


def test_what_a_rollback_deploys_is_told_of_the_live_color(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran on the other one, to which nothing is deployed."""
    ran = Record("blue", "sha-1", "", "", "", "", verified=True, by="", at="")
    monkeypatch.setattr(status, "plan_rollback", lambda *_: RollbackPlan("deploy", ran, "green"))
    way = _rollback_now(state, Colors(url_config(), {}, None, Live("green", "")))
    assert _said_back(way, "blue") == ""
    assert _said_back(way, "green") == " · roll back deploys sha-1 in place on green"


def test_an_end_with_11_is_repeated_with_its_command() -> None:
    """And how to stop a guard that retries; once users are served as before, the last line is corrected."""
    usual = facts(
        project="recall", asked_s=0.1, last=None, releasing=None, hold=None, lease=None, open="7", guard=True, guard_said="x", run="sh revert.sh",
        rollback=None, cold="", resolved=None, needs_operator="the undo failed",
    )  # fmt: skip
    colors = {
        each: {"tag": "sha-1", "state": "healthy", "verified": True, "runs": True, "asked": True}
        for each in EMPTY
    }
    said = "\n".join(_lines(usual | {"colors": colors}, "2025-09-04"))
    assert said.startswith("OPERATOR NEEDED: the undo failed; run: sh revert.sh\n")
    assert "cutover recover --give-up" in said
    later = usual | {"colors": colors, "open": None, "guard": False, "run": None, "needs_operator": None}
    said = "\n".join(
        _lines(later | {"resolved": "blue serves sha-1, as before; it ended with 11: x"}, "2025-09-04")
    )
    assert "OPERATOR" not in said
    assert "front" not in said
    (fronts,) = (
        each
        for each in _lines(later | {"fronts": {"web-1": "blue"}, "colors": colors}, "2025-09-04")
        if "web-1" in each
    )
    assert fronts == "  front  web-1  sends users to blue"
    assert "since  blue serves sha-1, as before" in said


@pytest.mark.parametrize(
    ("opened", "given_up", "waits", "run"),
    [
        ("7", False, False, "sh {0}/revert.sh {0} 7"),
        ("8", False, False, "cutover recover"),
        ("8", True, False, "sh {0}/revert.sh {0} 8"),
        ("7", False, True, None),
        ("8", False, True, None),
        (None, False, True, None),
        (None, False, False, "cutover recover"),
    ],
)
def test_the_command_of_an_operator_is_for_the_release_that_went_wrong(
    state: State, opened: str | None, given_up: bool, waits: bool, run: str | None
) -> None:
    """Not the revert of a later release, good maybe, that is open while the journal still says 11 of an earlier one."""
    state.journal("end", release="7", code=11, why="the undo failed", run="cutover recover")
    for name in ("open", "NEEDS_OPERATOR")[: (opened is not None) + given_up]:
        (state.root / name).write_text(f"{opened}\n")
    found = _needs_operator(url_config(), state, None, waits=waits)
    assert found["needs_operator"] == (
        f"the revert of {opened} was given up" if given_up else "the undo failed"
    )
    assert found["run"] == (run.format(state.root) if run else None)


@pytest.mark.parametrize(
    ("found", "elsewhere", "role", "said"),
    [
        (container(), (), "live", "running"),
        (container("paused"), (), "live", "paused"),
        (container("restarting"), (), "live", "restarting"),
        (EngineUnavailable("no answer"), (), "live", "its container could not be asked: no answer"),
        (None, ("web-3", "web-2"), "live", "runs on web-2 and web-3"),
        (container("exited"), ("web-2",), "live", "runs on web-2"),
        (container("exited"), (), "nobody", "exited"),
        (None, (), "nobody", "no env file"),
    ],
)
def test_nobody_is_served_only_where_nothing_is_known_to_run(
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    found: Any,
    elsewhere: tuple[str, ...],
    role: str,
    said: str,
) -> None:
    """A silent engine, a paused container and a task on another node are said as what they are, beside `live`."""
    tasks = tuple(SwarmTask("running", "recall:sha-2", "", node, "") for node in elsewhere)
    service = SwarmService("recall:sha-2", len(tasks), tasks, "", "", "")
    color = Color(env_file=state.root / "none")
    settings = url_config().model_copy(update={"colors": {"blue": color}, "platform": Platform(kind="swarm")})

    def ask(*_: object) -> Container | None:
        if isinstance(found, EngineUnavailable):
            raise found
        return found  # type: ignore[no-any-return]

    monkeypatch.setattr(status, "main_container", ask)
    monkeypatch.setattr("cutover.system.docker.swarm_service", lambda _name: service)
    told = facts(colors={"blue": _color(settings, state, "blue")}, project="p", asked_s=0.0)
    told |= dict.fromkeys(
        ("hold", "rollback", "last", "resolved", "cold", "lease", "open", "releasing"), None
    )
    lines = _lines(told, "2026-01-01T00:00:00Z")
    (row,) = (each for each in lines if said in each)
    nobody = "  live   nobody is served: traffic would go to blue, where nothing runs"
    assert (nobody in lines, "  live   blue" in row) == (role == "nobody", role == "live")


OWNER = {"who": "ana", "what": "sha-3 to green", "since": "14:02", "pid": 7}
HOLD = {
    "said": "sha-3 on green is held by ana",
    "way_out": "`cutover confirm 8` keeps it",
    "color": "green",
    "left_s": 9.0,
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"releasing": OWNER}, "ana is releasing sha-3 to green since 14:02: wait for its end"),
        ({"hold": HOLD}, "sha-3 on green is held by ana: `cutover confirm 8` keeps it"),
    ],
)  # fmt: skip
def test_a_later_release_is_let_end_first(more: dict[str, Any], said: str) -> None:
    """No command is named that would revert it, or give it up."""
    told = facts(colors={}, open="8", needs_operator="the undo failed", run=None, project="p", asked_s=0.0)
    told |= dict.fromkeys(
        ("hold", "rollback", "last", "resolved", "cold", "lease", "guard", "releasing"), None
    )
    lines = _lines(told | more, "2026-01-01T00:00:00Z")
    assert lines[0] == f"OPERATOR NEEDED: the undo failed; {said}"
    assert not any("--give-up" in each for each in lines)


@pytest.mark.parametrize(
    ("way", "idle", "last", "said"),
    [
        ({"how": "flip"}, {"runs": True}, "released", ""),
        ({"how": "start", "text": "starts it"}, {"runs": False, "state": "exited"}, "released", "green is not warm (exited): `cutover rollback` starts it"),
        ({"how": "deploy", "text": "deploys it"}, {"runs": False, "state": "paused"}, "released", "green is not warm (paused): `cutover rollback` deploys it"),
        ({"how": "start"}, {"runs": False, "state": "exited"}, "retired", ""),
        ({"how": None}, {"runs": False, "state": "exited"}, "released", ""),
    ],
)  # fmt: skip
def test_a_warm_way_back_that_is_gone_is_told(
    way: dict[str, Any], idle: dict[str, Any], last: str, said: str
) -> None:
    """Somebody has stopped the old color, and not a command of ours."""
    colors = {"blue": {"runs": True, "asked": True}, "green": {"asked": True, **idle}}
    told = cold_rollback(facts(rollback=way, colors=colors, keeps_old=True, last={"event": last}))
    assert said in told
    assert bool(said) == bool(told)


@pytest.mark.parametrize("needs", [None, "the last release could not be reverted"])
def test_a_session_whose_owner_is_not_known_is_told(needs: str | None) -> None:
    """A lock that somebody holds is not free, although the file that names the owner is gone or damaged."""
    told = facts(
        needs_operator=needs, run=None, releasing={}, open="7", project="p", asked_s=0.0
    ) | dict.fromkeys(("hold", "rollback", "last", "resolved", "cold", "lease", "guard", "guard_said"), None)
    told["colors"] = {}
    shown = "\n".join(_lines(told, "2026-01-01T00:00:00Z"))
    assert "  open   somebody is releasing (unknown) since ? (pid ?, alive)" in shown
    assert ("wait for its end" in shown) is bool(needs)
