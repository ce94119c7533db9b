"""The session: which tests are required, when the next stage may begin, and what the end of it means."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cutover import engine as docker_engine
from cutover import finishing, release, scene
from cutover import settings as settings_module
from cutover.errors import CutoverError, Inconclusive, Locked, NeedsPerson, UsageProblem
from cutover.evidence import Evidence
from cutover.plugin import console, masking, options
from cutover.secret import MASK
from cutover.settings import Settings
from cutover.target import Control, Target
from cutover.verdict import Outcome, Verdict
from cutover.walk import Walk, Wish

if TYPE_CHECKING:
    import httpx

    from cutover.probes.identity import Expected
    from cutover.probes.logs import Baseline
    from cutover.watching import Observed, Watched

GATE, THROUGH_PROXY, WATCH = 0, 1, 2
OWN_TIMEOUT_S = 120.0
SECOND_CTRL_C_S = 15.0


class NotAnswered(Exception):
    """A question that was asked and not answered: neither a pass nor a failure of the service."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A target as tests are parametrized with it."""

    name: str
    after_switch: bool = False


@dataclass(slots=True)
class Row:
    """What is known of one required test."""

    stage: int
    phases: dict[str, str] = field(default_factory=dict)
    unknown: bool = False
    not_asked: str = ""
    said: str = ""
    """The first line of what went wrong."""
    seconds: float = 0.0
    told: set[Outcome] = field(default_factory=set)
    """The outcomes of the verdicts that `expect` was given."""

    @property
    def outcome(self) -> Outcome | None:
        """None: it never ran."""
        if not self.phases:
            return None
        return release.outcome_of(self.phases, self.unknown)


