from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest

from cutover.core.evidence import Evidence
from cutover.core.masking import MASK
from cutover.core.verdict import no, unknown, yes
from cutover.report.escape import markdown_code, markdown_text
from cutover.report.facts import result_of
from cutover.report.github import MOST_SUMMARY_BYTES, error_lines, summary
from cutover.report.page import properties
from tests.unit.report.endings import RELEASED, ROLLBACK_FAILED, ROLLED_BACK
from tests.unit.report.sessions import Session, good, reverted, rollback_failed


@pytest.mark.parametrize(
    ("session", "first", "counts"),
    [
        (good, "## ✅ RELEASED: recall", "15 passed, 1 not asked"),
        (reverted, "## ↩️ ROLLED BACK: recall", "13 passed, 1 failed, 1 unknown, 1 not asked"),
        (rollback_failed, "## 🚨 ROLLBACK FAILED: recall", "13 passed, 1 failed, 1 not asked"),
    ],
)
def test_the_answer_and_the_counts_come_first(
    session: Callable[[], Session], first: str, counts: str
) -> None:
    """A summary begins with status, sentence and counts."""
    made = session()
    lines = summary(made.evidence, made.result).splitlines()
    assert lines[0] == first
    assert lines[4].startswith(
        f"{counts} · exit {made.result.exit_code} · `sha-4f1c2aa` → `sha-9b7d001` · by ana"
    )


def test_a_session_that_died_has_no_exit_code() -> None:
    """As on the page: it ended without one."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    evidence.step("T-0", "switch", "blue → green", 1.0)
    text = summary(evidence, result_of(evidence))
    assert "no exit code" in text
    assert "exit -1" not in text


def test_failed_checks_are_listed_before_passed_ones() -> None:
    """Failed checks come first."""
    made = reverted()
    text = summary(made.evidence, made.result)
    assert text.index("| ✗ no |") < text.index("| ? unknown |") < text.index("| ✓ yes |")


def test_a_person_in_need_finds_the_command() -> None:
    """The one command to run is in the summary as code."""
    assert f"**run** `{ROLLBACK_FAILED.command}` on web-1" in summary(
        rollback_failed().evidence, ROLLBACK_FAILED
    )


def test_a_summary_stays_below_the_limit_and_says_what_is_left_out() -> None:
    """The summary stays below GitHub's limit, keeps failed checks first, and counts the rest."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    for number in range(9000):
        verdict = (no if number == 8999 else yes)("question", "é" * 200)
        evidence.check(f"smoke/test_x.py::test[{number}]", "green", 0, verdict, 0.1)
    text = summary(evidence, ROLLED_BACK)
    assert len(text.encode()) <= MOST_SUMMARY_BYTES
    assert "test[8999]" in text
    assert "more checks left out: evidence.jsonl in the report has all" in text
    assert text.endswith("has all.\n")
    assert len(summary(evidence, ROLLED_BACK, most=900).encode()) <= 900


def test_a_service_writes_no_markup_into_the_summary() -> None:
    """Text of a service breaks no table cell and creates no mention, link or image."""
    evil = "a|b\n# head <img src=x> ![x](http://e.example/p.png) @everyone `code`"
    assert markdown_text(evil) == (
        "a\\|b \\# head &lt;img src=x&gt; !\\[x\\](http:\u200b//e.example/p.png) @\u200beveryone \\`code\\`"
    )
    assert markdown_code(evil).count("`") == 2
    for text in ("see www.e.example", "&commat;everyone", "&lt;b&gt; & more", "a&#64;b"):
        shown = html.unescape(markdown_text(text).replace("\\", ""))
        assert shown.replace("\u200b", "") == text
        assert not re.search(r"@\w|\bwww\.", shown)
    evidence = Evidence(clock=lambda: 1756947000.0)
    evidence.step("T-0", "switch", evil, 1.0)
    evidence.check(evil, evil, 0, no(evil, evil), 0.1)
    assert "<img" not in summary(evidence, ROLLED_BACK).replace(markdown_code(evil), "")


def test_at_most_ten_annotations_worst_first() -> None:
    """At most ten lines: the result, the worst checks, and how many more failed."""
    evidence = Evidence()
    for number in range(20):
        verdict = (no if number == 19 else unknown)("q", f"reason {number}")
        evidence.check(f"t{number}", "green", 0, verdict, 0.1)
    lines = error_lines(evidence, ROLLED_BACK)
    assert len(lines) == 10
    assert lines[0].startswith("::error title=ROLLED BACK::recall runs sha-4f1c2aa on blue")
    assert lines[1] == "::error title=t19::q: reason 19"
    assert lines[-1] == "::error title=more::12 more checks failed: see the job summary"


def test_a_good_release_annotates_nothing() -> None:
    """A released session has no error annotation."""
    made = good()
    assert error_lines(made.evidence, made.result) == []


def test_a_service_writes_no_workflow_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line breaks and `::` in a reason stay inside its annotation, masked."""
    monkeypatch.setattr(MASK, "values", {"hunter22"})
    evidence = Evidence()
    evidence.check("t:1,2", "green", 0, no("q", "100 %\n::set-output name=x::hunter22"), 0.1)
    line = error_lines(evidence, ROLLED_BACK)[1]
    assert line == "::error title=t%3A1%2C2::q: 100 %25 :\u200b:set-output name=x::***"


def test_junit_says_what_was_released() -> None:
    """Properties have result, tags, person and counts; unknown ones are left out."""
    made = good()
    found = dict(properties(made.evidence, made.result))
    assert found["cutover.status"] == "RELEASED"
    assert found["cutover.to"] == "sha-9b7d001"
    assert found["cutover.checks"] == "15 passed, 1 not asked"
    assert dict(properties(Evidence(), RELEASED))["cutover.checks"] == "no check ran"
    assert "cutover.from" not in dict(properties(Evidence(), RELEASED))
