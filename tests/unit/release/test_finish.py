"""What becomes of a release at the end of its session; no engine."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.config import url_config
from cutover.core.config_schema import Color
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.result import NOTHING, UNASKED, Outcomes, Required, Running
from cutover.core.target import ReleaseRequest, Target
from cutover.core.verdict import Outcome
from cutover.proxy.base import Live, driver
from cutover.release import finish, rollback
from cutover.release.colors import BeforeRelease, Colors, Situation
from cutover.release.finish import SessionEnd, record_running
from cutover.release.history import UNRECORDED_FILE, Record, Unrecorded, unresolved
from cutover.release.plan import ReleasePlan
from cutover.release.rollback import RollbackPlan
from cutover.release.state import State
from cutover.release.transaction import Reporter, Transaction
from cutover.system import docker
from cutover.system.container import Container
from tests.helpers.inspected import OTHER, container
from tests.helpers.proxy_drivers import proxy_settings

PASSED = Outcomes([Required("smoke/test_ready.py::test_ready", 0, Outcome.YES)], 0)


def situation(root: Path, *, rollback: bool = True) -> Situation:
    """A gate of green; blue is live."""
    settings = url_config().model_copy(update={"state_dir": root / "state"})
    colors = Colors(settings, {}, None, Live("blue", "asked"))
    request = ReleaseRequest(("green",), rollback=rollback)
    target = Target("green", "color", "http://127.0.0.1:1", "green")
    found = Situation(settings, request, colors, target, BeforeRelease("blue", "sha-1"))
    found.state.prepare()
    return found


@pytest.mark.parametrize(
    ("held", "opened", "records"), [(False, False, 1), (True, False, 0), (False, True, 0)]
)
def test_a_gate_proves_nothing_of_what_somebody_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, opened: bool, records: int
) -> None:
    """A bystander's gate records only while nobody holds the lock and nothing is open."""
    here, recorded = situation(tmp_path), list[str]()
    monkeypatch.setattr(finish, "_record_container", lambda *_: recorded.append("verified"))
    if opened:
        (here.state.root / "open").write_text("7\n")
    with here.state.locked({"who": "ana"}) if held else nullcontext():
        record_running(here, 1.0)
    assert len(recorded) == records
    assert not here.state.session_runs()


@pytest.mark.parametrize(("rollback", "records"), [(True, 1), (False, 0)])
def test_a_gate_with_no_rollback_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rollback: bool, records: int
) -> None:
    """--keep-on-failure only reports: what it says is not remembered as a proof either."""
    here, recorded, evidence = situation(tmp_path, rollback=rollback), list[str](), Evidence()
    evidence.fact("began", 1.0)
    monkeypatch.setattr(finish, "record_running", lambda *_: recorded.append("verified"))
    monkeypatch.setattr(finish, "what_runs", lambda *_: [])
    end = SessionEnd(here, ReleasePlan(None, None), Transaction.of(here), Reporter(evidence), PASSED)
    assert end.finish().exit_code == 0
    assert len(recorded) == records


@pytest.mark.parametrize(("keeps", "way_out"), [(True, "`cutover recover` writes it"), (False, "make room")])
def test_what_cannot_be_written_down_names_who_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool, way_out: str
) -> None:
    """On a full disk what is left to be written cannot be kept for the next release either."""
    here, evidence = with_green(tmp_path), Evidence()
    (here.state.release_folder("green") / "records.json").write_text("{")
    monkeypatch.setattr(finish, "what_runs", lambda *_: [])
    monkeypatch.setattr(State, "leave", lambda *_: keeps)
    tx = Transaction.of(here)
    tx.record, tx.id = RECORD, "7"
    (here.state.root / "open").write_text("7\n")
    assert SessionEnd(here, ReleasePlan(None, None), tx, Reporter(evidence), PASSED).finish().exit_code == 0
    (told,) = [each.text for each in evidence.steps if each.name == "record"]
    assert way_out in told