@dataclass(repr=False)
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
    ended: finishing.Ended | None = None
    targets: dict[Asked, Target] = field(default_factory=dict)
    _observed: Any = None
    _interrupted: float = float("-inf")
    _told: set[int] = field(default_factory=set)
    _signals: dict[int, Any] = field(default_factory=dict)

    # --- coming to be --------------------------------------------------------------------------------------------
    @classmethod
    def of(cls, config: pytest.Config, wish: Wish) -> Run:
        """A session for *wish*: its settings read, its report folder named; raises UsageError."""
        try:
            settings = _settings(config, wish)
            folder = report_folder(settings, wish)
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from problem
        evidence = Evidence(file=None)
        terminal = console.Console(config)
        # A URL is asked where no colour of ours exists: nothing is rendered, locked or taken back for it.
        walk = Walk(settings, wish, evidence, terminal.step) if settings and not _only_urls(wish) else None
        if config.option.xmlpath is None:
            config.option.xmlpath = str(folder / "junit.xml")
        if getattr(config.option, "htmlpath", "none here") is None:
            config.option.htmlpath = str(folder / "report.html")
            config.option.self_contained_html = True
        run = cls(config, wish, settings, folder, evidence, walk, terminal)
        evidence.fact("command", "pytest " + shlex.join(config.invocation_params.args))
        run._catch_signals()
        return run

    def _catch_signals(self) -> None:
        """Make SIGTERM and SIGHUP end the session in order, and SIGINT too where it was inherited ignored."""
        if threading.current_thread() is not threading.main_thread():
            return

        def interrupt(number: int, _frame: object) -> None:
            # A second one would cut into pytest's own way to the end, before the take-back has begun; after
            # a while it counts again, for a test may have swallowed the first.
            now = time.monotonic()
            if now - self._interrupted < SECOND_CTRL_C_S:
                return
            self._interrupted = now
            raise KeyboardInterrupt(signal.Signals(number).name)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._signals[number] = signal.signal(number, interrupt)

    def _ignore_signals(self) -> None:
        """Nothing interrupts a take-back."""
        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)

    def close(self) -> None:
        """Let the lock and the signals go; a session that was refused leaves no report behind."""
        if not self.begun and self.ended is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.walk is not None:
            self.walk.unlock()
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._signals.clear()

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
        """With --plan nothing is collected."""
        if not self.config.option.plan:
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
            why = self._why_not(item)
            if why:
                self.unasked.setdefault(why, []).append(item.nodeid)
                continue
            self.rows[item.nodeid] = Row(self.stage_of(item))
            keep.append(item)
        keep.sort(key=self.stage_of)
        items[:] = keep
        self._budget(keep)
        if self.wish.switch:
            stages = {self.stage_of(item) for item in keep}
            if not {GATE, WATCH} <= stages and not self.config.option.collectonly:
                raise pytest.UsageError("--switch needs a gate and a watch: name smoke and checks")

    def _budget(self, items: list[pytest.Item]) -> None:
        """Give the first test of each stage the time of the changes that it may start."""
        longest = self.settings.max_release if self.settings and self.wish.armed else OWN_TIMEOUT_S
        watch = self.watch_seconds() + OWN_TIMEOUT_S
        seen: set[int] = set()
        for item in items:
            stage = self.stage_of(item)
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

    def stage_of(self, item: pytest.Item) -> int:
        """0 gate, 1 gate through the proxy, 2 watch."""
        if "watch" in getattr(item, "fixturenames", ()):
            return WATCH
        asked = _param(item)
        return THROUGH_PROXY if asked is not None and asked.after_switch else GATE

    def _why_not(self, item: pytest.Item) -> str:
        """Why this test cannot be asked at all, empty if it can."""
        needs = {need for mark in item.iter_markers("asks") for need in mark.args}
        asked = _param(item)
        plain = asked is not None and scene.is_url(asked.name)
        if plain and needs & {"container", "proxy", "dependencies", "database", "colour"}:
            name = asked.name if asked else "this"
            return f"{name} is a plain URL, so its container and its surroundings cannot be seen"
        settings = self.settings
        have = {
            "version": plain or (settings is not None and settings.version is not None),
            "endpoints": settings is not None and bool(settings.endpoints),
            "proxy": settings is not None and settings.proxy is not None,
            "dependencies": settings is not None and bool(settings.dependencies),
            "alerts": settings is not None and settings.alerts is not None,
            "tls": settings is not None
            and settings.proxy is not None
            and settings.proxy.url.startswith("https://"),
            "database": settings is not None and settings.database is not None,
        }
        lacking = sorted(need for need in needs if not have.get(need, True))
        return f"cutover.toml has no {lacking[0]}" if lacking else ""

    # --- running -------------------------------------------------------------------------------------------------
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Lock, recover and preflight, before anything is asked."""
        if self.config.option.collectonly or (
            session.testsfailed and not self.config.option.continue_on_collection_errors
        ):
            return None
        self._open_report()
        try:
            if self.walk is not None:
                finishing.begin(self.walk, plan=self.config.option.plan, greet=self._greet)
        except Locked as locked:
            raise pytest.exit.Exception(str(locked), returncode=release.LOCKED) from locked
        except NeedsPerson as lost:
            raise pytest.exit.Exception(str(lost), returncode=release.NEEDS_PERSON) from lost
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from problem
        except docker_engine.EngineSilent as silent:
            raise pytest.UsageError(str(silent)) from silent
        self.begun = True
        finishing.point_latest(self.folder)
        self.stage_begun = time.monotonic()
        return None

    def _greet(self, walk: Walk) -> None:
        self.console.greet(walk, self.folder)

    def _open_report(self) -> None:
        """Make the report folder; what is seen from here on is written as it comes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.evidence.file = self.folder / "evidence.jsonl"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:  # noqa: ARG002  # pytest's signature
        """The next stage begins only when every test of this one said yes."""
        stage = self.stage_of(item)
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
        masking.mask(report)
        row = self.rows.get(item.nodeid)
        if row is not None:
            row.phases[report.when] = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            row.seconds += report.duration
            if call.excinfo is not None:
                row.unknown = row.unknown or is_unknown(call.excinfo.value)
                row.said = row.said or _first_line(call.excinfo.value)
            if report.when == "teardown":
                self._keep_untold(item, row)
        return report

    def _keep_untold(self, item: pytest.Item, row: Row) -> None:
        """A test that ended without `expect`, or otherwise than its verdicts, is a check of the report too."""
        outcome = row.outcome
        if outcome is None or row.not_asked or (row.told and outcome in row.told | {Outcome.YES}):
            return
        asked = _param(item)
        reason = row.said or ("passed" if outcome is Outcome.YES else "it did not pass")
        verdict = Verdict(item.name.partition("[")[0], outcome, reason)
        self.evidence.check(item.nodeid, asked.name if asked else "", row.stage, verdict, row.seconds)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """After the switch the first sure no ends the session: the flip is the very next thing."""
        row = self.rows.get(nodeid)
        if row is None or self._session is None or not self.wish.armed:
            return
        if row.stage > GATE and not row.not_asked and row.outcome is not Outcome.YES:
            self._session.shouldfail = f"{nodeid} did not pass after the switch"

    _session: pytest.Session | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember the session, to end it at the first sure no."""
        self._session = session
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

    # --- what the fixtures give ----------------------------------------------------------------------------------
    def _walk(self) -> Walk:
        if self.walk is None:
            raise pytest.UsageError("this needs a cutover.toml")
        return self.walk

    def _guarded(self, act: Callable[[Walk], None]) -> None:
        """Do a change; when it fails the session ends with one error, not one for each test."""
        walk = self._walk()
        trouble: CutoverError
        try:
            act(walk)
        except (CutoverError, docker_engine.EngineSilent) as error:
            trouble = error if isinstance(error, CutoverError) else Inconclusive(str(error))
        except Exception as error:
            walk.trouble = Inconclusive(f"internal error: {type(error).__name__}: {error}")
            self._stop(str(walk.trouble))
            raise
        else:
            return
        # Outside of the except block: pytest would print the first error above the second one.
        walk.trouble = trouble
        self._stop("the release did not get further")
        if isinstance(trouble, Inconclusive):
            raise NotAnswered(str(trouble))
        pytest.fail(str(trouble), pytrace=False)

    def _stop(self, why: str) -> None:
        if self._session is not None:
            self._session.shouldfail = why

    def deploy(self) -> str | None:
        """Deploy what was wished, if anything was."""
        if self.wish.deploy is not None:
            from cutover import deploying

            self._guarded(deploying.deploy)
            self.stage_begun = time.monotonic()
        return self.wish.deploy

    def switch(self) -> bool:
        """Switch, if that was wished."""
        if self.wish.switch:
            from cutover import switching

            self._guarded(switching.switch)
            finishing.tell_switched(self._walk())
            self.stage_begun = time.monotonic()
        return self.wish.switch

    def target(self, asked: Asked) -> Target:
        """The target that a test's parameter means."""
        if asked not in self.targets:
            if self.walk is None:
                self.targets[asked] = scene.target_named(None, asked.name)
            elif self.wish.armed and not asked.after_switch:
                self.targets[asked] = self.walk.target
            else:
                here = self.walk.scene.again() if asked.after_switch else self.walk.scene
                self.targets[asked] = scene.target_named(here, asked.name)
        return self.targets[asked]

    def control(self, target: Target) -> Control:
        """How the target's silence is told from a cut way."""
        return scene.control_of(self.walk.scene if self.walk else None, target)

    def http(self, target: Target) -> httpx.Client:
        """A client bound to *target*."""
        from cutover.http import client

        deadline = self.settings.gate.deadline if self.settings else 5.0
        verify = (
            self.settings.proxy.verify
            if self.settings and self.settings.proxy and target.through_proxy
            else True
        )
        return client(target.base_url, deadline, verify=verify)

    def container_of(self, target: Target) -> docker_engine.Container:
        """The container of *target* now."""
        if target.project is None:
            raise pytest.UsageError(f"{target.name} is a plain URL: it has no container here")
        found = docker_engine.the_container(target.project, target.service)
        if found is None:
            pytest.fail(f"no container of {target.service} in project {target.project}", pytrace=False)
        return found

    def baseline(self, target: Target) -> Baseline | None:
        """The log that was kept before the deploy."""
        return self.walk.baselines.get(target.colour or "") if self.walk else None

    def expected(self, target: Target) -> Expected:
        """What should run there."""
        from cutover.identifying import expected

        return expected(self._walk(), target)

    def watched(self, target: Target) -> list[Watched]:
        """The questions of the watch."""
        from cutover import switching

        return switching.questions(self._walk(), target)

    def watch(self, target: Target, questions: list[Watched]) -> Observed:
        """Watch once for the whole session."""
        if self._observed is None:
            from cutover import switching

            self._observed = switching.watch(
                self._walk(), target, questions, self.watch_seconds(), self.console.progress
            )
            self.console.end_progress()
        return self._observed  # type: ignore[no-any-return]

    def expecting(self, item: pytest.Item) -> Callable[[Verdict | Iterable[Verdict]], None]:
        """The `expect` of one test."""
        begun = time.monotonic()
        asked = _param(item)
        row = self.rows.get(item.nodeid)

        def expect(verdicts: Verdict | Iterable[Verdict]) -> None:
            found = [verdicts] if isinstance(verdicts, Verdict) else list(verdicts)
            if row is not None:
                row.told |= {each.outcome for each in found}
            for verdict in found:
                self.evidence.check(
                    item.nodeid,
                    asked.name if asked else "",
                    self.stage_of(item),
                    verdict,
                    time.monotonic() - begun,
                )
            worst = {outcome: [each for each in found if each.outcome is outcome] for outcome in Outcome}
            if worst[Outcome.NO]:
                pytest.fail("\n".join(str(each) for each in worst[Outcome.NO]), pytrace=False)
            if worst[Outcome.UNKNOWN]:
                raise NotAnswered("\n".join(str(each) for each in worst[Outcome.UNKNOWN]))
            if not worst[Outcome.YES] and row is not None:
                row.not_asked = found[0].reason if found else "nothing to ask"
                self.unasked.setdefault(row.not_asked, []).append(item.nodeid)
                pytest.skip(f"not asked: {row.not_asked}")

        return expect

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
            return
        self._ignore_signals()
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
            finishing.write(self.folder, self.walk, self.evidence, self.ended, self.unasked)
        self.console.ending(self.ended, self.evidence, self.unasked, self.folder)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with contextlib.suppress(OSError):
                finishing.write_summary(Path(summary), self.evidence, self.ended)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from cutover.report.summary import error_lines

            self.console.lines(error_lines(self.evidence, self.ended.ending))
        sys.stdout.flush()


