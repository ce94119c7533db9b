"""What becomes of a release at the end of its session; no engine."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.config import url_config
from cutover.core.config_schema import Color
from cutover.core.evidence import Evidence
from cutover.core.result import Outcomes, Required
from cutover.core.target import ReleaseRequest, Target
from cutover.core.verdict import Outcome
from cutover.proxy.base import Live
from cutover.release import finish
from cutover.release.colors import BeforeRelease, Colors, Situation
from cutover.release.finish import SessionEnd, record_running
from cutover.release.plan import ReleasePlan
from cutover.release.transaction import Reporter, Transaction
from cutover.system import docker
from tests.helpers.inspected import container

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