@pytest.mark.parametrize(("live", "event", "resolved"), [(None, "staged", False), ({}, "released", True)])
def test_what_no_user_gets_is_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: dict[str, str] | None, event: str, resolved: bool
) -> None:
    """It does not resolve what needs an operator: users still have what they had."""
    here = with_green(tmp_path)
    here.state.journal("end", word="ROLLBACK FAILED", code=11, why="blue fails", release="6")
    monkeypatch.setattr(finish, "what_runs", lambda *_: [])
    monkeypatch.setattr(SessionEnd, "_live_from_now_on", lambda _: live)
    monkeypatch.setattr(rollback, "keep_live", lambda *_, **__: None)
    tx = Transaction.of(here)
    tx.record, tx.id = RECORD, "7"
    (here.state.root / "open").write_text("7\n")
    assert SessionEnd(here, ReleasePlan(None, None), tx, Reporter(Evidence()), PASSED).finish().exit_code == 0
    assert [row["event"] for row in here.state.history() if row.get("release") == "7"][:1] == [event]
    assert (unresolved(here.state.history()) is None) is resolved


LIVE = {"to": "green", "before": None, "file": "", "warm": False}
RECORD = Record("green", "sha-2", "sha256:22", "", "c2", "2.yml", verified=True, by="ana", at="now")


def with_green(root: Path) -> Situation:
    """The same, with the env file of green, and no request of a change."""
    here, green = situation(root), Color(env_file=root / ".env.green")
    green.env_file.write_text("IMAGE_TAG=sha-1\n")
    return replace(here, settings=here.settings.model_copy(update={"colors": {"green": green}}))


@pytest.mark.parametrize("text", ["{", '[{"color": "green"}]', "\x00"])
def test_a_commit_stays_although_the_records_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The release is live and committed: what cannot be written down is told, and no operator is needed."""
    here, evidence = with_green(tmp_path), Evidence()
    damaged = here.state.release_folder("green") / "records.json"
    damaged.write_text(text)
    monkeypatch.setattr(finish, "what_runs", lambda *_: [])
    tx = Transaction.of(here)
    tx.record, tx.id = RECORD, "7"
    (here.state.root / "open").write_text("7\n")
    result = SessionEnd(here, ReleasePlan(None, None), tx, Reporter(evidence), PASSED).finish()
    assert result.exit_code == 0
    (told,) = [each for each in evidence.steps if each.name == "record"]
    assert told.outcome == "unknown"
    assert told.text.startswith(f"not written: {damaged} is damaged: ")
    assert damaged.read_text() == text


def test_what_an_engine_that_is_away_keeps_from_being_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the release would be missing where `cutover rollback` looks for the one before."""
    here, evidence, away = with_green(tmp_path), Evidence(), [True]
    here = replace(here, request=ReleaseRequest(("green",), switch=True))

    def found(*_: object) -> Container:
        if away[0]:
            raise EngineUnavailable("the Docker engine does not answer within 10 s")
        return container(id_="c2", image=RECORD.image)

    here.state.keep_record(RECORD)
    monkeypatch.setattr(rollback, "main_container", found)
    monkeypatch.setattr(finish, "what_runs", lambda *_: [])
    monkeypatch.setattr(SessionEnd, "_live_from_now_on", lambda _: LIVE)
    tx = Transaction.of(here)
    tx.id = "7"  # a switch alone, to what was deployed before
    (here.state.root / "open").write_text("7\n")
    result = SessionEnd(here, ReleasePlan(None, None), tx, Reporter(evidence), PASSED).finish()
    assert result.exit_code == 0
    (told,) = [each.text for each in evidence.steps if each.name == "record"]
    assert told.startswith("not written: the Docker engine does not answer within 10 s; ")
    assert rollback.live_history(here.state) == []
    assert "could not be completed now: the Docker" in rollback.finish_record(here.settings, here.state)
    away[0] = False
    assert rollback.finish_record(here.settings, here.state).endswith("it is complete now")
    assert [row.tag for row in rollback.live_history(here.state)] == ["sha-2"]
    assert [row["event"] for row in here.state.history()].count("released") == 1
    assert here.state.unrecorded() is None


@pytest.mark.parametrize("text", ["{", "[]", '{"services": {"web": {}}}'])
def test_a_damaged_release_file_is_not_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """It is said, and nothing was changed."""
    here = with_green(tmp_path)
    (here.state.release_folder("green") / RECORD.file).write_text(text)
    monkeypatch.setattr(docker, "image_id", lambda name: name)
    tx = Transaction.of(here)
    with pytest.raises(ConfigError, match="release sha-2 cannot be put back, its file is damaged"):
        finish._open_restore(tx, here, RECORD)
    assert not tx.changed


