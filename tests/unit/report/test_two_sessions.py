"""What changed between two sessions: answers, checks and figures, as text, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutover.cli.reports import changes_command, report_command
from cutover.core.evidence import Evidence
from cutover.core.masking import MASK
from cutover.core.result import SessionResult
from cutover.core.verdict import Verdict, no, yes
from cutover.report.facts import ReportFolder
from cutover.report.page import MOST_BYTES, render_changes
from cutover.report.two_sessions import change_lines, changes_between
from tests.unit.report.commands import error_of, folder_of, run
from tests.unit.report.elements import LOADS, Elements
from tests.unit.report.endings import RELEASED, ROLLED_BACK
from tests.unit.report.sessions import good, reverted

EVIL = '</code><script>alert(1)</script><img src=x onerror="alert(2)">'
READY = ("smoke/test_ready.py::test_ready", yes("ready", "status 200 in 4 ms"))


def difference(where: str, **more: str) -> dict[str, Any]:
    """A difference as `compare` records it."""
    row = {"route": "GET /items/*", "kind": "removed_field", "where": where, "request": "GET /items/7"}
    text = f'GET /items/*: field "{where}" is gone, 41 of 41'
    return row | {"old": "[1]", "new": "", "text": text} | more


def compare(*differences: dict[str, Any]) -> tuple[str, Verdict]:
    """The check `compare` with these differences."""
    found = yes("compare", "300 requests", differences=[*differences], compared=300, routes=9)
    return "smoke/test_compare.py::test_compare", found


def session(
    *checks: tuple[str, Verdict],
    color: str = "green",
    result: SessionResult = RELEASED,
    p95: tuple[float, ...] = (),
    facts: Mapping[str, Any] | None = None,
) -> ReportFolder:
    """A session on *color* with *checks* of the gate, and samples of its users' latency."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    given = {"target": "idle", "from": {"tag": "sha-1"}, "to": {"tag": "sha-2", "color": color}}
    for key, value in (given | dict(facts or {})).items():
        evidence.fact(key, value)
    for test, verdict in checks:
        evidence.check(f"{test}[{color}]", color, 2 if test.startswith("checks") else 0, verdict, 0.1)
    for value in p95:
        evidence.sample("p95", color, value)
    return ReportFolder(Path("reports") / color, evidence, result, "", [])


def test_answers_are_told_by_the_session_that_found_them() -> None:
    """Those of the second only come first: they are what this release adds."""
    found = changes_between(
        session(compare(difference("a"), difference("b"))), session(compare(difference("b"), difference("c")))
    )
    assert [(each.seen_in, each.difference["where"]) for each in found.answers] == [
        ("second", "c"), ("both", "b"), ("first", "a"),
    ]  # fmt: skip
    assert found.answers_sentence == (
        "1 difference only in the second, 1 difference in both, 1 difference only in the first"
    )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((), (), "neither session compared answers"),
        ((compare(),), (), "only the first compared answers"),
        ((READY,), (compare(),), "only the second compared answers"),
        ((compare(),), (compare(),), "0 differences only in the second, 0 differences in both, 0 differences only"),
    ],
)  # fmt: skip
def test_a_session_that_compared_nothing_is_no_session_without_a_difference(
    first: tuple[tuple[str, Verdict], ...], second: tuple[tuple[str, Verdict], ...], said: str
) -> None:
    """It is said which one compared."""
    assert changes_between(session(*first), session(*second)).answers_sentence.startswith(said)


def test_checks_are_matched_across_colors() -> None:
    """The worst outcome first; a check that was left out now is one that changed."""
    was = [(f"smoke/test_{name}.py::test_it", yes(name, "fine")) for name in ("ready", "logs", "tls", "gone")]
    now = [
        ("smoke/test_ready.py::test_it", yes("ready", "fine")),
        ("smoke/test_logs.py::test_it", no("logs", "9 errors")),
        ("checks/test_watch.py::test_stays_well", yes("5xx", "0 of 9")),
    ]
    found = changes_between(
        session(*was, color="blue"),
        session(*now, facts={"not asked": [["smoke/test_tls.py::test_it[green]", "plain http"]]}),
    )
    assert [each.text for each in found.checks] == [
        "smoke/test_logs.py::test_it: yes → no: logs: 9 errors",
        "smoke/test_tls.py::test_it: yes → not asked: tls: plain http",
    ]
    assert found.checks_sentence == "2 changed, 1 the same, 1 only in the first, 1 only in the second"


def test_figures_are_those_of_users_of_the_new_color() -> None:
    """Medians of the watch, the share of failed requests; what one session has not is unknown."""
    failed = ("checks/test_errors.py::test_5xx", no("5xx", "4 %", failed=8, requests=200))
    lines = change_lines(
        changes_between(session(p95=(0.08, 0.1, 0.09)), session(failed, p95=(0.18,), facts={"proof": {"longest_gap_ms": 11.0}}))
    )  # fmt: skip
    assert lines[-5:] == [
        "figures   requests of users: unknown → 200",
        "          failed requests: unknown → 4 %",
        "          p95 latency: 90 ms → 180 ms (+100%)",
        "          longest gap of the switch: unknown → 11 ms",
        "          duration: unknown → 0",
    ]


