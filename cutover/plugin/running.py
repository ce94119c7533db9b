"""From the first test to the last: when the next stage may begin, and what each test said."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

from cutover import finishing
from cutover.core.text import count
from cutover.core.verdict import Outcome, Verdict
from cutover.plugin import masking
from cutover.plugin.limits import Timer
from cutover.plugin.required import GATE, NotAnswered, Row, first_line, is_unknown, param, stage_of
from cutover.plugin.session import Run
from cutover.report.write import point_latest_to
from cutover.walk import Walk


@dataclass(repr=False, eq=False)
class Running:
    """Hooks around the tests."""

    run: Run
    timer: Timer = field(default_factory=Timer)
    stage: int = GATE
    _told: set[int] = field(default_factory=set)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember the session, to end it at the first sure no."""
        self.run.session = session
        self.run.console.quiet()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Recover and preflight, before anything is asked."""
        run, option = self.run, session.config.option
        if session.testsfailed and not option.continue_on_collection_errors:
            return None
        run.folder.mkdir(parents=True, exist_ok=True)
        run.evidence.file = run.folder / "evidence.jsonl"
        with run.refusing():
            if run.walk is not None:
                finishing.begin(run.walk, plan=option.plan, greet=self._greet)
        run.begun = True
        point_latest_to(run.folder)
        run.stage_begun = time.monotonic()
        return None

    def _greet(self, walk: Walk) -> None:
        self.run.console.greet(walk, self.run.folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:  # noqa: ARG002  # pytest's signature
        """The next stage begins only when every test of this one said yes."""
        stage = stage_of(item)
        if stage == self.stage:
            return None
        self.tell_stage()
        bad = self.run.checklist.not_yes(before=stage)
        if bad and self.run.request.changes_something:
            item.session.shouldfail = f"{count(len(bad), 'check')} of the gate did not pass"
            return True
        self.stage, self.run.stage_begun = stage, time.monotonic()
        return None

    def tell_stage(self) -> None:
        """One line for the stage that ended: how many said what."""
        run, rows = self.run, self.run.checklist.said(self.stage)
        lost = all(row.phases.get("setup") == "failed" for row in rows.values())
        if lost and run.walk is not None and run.walk.trouble is not None:
            return  # the step that failed has a line of its own; no test of this stage was asked
        if rows and self.stage not in self._told:
            self._told.add(self.stage)
            spent = time.monotonic() - run.stage_begun
            run.console.stage(self.stage, run.request, rows, spent, run.evidence)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Learn what each phase of a test said."""
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, NotAnswered):
            report.longrepr = str(call.excinfo.value)  # where in our code that was raised helps nobody
        masking.mask(report)
        row = self.run.checklist.rows.get(item.nodeid)
        if row is not None:
            self._refuse_late(item, report, row)
            self._leave_out_reported(item, report, row)
            row.learn(report)
            if call.excinfo is not None:
                row.unknown = row.unknown or is_unknown(call.excinfo.value)
                row.said = row.said or first_line(call.excinfo.value)
            if report.when == "teardown":
                self._keep_untold(item, row)
        return report

    def _refuse_late(self, item: pytest.Item, report: pytest.TestReport, row: Row) -> None:
        """A test that swallowed its time-out and passed has proven nothing."""
        limit = self.timer.overrun(item)
        if limit is not None and report.passed:
            row.unknown = True
            row.said = row.said or f"no end within its own time-out of {limit:g} s, which it swallowed"
            report.outcome, report.longrepr = "failed", row.said

    def _leave_out_reported(self, item: pytest.Item, report: pytest.TestReport, row: Row) -> None:
        """A test whose verdicts were only reported has passed nothing: it is not asked."""
        if report.when == "call" and report.passed and row.reported and Outcome.YES not in row.told:
            self.run.checklist.leave_out(item.nodeid, row.reported)
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: not asked: {row.reported}")

    def _keep_untold(self, item: pytest.Item, row: Row) -> None:
        """A test that ended without `expect`, or otherwise than its verdicts, is a check of the report too."""
        outcome = row.outcome
        if outcome is None or row.not_asked or (row.told and outcome in row.told | {Outcome.YES}):
            return
        asked = param(item)
        reason = row.said or ("passed" if outcome is Outcome.YES else "it did not pass")
        verdict = Verdict(item.name.partition("[")[0], outcome, reason)
        trouble = self.run.walk.trouble if self.run.walk is not None else None
        cause = trouble.check if trouble is not None and row.phases.get("setup") == "failed" else None
        target = asked.name if asked else ""
        self.run.evidence.check(item.nodeid, target, row.stage, verdict, row.seconds, cause=cause)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """After the switch the first sure no ends the session: the flip is the very next thing."""
        row, session = self.run.checklist.rows.get(nodeid), self.run.session
        if row is None or session is None or not self.run.request.changes_something:
            return
        if row.stage > GATE and not row.not_asked and row.outcome is not Outcome.YES:
            session.shouldfail = f"{nodeid} did not pass after the switch"

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Our own lines say more than dots; with -v pytest's say it all."""
        if self.run.config.get_verbosity() > 0 or not isinstance(report, pytest.TestReport):
            return None
        if report.passed:
            return ("passed" if report.when == "call" else "", "", "")
        if report.failed:
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        return ("skipped", "", "")