@pytest.mark.parametrize(
    ("began", "before", "locked", "restores"),
    [
        ("c3", "c3", "c3", True),
        ("", None, None, True),
        ("c3", "c4", "c4", False),
        ("c3", "c3", "c4", False),
        ("c3", "c3", None, False),
        ("c3", "c2", "c2", False),
        ("", "c3", "c3", False),
    ],
)
def test_only_what_the_gate_has_judged_is_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    began: str,
    before: str | None,
    locked: str | None,
    restores: bool,
) -> None:
    """Of another container, which a session started during the gate or until the lock was free, it says nothing."""
    here, opened = with_green(tmp_path), list[Record]()
    here = replace(here, target=replace(here.target, container=began))
    here.state.keep_record(RECORD)
    there = iter([before, locked])

    def found(*_: object) -> Container | None:
        id_ = next(there)
        return container(id_=id_, image=RECORD.image if id_ == "c2" else OTHER) if id_ else None

    def opens(_tx: Transaction, _situation: Situation, record: Record) -> None:
        opened.append(record)
        raise ConfigError("enough")

    monkeypatch.setattr(finish, "main_container", found)
    monkeypatch.setattr(finish, "_open_restore", opens)
    end = SessionEnd(here, ReleasePlan(None, None), Transaction.of(here), Reporter(Evidence()), PASSED)
    assert end._restore_verified() is None
    assert opened == ([RECORD] if restores else [])


def test_a_restore_first_completes_the_record_of_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a session that died right after it: the restore that is opened next would take its place on disk."""
    here, evidence = with_green(tmp_path), Evidence()
    left = Unrecorded("7", "released", {"color": "green", "tag": "sha-2"}, RECORD)
    (here.state.root / UNRECORDED_FILE).write_text(left.as_text())
    monkeypatch.setattr(finish, "_last_verified", lambda *_: RECORD)
    end = SessionEnd(here, ReleasePlan(None, None), Transaction.of(here), Reporter(evidence), PASSED)
    assert end._restore_verified() is None  # its release file is gone
    assert here.state.records("green") == [RECORD]
    assert here.state.unrecorded() is None
    assert [each.name for each in evidence.steps] == ["recover", "put back"]


@pytest.mark.parametrize(
    ("state", "opened", "says"),
    [
        ("runs", False, []),
        (UNASKED, False, []),
        ("unhealthy", False, ["blue is not warm any more (unhealthy): `cutover rollback` deploys sha-1 in place on green"]),
        ("unhealthy", True, ["blue is not warm any more (unhealthy)"]),
        (NOTHING, False, ["blue is not warm any more (nothing runs there): no release is known"]),
    ],
)  # fmt: skip
def test_the_note_of_a_cold_way_back_says_what_a_rollback_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, opened: bool, says: list[str]
) -> None:
    """By the plan of a rollback; a held release is reverted, which is no such plan."""

    def plan(*_: object) -> RollbackPlan:
        if state == NOTHING:
            raise ConfigError("no release is known")
        return RollbackPlan("deploy", replace(RECORD, color="blue", tag="sha-1"), "green")

    settings = proxy_settings(driver="nginx", url="http://127.0.0.1:1").model_copy(
        update={"state_dir": tmp_path / "state"}
    )
    colors = Colors(settings, {}, driver(settings, {"blue": 8000, "green": 8001}), Live("green", "asked"))
    here = replace(situation(tmp_path), settings=settings, colors=colors)
    if opened:
        (here.state.root / "open").write_text("7\n")
    monkeypatch.setattr(rollback, "plan_rollback", plan)
    end = SessionEnd(here, ReleasePlan(None, None), Transaction.of(here), Reporter(Evidence()), PASSED)
    notes = end._old_color_gone([Running("blue", "sha-1", state)])
    assert [*notes] == [f"{each}; see `cutover status`" for each in says]


def test_a_saved_log_has_no_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens it in a terminal sees the text, not what its escape codes make of it."""
    evidence, green = Evidence(tmp_path / "evidence.jsonl"), Color(env_file=Path(".env.green"))
    here = situation(tmp_path)
    here = replace(here, settings=here.settings.model_copy(update={"colors": {"green": green}}))
    monkeypatch.setattr(docker, "containers", lambda *_: [container()])
    monkeypatch.setattr(
        docker, "logs", lambda *_, **__: ["\x1b[31mERROR\x1b[0m no such column\x07", "::error::x"]
    )
    end = SessionEnd(here, ReleasePlan(None, None), Transaction.of(here), Reporter(evidence), PASSED)
    end._save_what_failed()
    (log,) = tmp_path.glob("green-*.log")
    text = log.read_text()
    assert text.startswith("ERROR no such column")
    assert not {"\x1b", "\x07"} & set(text)
    assert "::error::" not in text
