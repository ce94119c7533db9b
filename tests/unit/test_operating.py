"""What the operator's commands decide: as before or not, which exit code, how long to wait; no engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cutover import finishing, proven
from cutover.commands.recover import not_as_before
from cutover.commands.rehearse import there_and_back
from cutover.commands.rollback import _until_free
from cutover.commands.status import _said_back, clock_of, code_of
from cutover.core.config import url_config
from cutover.core.errors import ConfigError, CutoverError, Failed, Inconclusive, Locked, OperatorNeeded
from cutover.core.evidence import Evidence
from cutover.core.result import Outcomes
from cutover.proxy.base import Live
from cutover.state import State
from cutover.system.container import Container, read_container
from cutover.target import Target
from cutover.walk import Walk
from cutover.wish import ReleaseRequest


def container(tag: str, status: str = "running") -> Container:
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
        (WAS, "blue", container("sha-1"), ""),
        (WAS, "green", container("sha-1"), "traffic goes to green, it went to blue"),
        (WAS, None, container("sha-1"), "traffic goes to nobody known, it went to blue"),
        (WAS, "blue", container("sha-2"), "blue runs sha-2, it ran sha-1"),
        (WAS, "blue", container("sha-1", "exited"), "blue runs nothing, it ran sha-1"),
        (WAS, "blue", None, "blue runs nothing, it ran sha-1"),
        (NOTHING_RAN, None, None, ""),
        (NOTHING_RAN, "blue", container("sha-2"), "blue runs sha-2, it ran nothing"),
        ({}, "blue", container("sha-1"), ""),
        ({}, None, None, "the journal does not say what served before, and nothing is known to serve now"),
    ],
)
def test_a_revert_is_judged_by_what_serves(
    was: dict[str, Any], live: str | None, found: Container | None, trouble: str
) -> None:
    """Color, tag, and that it runs, as they were when the release was opened."""
    assert not_as_before(was, live, found, proxied=False) == trouble
    assert not_as_before(was, None, found, proxied=True) != ""


def facts(**more: Any) -> dict[str, Any]:
    """What status knows when all is well."""
    colors = {color: {"asked": True, "runs": True} for color in ("blue", "green")}
    usual = {
        "needs_operator": None,
        "problem": "",
        "live": "blue",
        "proxy": None,
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
        ({"how": "flip", "color": "green", "tag": "sha-1"}, " · roll back flips to it"),
        (
            {"how": "flip", "color": "green", "tag": "sha-1", "seconds": 0.0021, "host": "web-1"},
            " · roll back takes about 2.1 ms (rehearsed on web-1)",
        ),
        ({"how": "start", "color": "green", "tag": "sha-1"}, " · roll back starts it and flips"),
        ({"how": "deploy", "color": "green", "tag": "sha-1"}, " · roll back deploys sha-1 here"),
    ],
)
def test_status_says_where_the_way_back_leads(way: dict[str, Any] | None, said: str) -> None:
    """On the line of the color that it leads to, with the time where it was measured."""
    assert _said_back(way, "green") == said


def test_a_rollback_waits_at_most_as_long_as_a_release_may_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says once whom it waits for, and goes on as soon as it can."""
    answers: Iterator[int | None] = iter([None, None, 0])
    calls = 0

    def go_back() -> int:
        nonlocal calls
        calls += 1
        code = next(answers, None)
        if code is None:
            raise Locked("ana is releasing")
        return code

    state = State(tmp_path)
    assert _until_free(state, 100.0, go_back, clock=lambda: 0.0) == 0
    assert calls == 3
    assert capsys.readouterr().err.count("waiting: ") == 1
    times = iter([0.0, 50.0, 101.0])
    with pytest.raises(Locked):
        _until_free(state, 100.0, go_back, clock=lambda: next(times))