def test_a_long_list_is_cut_in_the_terminal_only() -> None:
    """JSON has all."""
    many = [difference(f"f{n}") for n in range(90)]
    found = changes_between(session(compare()), session(compare(*many)))
    assert "          51 more, see --json" in change_lines(found)
    assert len(found.as_json()["answers"]) == 90


@pytest.mark.parametrize("sessions", [(good, reverted), (reverted, good)])
def test_whole_sessions(sessions: tuple[Callable[[Path], Any], ...], tmp_path: Path) -> None:
    """The command names both, what changed, and writes a page that loads nothing."""
    first, second = (folder_of(each, tmp_path / each.__name__) for each in sessions)
    page = tmp_path / "changes.html"
    done = run(report_command, str(first), str(second), "--html", str(page))
    assert done.exit_code == 0, done.output
    for said in (
        f" · {first}\n",
        f" · {second}\n",
        "4f1c2aa → sha-9b7d001",
        "latency: ",
        f"page      {page}",
    ):
        assert said in done.output
    row = json.loads(run(changes_command, str(first), str(second), "--json").output)
    assert {row["first"]["status"], row["second"]["status"]} == {"RELEASED", "ROLLED BACK"}
    assert {each["question"] for each in row["checks"]} == {"latency"}
    text = page.read_text(encoding="utf-8")
    for name in ("answers", "checks", "figures"):
        assert f'<section id="{name}">' in text
    assert "default-src 'none'" in text
    assert not any(LOADS & set(attributes) for _, attributes in Elements(text).found)


def test_a_page_is_masked_escaped_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a service answers: it runs nothing, shows no known secret, and fits into 3 MB."""
    monkeypatch.setattr(MASK, "values", set())
    MASK.learn(["hunter22-of-ana"])
    rows = [difference(f"{EVIL}{n}", old="x" * 9000, new="hunter22-of-ana") for n in range(2000)]
    checks = [(f"smoke/test_{n}.py::{EVIL}", yes(EVIL, "y" * 3000)) for n in range(2000)]
    worse = [(test, replace(no(EVIL, "hunter22-of-ana " * 90))) for test, _ in checks]
    page = render_changes(
        changes_between(session(*checks, compare()), session(*worse, compare(*rows), result=ROLLED_BACK))
    )
    assert len(page.encode()) <= MOST_BYTES
    assert "hunter22" not in page
    assert page.count("<script") == 1
    assert not [tag for tag, _ in Elements(page).found if tag == "img"]


# --- the sessions of a command -----------------------------------------------------------------------------------
@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sessions below `reports`, the newest one `latest`, in the working directory of a project."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports"
    folder.mkdir()
    (tmp_path / "cutover.toml").write_text('project = "p"\n[colors.blue]\nenv_file = ".env"\n')
    folder_of(good, folder / "20250904T005000Z-idle-sha-9b7d001")
    folder_of(reverted, folder / "20250905T005000Z-idle-sha-9b7d001")
    (folder / "latest").symlink_to("20250905T005000Z-idle-sha-9b7d001")
    return folder


def test_a_session_is_named_by_its_folder_or_release(reports: Path) -> None:
    """Without a second one it is the latest."""
    del reports
    for words in (
        ("20250904T005000Z-idle-sha-9b7d001",),
        ("reports/20250904T005000Z-idle-sha-9b7d001", "latest"),
        ("20250904T005000Z-idle-sha-9b7d001", "20250904T005000-4711"),
    ):
        row = json.loads(run(report_command, *words, "--json").output)
        assert (row["first"]["status"], row["second"]["status"]) == ("RELEASED", "ROLLED BACK"), words


def test_a_wrong_session_is_one_line(reports: Path, tmp_path: Path) -> None:
    """What it is, where it was looked for, and what else there is; the same session twice is refused."""
    error = error_of(report_command, "htlm", "latest")
    assert str(error) == (
        f"htlm: no folder of a report, no session in {reports} and no release of one; "
        "commands of `cutover report` are changes, comment, html, postmortem"
    )
    assert error.exit_code == 4
    assert "are the same session" in str(error_of(report_command, "latest", "latest"))
    (tmp_path / "empty").mkdir()
    assert "empty: no evidence.jsonl there" in str(error_of(report_command, "empty"))
    page = ("--html", str(tmp_path / "none" / "x.html"))
    words = (reports / "20250904T005000Z-idle-sha-9b7d001", reports / "latest")
    assert "cannot be written" in str(error_of(report_command, *map(str, words), *page))
    (tmp_path / "cutover.toml").unlink()
    assert str(error_of(report_command, "20250904")).startswith("20250904: no such folder of a report;")
