"""All hooks of a session with a target, in the order in which pytest calls them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cutover.core.masking import MASK, printable
from cutover.core.result import INTERNAL, is_verified
from cutover.core.text import count
from cutover.core.verdict import WORST_FIRST, Outcome, Verdict
from cutover.plugin import options
from cutover.plugin.checklist import (
    GATE,
    SHIPPED_SMOKE,
    WATCH,
    ChecklistRow,
    NotAnswered,
    TargetParam,
    param_of,
    stage_of,
)
from cutover.plugin.console import unwrap_streams, wrap_streams
from cutover.plugin.session import CutoverSession, is_full

TEST_TIMEOUT_S = 120.0


def register_hooks(session: CutoverSession) -> None:
    """Register the hooks; a session that only shows something gets only those of the collection."""
    register = session.config.pluginmanager.register
    register(CollectionHooks(session), "cutover-collection")
    if not options.only_looks(session.config):
        register(ReleaseHooks(session), "cutover-release")
        wrap_streams()
        session.config.add_cleanup(unwrap_streams)
        session.signals.catch()


# --- collection ----------------------------------------------------------------------------------------------------
@dataclass(repr=False, eq=False)  # pytest keeps plugins in sets where folders have conftests of their own
class CollectionHooks:
    """Hooks until the first test: which tests are required, in which order."""

    session: CutoverSession

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each target, endpoint and check of the watch."""
        names, settings = metafunc.fixturenames, self.session.settings
        if "target" in names:
            params = self._target_params(watching="watch_result" in names)
            ids = [each.name for each in params]
            metafunc.parametrize("target", params, indirect=True, scope="session", ids=ids)
        if "endpoint" in names and settings.endpoints:  # without one, the test is not asked
            labels = [each.label for each in settings.endpoints]
            metafunc.parametrize("endpoint", settings.endpoints, indirect=True, ids=labels)
        if "watch_check_name" in names:
            from cutover.watch.suite import check_names  # its checks take 20 ms to import

            metafunc.parametrize("watch_check_name", check_names(settings), indirect=True)

    def _target_params(self, *, watching: bool) -> list[TargetParam]:
        """The targets of a test: with --switch those before and after it, for the watch only the one after it."""
        request = self.session.request
        after = [TargetParam("live", after_switch=True)] if request.switch else []
        return after if watching and after else [*(TargetParam(name) for name in request.targets), *after]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """With --plan, collect nothing."""
        if not session.config.option.plan:
            return None
        session.items = []
        session.testscollected = 0
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Leave out tests that cannot be asked, and sort by stage, whatever the order of the paths."""
        collected = [item.nodeid for item in items]
        yield
        left = {item.nodeid for item in items}
        self._refuse_selection([each for each in collected if each not in left])
        self._note_own_checklist(items)
        session, request = self.session, self.session.request
        asked = (each for each in items if session.checklist.take(each, session.settings))
        items[:] = sorted(asked, key=stage_of)
        self._require_version_check(items)
        changes_s = session.settings.release_timeout if request.changes_something else 0.0
        limit_tests(items, changes_s, session.watch_seconds)
        lacking = {GATE, WATCH} - {stage_of(item) for item in items}
        if lacking and request.switch and not options.only_looks(session.config):
            raise pytest.UsageError("--switch needs a gate and a watch: name smoke and checks")

    def _note_own_checklist(self, items: Sequence[pytest.Item]) -> None:
        """Say so if the gate has tests, and none of the shipped checklist is among them."""
        gate = [each for each in items if stage_of(each) == GATE]
        if gate and not any(each.path.parent in SHIPPED_SMOKE for each in gate):
            own = count(len(gate), "check")
            text = f"{own} of your own; the shipped ones are not named: add --pyargs cutover.smoke"
            self.session.notes.append(("checklist", text))

    def _require_version_check(self, items: Sequence[pytest.Item]) -> None:
        """Refuse `--expect` where no test compares the version, so that a pass would not say what serves."""
        expect, settings = self.session.request.expect, self.session.settings
        if expect is None or options.only_looks(self.session.config):
            return
        for key in ("off", "report_only"):
            if "version" in getattr(settings.checks, key):
                both = f'--expect={expect} with [checks] {key} = ["version"]'
                raise pytest.UsageError(f"{both}: remove one of both")
        if not any("version" in mark.args for item in items for mark in item.iter_markers("requires")):
            why = f"--expect={expect}: no test of this session compares the version"
            raise pytest.UsageError(f"{why}; name smoke, and in cutover.toml add [version]")

    def _refuse_selection(self, lost: list[str]) -> None:
        """Refuse a release if a plugin or a conftest has deselected tests; a gate is then no longer whole."""
        if not lost:
            return
        self.session.checklist.whole = False
        why = f"{count(len(lost), 'check')} deselected by a plugin or a conftest, {lost[0]}"
        self.session.notes.append(("checklist", f"{why}: the gate is not whole"))
        if self.session.request.changes_something and not options.only_looks(self.session.config):
            raise pytest.UsageError(f"{why}: a release is decided by a whole checklist")


# --- timeouts ------------------------------------------------------------------------------------------------------
def limit_tests(items: Sequence[pytest.Item], changes_s: float, watch_s: float) -> None:
    """Limit the time of each test and its fixtures; the first test of a stage may also deploy, switch or watch."""
    seen: set[int] = set()
    for item in items:
        stage = stage_of(item)
        first = stage not in seen
        seen.add(stage)
        marker = item.get_closest_marker("timeout")
        own: dict[str, Any] = {"method": "signal"}
        if marker is not None:
            own = {**dict(zip(("timeout", "method"), marker.args, strict=False)), **marker.kwargs}
        try:
            limit_s = float(own.get("timeout", 0)) or TEST_TIMEOUT_S
        except (TypeError, ValueError):
            continue  # pytest-timeout reports what is wrong with it
        more_s = max(watch_s if stage == WATCH else 0.0, changes_s if first else 0.0)
        # Before its own marker, because the closest one counts, and with func_only=False: a fixture may hang too.
        timeout = pytest.mark.timeout(limit_s + more_s, method=own.get("method"), func_only=False)
        item.add_marker(timeout, append=False)


# --- tests and the end ---------------------------------------------------------------------------------------------
@dataclass(repr=False, eq=False)
class ReleaseHooks:
    """Hooks around the tests, and around all other ends of the session."""

    session: CutoverSession
    stage: int = GATE
    _shown: set[int] = field(default_factory=set)
    _timeout: tuple[str, float, float] = ("", 0.0, 0.0)
    """The test that runs, when its timeout ends (monotonic), and the timeout."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Let the release end pytest's session early."""
        self.session.pytest_session = session
        self.session.console.quiet()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Recover and run the preflight before any test."""
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None
        self.session.begin()
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:  # noqa: ARG002  # pytest's signature
        """Begin the next stage only if every test of this one has passed, and no test after a no of the watch."""
        if why := self.session.why_ended:
            item.session.shouldfail = f"the watch since the switch has ended it: {why}"
            return True
        stage = stage_of(item)
        if stage == self.stage:
            return None
        self.show_stage()
        bad = self.session.checklist.not_passed(before=stage)
        if bad and self.session.request.changes_something:
            item.session.shouldfail = f"{count(len(bad), 'check')} of the gate did not pass"
            return True
        self.stage = stage
        self.session.stage_begun = time.monotonic()
        return None

    def show_stage(self) -> None:
        """Record and print the outcomes of the gate that ended, once: `smoke[green]  14 passed  0.7 s`."""
        session, stage, rows = self.session, self.stage, self.session.checklist.answered(self.stage)
        # A step that failed has a line of its own; the watch prints its own lines.
        lost = session.trouble is not None and all(row.phases.get("setup") == "failed" for row in rows)
        if lost or not rows or stage == WATCH or stage in self._shown:
            return
        self._shown.add(stage)
        counts = Counter(row.outcome for row in rows)
        text = ", ".join(f"{counts[each]} {each.counted}" for each in Outcome if counts[each])
        worst = next(each for each in WORST_FIRST if counts[each])
        name = "live" if stage else session.request.targets[0].split("://")[-1]
        moment = ("T-0" if stage else "T-10m") if session.request.changes_something else ""
        seconds = time.monotonic() - session.stage_begun
        session.console.step(session.evidence.step(moment, f"smoke[{name}]", text, seconds, str(worst)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """Let the watch in the background end a test: users wait for the switch back."""
        with self.session.signals.interruptible(lambda: self.session.why_ended):
            return (yield)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
        """Note when the timeout of the test ends."""
        self._timeout = (item.nodeid, time.monotonic() + settings.timeout, settings.timeout)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note the outcome of each phase of a test."""
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, NotAnswered):
            report.longrepr = str(call.excinfo.value)  # without the traceback of our code
        mask_report(report)
        row = self.session.checklist.rows.get(item.nodeid)
        if row is not None:
            self._fail_overrun(item, report, row)
            self._leave_out_reported(item, report, row)
            row.learn(report)
            if call.excinfo is not None:
                row.note_error(call.excinfo.value)
            if report.when == "teardown":
                self._record_test(item, row)
        return report

    def _fail_overrun(self, item: pytest.Item, report: pytest.TestReport, row: ChecklistRow) -> None:
        """Fail a test that has overrun its timeout and swallowed the exception."""
        name, end, limit_s = self._timeout
        if name == item.nodeid and time.monotonic() >= end and report.passed:
            row.unknown = True
            row.said = row.said or f"no end within its own time-out of {limit_s:g} s, which it swallowed"
            report.outcome, report.longrepr = "failed", row.said

    def _leave_out_reported(self, item: pytest.Item, report: pytest.TestReport, row: ChecklistRow) -> None:
        """Do not require a test whose verdicts were only reported: its pass proves nothing."""
        if report.when == "call" and report.passed and row.reported and Outcome.YES not in row.recorded:
            self.session.checklist.leave_out(item.nodeid, row.reported)
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: not asked: {row.reported}")

    def _record_test(self, item: pytest.Item, row: ChecklistRow) -> None:
        """Record a check for a test that never called `assert_verdict`, or whose result contradicts its verdicts."""
        outcome = row.outcome
        if outcome is None or row.not_asked or (row.recorded and outcome in row.recorded | {Outcome.YES}):
            return
        param = param_of(item)
        reason = row.said or ("passed" if outcome is Outcome.YES else "it did not pass")
        verdict = Verdict(item.name.partition("[")[0], outcome, reason)
        why = self.session.why_ended
        if ended := bool(why) and row.said == MASK(why.splitlines()[0]):
            self.session.note_end()
        trouble = self.session.trouble
        caused = trouble is not None and (ended or row.phases.get("setup") == "failed")
        cause = trouble.check if trouble is not None and caused else None
        target = param.name if param else ""
        self.session.evidence.check(item.nodeid, target, row.stage, verdict, row.seconds, cause=cause)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """After the switch, end the session at the first failure, so that traffic goes back at once."""
        row = self.session.checklist.rows.get(nodeid)
        if row is None or not self.session.request.changes_something:
            return
        if row.stage > GATE and not row.not_asked and row.outcome is not Outcome.YES:
            self.session.stop(f"{nodeid} did not pass after the switch")

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Print no dots, because of our own lines; with -v pytest prints its lines."""
        if self.session.config.get_verbosity() > 0 or not isinstance(report, pytest.TestReport):
            return None
        if report.passed:
            return ("passed" if report.when == "call" else "", "", "")
        if report.failed:
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        return ("skipped", "", "")

    # --- the end ---------------------------------------------------------------------------------------------------
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
        """Revert before the reports are written; commit after everything else has succeeded."""
        ours = self.session
        if not ours.begun:
            ours.leave_out_reports(exitstatus)
            yield
            ours.console.refuse(ours.refused)
            return
        ours.signals.ignore()
        self.show_stage()
        outcomes = ours.outcomes(int(session.exitstatus))
        if not is_verified(outcomes):
            session.exitstatus = ours.finish(outcomes).exit_code
        broken: BaseException | None = None
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # whatever another plugin does, this release has an end
            broken = error
        code = int(session.exitstatus) if broken is None or is_full(broken) else INTERNAL
        result = ours.finish(ours.outcomes(code))
        session.exitstatus = result.exit_code
        ours.report(result, lambda: ours.write_report(result), ours.checklist.unasked)
        if broken is not None:
            ours.end_broken(broken, result)


def mask_report(report: pytest.TestReport) -> None:
    """Make the texts of *report* printable, before terminal, JUnit and HTML read it."""
    report.sections = [(name, printable(text)) for name, text in report.sections]
    if isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        report.longrepr = path, line, printable(str(reason))
    elif report.longrepr is not None:
        text = str(report.longrepr)
        masked = printable(text)
        if masked != text:  # else the traceback itself, with its colors
            report.longrepr = masked
