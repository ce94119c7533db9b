"""The session: which tests are required, when the next stage may begin, and what the end of it means."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cutover import engine as docker_engine
from cutover import finishing, release, saying
from cutover import settings as settings_module
from cutover.errors import Locked, NeedsPerson, UsageProblem
from cutover.evidence import Evidence
from cutover.plugin import console, masking, options
from cutover.plugin.opening import only_urls, report_folder, settings_for
from cutover.plugin.required import (
    GATE,
    THROUGH_PROXY,
    WATCH,
    Asked,
    NotAnswered,
    Row,
    first_line,
    is_unknown,
    param,
    stage_of,
    why_not,
)
from cutover.plugin.signals import Signals
from cutover.report.terminal import refused_lines
from cutover.settings import Settings
from cutover.target import Target
from cutover.verdict import Outcome, Verdict
from cutover.walk import Walk
from cutover.wish import Wish

if TYPE_CHECKING:
    from cutover.watching import Observed

OWN_TIMEOUT_S = 120.0


@dataclass(repr=False, eq=False)  # pytest keeps plugins in sets where folders have conftests of their own
class Run:
    """One pytest session with a target."""

    config: pytest.Config
    wish: Wish
    settings: Settings | None
    folder: Path
    evidence: Evidence
    walk: Walk | None
    console: console.Console
    rows: dict[str, Row] = field(default_factory=dict)
    unasked: dict[str, list[str]] = field(default_factory=dict)
    stage: int = GATE
    stage_begun: float = field(default_factory=time.monotonic)
    begun: bool = False
    refused: list[str] = field(default_factory=list)
    """The last lines of a session that was not begun."""
    ended: saying.Ended | None = None
    targets: dict[Asked, Target] = field(default_factory=dict)
    signals: Signals = field(default_factory=Signals)
    observed: Observed | None = None
    session: pytest.Session | None = None
    _told: set[int] = field(default_factory=set)

    # --- coming to be --------------------------------------------------------------------------------------------
    @classmethod
    def of(cls, config: pytest.Config, wish: Wish) -> Run:
        """A session for *wish*: its settings read, its report folder named; raises UsageError."""
        try:
            settings = settings_for(config, wish)
            folder = report_folder(settings, wish)
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from problem
        evidence = Evidence(file=None)
        terminal = console.Console(config)
        # A URL is asked where no colour of ours exists: nothing is rendered, locked or taken back for it.
        walk = Walk(settings, wish, evidence, terminal.step) if settings and not only_urls(wish) else None
        if config.option.xmlpath is None:
            config.option.xmlpath = str(folder / "junit.xml")
        if getattr(config.option, "htmlpath", "none here") is None:
            config.option.htmlpath = str(folder / "report.html")
            config.option.self_contained_html = True
        run = cls(config, wish, settings, folder, evidence, walk, terminal)
        evidence.fact("command", "pytest " + shlex.join(config.invocation_params.args))
        run.signals.catch()
        return run

    def close(self) -> None:
        """Let the lock and the signals go; a session that was refused leaves no report behind."""
        if not self.begun and self.ended is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.walk is not None:
            self.walk.unlock()
        self.signals.restore()

    def require_settings(self) -> Settings:
        """The settings; for a URL without a cutover.toml the defaults."""
        return self.settings or settings_module.plain()

    # --- collecting ----------------------------------------------------------------------------------------------
    def generate(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize over targets, endpoints and watched questions."""
        names = metafunc.fixturenames
        if "target" in names:
            asked = self._asked(watching="watch" in names)
            metafunc.parametrize(
                "target", asked, indirect=True, scope="session", ids=[each.name for each in asked]
            )
        if "endpoint" in names and self.settings is not None:
            metafunc.parametrize(
                "endpoint",
                self.settings.endpoints,
                indirect=True,
                ids=[each.label for each in self.settings.endpoints],
            )
        if "watched_name" in names and self.settings is not None:
            from cutover.probes.default import names_for

            metafunc.parametrize("watched_name", names_for(self.settings), indirect=True)

    def _asked(self, *, watching: bool) -> list[Asked]:
        """The targets that a test is asked for: with --switch both before and after, the watch only after."""
        after = [Asked("live", after_switch=True)] if self.wish.switch else []
        return after if watching and after else [*(Asked(name) for name in self.wish.targets), *after]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """With --plan nothing is collected; a release asks for its lock first, so that the second one need not wait."""
        option = self.config.option
        if self.walk is not None and self.wish.armed and not option.plan and not option.collectonly:
            with self._refusing():
                self.walk.lock()
        if not option.plan:
            return None
        session.items = []
        session.testscollected = 0
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Take out what cannot be asked, and sort by stage, whatever the order of paths."""
        yield
        keep = []
        for item in items:
            why = why_not(item, self.settings)
            if why:
                self.unasked.setdefault(why, []).append(item.nodeid)
                continue
            self.rows[item.nodeid] = Row(stage_of(item))
            keep.append(item)
        keep.sort(key=stage_of)
        items[:] = keep
        self._budget(keep)
        if self.wish.switch:
            stages = {stage_of(item) for item in keep}
            if not {GATE, WATCH} <= stages and not self.config.option.collectonly:
                raise pytest.UsageError("--switch needs a gate and a watch: name smoke and checks")

    def _budget(self, items: list[pytest.Item]) -> None:
        """Give the first test of each stage the time of the changes that it may start."""
        longest = self.settings.max_release if self.settings and self.wish.armed else OWN_TIMEOUT_S
        watch = self.watch_seconds() + OWN_TIMEOUT_S
        seen: set[int] = set()
        for item in items:
            stage = stage_of(item)
            limit = OWN_TIMEOUT_S if stage in seen else longest
            limit = max(limit, watch) if stage == WATCH else limit
            seen.add(stage)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(limit, method="signal"))

    def watch_seconds(self) -> float:
        """How long the watch is to be."""
        if self.wish.watch_s is not None:
            return self.wish.watch_s
        return self.settings.watch.duration if self.settings else 0.0

    # --- running -------------------------------------------------------------------------------------------------
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Lock, recover and preflight, before anything is asked."""
        if self.config.option.collectonly or (
            session.testsfailed and not self.config.option.continue_on_collection_errors
        ):
            return None
        self._open_report()
        with self._refusing():
            if self.walk is not None:
                finishing.begin(self.walk, plan=self.config.option.plan, greet=self._greet)
        self.begun = True
        saying.point_latest(self.folder)
        self.stage_begun = time.monotonic()
        return None

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """End the session with what refuses it: one line and its exit code, and nothing changed."""
        try:
            yield
        except Locked as locked:
            self.refused = refused_lines("LOCKED", str(locked), release.LOCKED, self.console.look)
            raise pytest.exit.Exception(str(locked), returncode=release.LOCKED) from locked
        except NeedsPerson as lost:
            self.refused = refused_lines("UNDO FAILED", str(lost), release.NEEDS_PERSON, self.console.look)
            raise pytest.exit.Exception(str(lost), returncode=release.NEEDS_PERSON) from lost
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from problem
        except docker_engine.EngineSilent as silent:
            raise pytest.UsageError(str(silent)) from silent

    def _greet(self, walk: Walk) -> None:
        self.console.greet(walk, self.folder)

    def _open_report(self) -> None:
        """Make the report folder; what is seen from here on is written as it comes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.evidence.file = self.folder / "evidence.jsonl"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:  # noqa: ARG002  # pytest's signature
        """The next stage begins only when every test of this one said yes."""
        stage = stage_of(item)
        if stage == self.stage:
            return None
        self.tell_stage()
        bad = [
            name
            for name, row in self.rows.items()
            if row.stage < stage and not row.not_asked and row.outcome is not Outcome.YES
        ]
        if bad and self.wish.armed:
            item.session.shouldfail = f"{release.count(bad)} of the gate did not pass"
            return True
        self.stage, self.stage_begun = stage, time.monotonic()
        return None

    def tell_stage(self) -> None:
        """One line for the stage that ended: how many said what."""
        rows = {
            name: row
            for name, row in self.rows.items()
            if row.stage == self.stage and row.outcome is not None and not row.not_asked
        }
        lost = all(row.phases.get("setup") == "failed" for row in rows.values())
        if lost and self.walk is not None and self.walk.trouble is not None:
            return  # the step that failed has a line of its own; no test of this stage was asked
        if rows and self.stage not in self._told:
            self._told.add(self.stage)
            spent = time.monotonic() - self.stage_begun
            self.console.stage(self.stage, self.wish, rows, spent, self.evidence)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Learn what each phase of a test said."""
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, NotAnswered):
            report.longrepr = str(call.excinfo.value)  # where in our code that was raised helps nobody
        masking.mask(report)
        row = self.rows.get(item.nodeid)
        if row is not None:
            row.phases[report.when] = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            row.seconds += report.duration
            if call.excinfo is not None:
                row.unknown = row.unknown or is_unknown(call.excinfo.value)
                row.said = row.said or first_line(call.excinfo.value)
            if report.when == "teardown":
                self._keep_untold(item, row)
        return report

    def _keep_untold(self, item: pytest.Item, row: Row) -> None:
        """A test that ended without `expect`, or otherwise than its verdicts, is a check of the report too."""
        outcome = row.outcome
        if outcome is None or row.not_asked or (row.told and outcome in row.told | {Outcome.YES}):
            return
        asked = param(item)
        reason = row.said or ("passed" if outcome is Outcome.YES else "it did not pass")
        verdict = Verdict(item.name.partition("[")[0], outcome, reason)
        self.evidence.check(item.nodeid, asked.name if asked else "", row.stage, verdict, row.seconds)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """After the switch the first sure no ends the session: the flip is the very next thing."""
        row = self.rows.get(nodeid)
        if row is None or self.session is None or not self.wish.armed:
            return
        if row.stage > GATE and not row.not_asked and row.outcome is not Outcome.YES:
            self.session.shouldfail = f"{nodeid} did not pass after the switch"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember the session, to end it at the first sure no."""
        self.session = session
        self.console.quiet()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Our own lines say more than dots; with -v pytest's say it all."""
        if self.config.get_verbosity() > 0 or not isinstance(report, pytest.TestReport):
            return None
        if report.passed:
            return ("passed" if report.when == "call" else "", "", "")
        if report.failed:
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        return ("skipped", "", "")

    # --- ending --------------------------------------------------------------------------------------------------
    def tally(self, pytest_exit: int) -> release.Tally:
        """What was required and what came of it."""
        required = [
            release.Required(name, row.stage, row.outcome)
            for name, row in self.rows.items()
            if not row.not_asked
        ]
        stages = {GATE} | ({THROUGH_PROXY, WATCH} if self.wish.switch else set())
        if not self.wish.armed:
            stages = {each.stage for each in required} or {GATE}
        trouble = self.walk.trouble_outcome if self.walk else None
        return release.Tally(required, pytest_exit, frozenset(stages), trouble)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:  # noqa: ARG002  # pytest's signature
        """Keep or take back: before the reports are written when it is a no, after all else when it is a yes."""
        if self.config.option.collectonly or not self.begun:
            yield
            self.console.refuse(self.refused)
            return
        self.signals.ignore()
        self.tell_stage()
        tally = self.tally(int(session.exitstatus))
        if not release.proven(tally):
            self._end(session, tally)
        broken: BaseException | None = None
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # whatever another plugin does, this release has an end
            broken = error
        code = release.INTERNAL if broken is not None else int(session.exitstatus)
        self._end(session, self.tally(code))
        self._report()
        if broken is not None:
            text = f"a plugin broke the end of the session: {type(broken).__name__}: {broken}"
            raise pytest.exit.Exception(text, returncode=self.ended.code if self.ended else release.INTERNAL)

    def _end(self, session: pytest.Session, tally: release.Tally) -> None:
        """Keep or take back, once."""
        if self.ended is None:
            whole = not options.is_selected(self.config)
            self.ended = finishing.finish(
                self.walk,
                self.wish,
                self.evidence,
                tally,
                whole=whole,
                plan=self.config.option.plan,
            )
        session.exitstatus = self.ended.code

    def _report(self) -> None:
        """Write the files of the report, and the last lines below pytest's own summary."""
        if self.ended is None:
            return
        with contextlib.suppress(OSError):
            saying.write(self.folder, self.walk, self.evidence, self.ended, self.unasked)
        self.console.ending(self.ended, self.evidence, self.unasked, self.folder)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with contextlib.suppress(OSError):
                saying.write_summary(Path(summary), self.evidence, self.ended)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from cutover.report.summary import error_lines

            self.console.lines(error_lines(self.evidence, self.ended.ending))
        sys.stdout.flush()