def _param(item: pytest.Item) -> Asked | None:
    """The target that an item was parametrized with."""
    spec = getattr(item, "callspec", None)
    found = spec.params.get("target") if spec is not None else None
    return found if isinstance(found, Asked) else None


def _first_line(error: BaseException) -> str:
    """What went wrong, masked, on one line."""
    text = str(error).strip() or type(error).__name__
    return MASK(text.splitlines()[0])


def is_unknown(error: BaseException) -> bool:
    """Whether a failure says nothing about the service: no assertion, or the test's own time-out."""
    if isinstance(error, pytest.fail.Exception):
        return str(error).startswith("Timeout (>")
    return not isinstance(error, AssertionError)


def _settings(config: pytest.Config, wish: Wish) -> Settings | None:
    """The settings; None for plain URLs where no cutover.toml is found nor named."""
    given = config.option.cutover_config
    try:
        path = settings_module.find(given, os.environ, config.invocation_params.dir)
    except UsageProblem:
        if given is None and _only_urls(wish):
            return None
        raise
    return settings_module.load(path, os.environ)


def _only_urls(wish: Wish) -> bool:
    return not wish.armed and all(scene.is_url(name) for name in wish.targets)


def report_folder(settings: Settings | None, wish: Wish) -> Path:
    """`reports/<utc>-<target>-<tag>`; raises UsageProblem where it cannot be written."""
    root = settings.reports if settings else Path(os.environ.get("CUTOVER_REPORTS", "reports")).absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageProblem(f"reports folder {root} cannot be written: {error.strerror}") from error
    name = "".join(
        each if each.isalnum() or each in "-." else "-"
        for each in f"{wish.targets[0].split('://')[-1]}-{wish.deploy or 'gate'}"
    )
    stem = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
    return next(
        each
        for each in (root / f"{stem}{'' if not n else f'-{n}'}" for n in range(1000))
        if not each.exists()
    )