def walked(root: Path, undo: str = "true") -> Walk:
    """A session that has a release open, whose undo is *undo*; blue was live."""
    settings = url_config().model_copy(update={"state_dir": root / "state"})
    walk = Walk(settings, ReleaseRequest(("idle",)), Evidence(), lambda *_: None)
    walk.state.prepare()
    (walk.state.root / "undo.sh").write_text(undo + "\n")
    (walk.state.root / "open").write_text("7\n")
    walk.before, walk.release_id = "blue", "7"
    return walk


@pytest.mark.parametrize(
    ("trouble", "undo", "live", "raised", "said"),
    [
        (None, "exit 1", "green", OperatorNeeded, r"could not be reverted: .*run: sh .*revert\.sh"),
        (
            Failed("proof: 3 failed"),
            "exit 1",
            "green",
            OperatorNeeded,
            r"proof: 3 failed; .* could not be reverted",
        ),
        (
            Failed("proof: 3 failed"),
            "true",
            "green",
            OperatorNeeded,
            "traffic goes to green: .*run: cutover status",
        ),
        (Failed("proof: 3 failed"), "true", "blue", Failed, "proof: 3 failed; .*blue serves, as before"),
        (Inconclusive("silence"), "true", "blue", Inconclusive, "silence; .*blue serves, as before"),
        (ConfigError("no release"), "true", "blue", Failed, "no release; .*blue serves, as before"),
    ],
)
def test_a_rehearsal_that_cannot_be_reverted_needs_an_operator(
    tmp_path: Path, trouble: CutoverError | None, undo: str, live: str, raised: type[CutoverError], said: str
) -> None:
    """Whatever the switch itself ended with: 11 with the command to run, else what it was, and what serves."""

    def switch(_walk: Walk) -> None:
        if trouble:
            raise trouble

    with pytest.raises(raised, match=said) as caught:
        there_and_back(walked(tmp_path, undo), switch, lambda *_: Live(live, "asked"))
    assert type(caught.value) is raised


def test_a_rehearsal_that_worked_says_how_long(tmp_path: Path) -> None:
    """The release is closed, and nothing was changed where the switch was refused beforehand."""
    walk = walked(tmp_path)
    assert there_and_back(walk, lambda _: None, lambda *_: Live("blue", "asked")) > 0
    assert walk.state.open_release() is None
    walk.release_id = None
    with pytest.raises(OperatorNeeded, match="refused"):
        there_and_back(walk, lambda _: _raise(OperatorNeeded("refused")))


def _raise(error: CutoverError) -> None:
    raise error


@pytest.mark.parametrize(
    ("held", "opened", "records"), [(False, False, 1), (True, False, 0), (False, True, 0)]
)
def test_a_gate_proves_nothing_of_what_somebody_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, opened: bool, records: int
) -> None:
    """A bystander's gate records only while nobody holds the lock and nothing is open."""
    walk, recorded = walked(tmp_path), []
    walk.evidence.fact("began", 1.0)
    monkeypatch.setattr(proven, "record", lambda *_: recorded.append("proven"))
    monkeypatch.setattr(Walk, "owner", lambda _: {"who": "ben"})
    if not opened:
        (walk.state.root / "open").unlink()
    walk.target = Target("green", "color", "http://127.0.0.1:1", "green")
    with walk.state.locked({"who": "ana"}) if held else nullcontext():
        proven.record_what_runs(walk)
    assert len(recorded) == records
    assert not walk.state.is_held()


@pytest.mark.parametrize(("rollback", "records"), [(True, 1), (False, 0)])
def test_a_gate_with_no_rollback_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rollback: bool, records: int
) -> None:
    """--keep-on-failure only reports: what it says is not remembered as a proof either."""
    walk, recorded = walked(tmp_path), []
    walk.release_id, walk.request = None, ReleaseRequest(("green",), rollback=rollback)
    walk.target = Target("green", "color", "http://127.0.0.1:1", "green")
    monkeypatch.setattr(proven, "record_what_runs", lambda _: recorded.append("proven"))
    monkeypatch.setattr(finishing, "ended", lambda *_: None)
    finishing._keep(walk, Outcomes((), 0), whole=True)
    assert len(recorded) == records
