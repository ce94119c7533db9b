"""The session of a release: its state, and the steps that fixtures and hooks trigger. No hooks here."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from cutover.core.config import Settings
from cutover.core.errors import (
    ConfigError,
    CutoverError,
    EngineUnavailable,
    Inconclusive,
    Locked,
    OperatorNeeded,
)
from cutover.core.evidence import Evidence
from cutover.core.masking import printable
from cutover.core.result import USAGE, Outcomes, SessionResult
from cutover.core.target import ReleaseRequest, Target
from cutover.core.text import duration
from cutover.gate.log_checks import LogWindow
from cutover.plugin import options
from cutover.plugin.checklist import Checklist, NotAnswered, TargetParam
from cutover.plugin.console import Console, SignalHandlers, look_of_terminal
from cutover.plugin.hookspecs import HookCalls
from cutover.release.colors import Colors, inspect_colors, situation_of, target_named
from cutover.release.finish import SessionEnd, release_files, url_result
from cutover.release.notify import send_event
from cutover.release.plan import plan_lines
from cutover.release.preflight import preflight, recover_dead_session, report_obstacles
from cutover.release.running import baselines_of_verified
from cutover.release.state import State, who
from cutover.release.transaction import ActiveRelease, Reporter, Transaction, outcome_of_error
from cutover.release.verify import failing, journaled
from cutover.report.github import error_lines
from cutover.report.terminal import refused_lines
from cutover.report.write import point_latest_to, write_job_summary, write_report
from cutover.system.compose import Rendered
from cutover.system.files import make_private

# The modules of a deploy, a switch, a watch and a revert are imported where they are needed: a gate needs none.
if TYPE_CHECKING:
    from cutover.release.deploy import Deployed
    from cutover.release.switch import Switched
    from cutover.watch.check import WatchCheck, WatchResult

_T = TypeVar("_T")
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""Errors of a file that cannot be written to its end."""


@dataclass(repr=False, eq=False)
class CutoverSession:
    """One pytest session with a target."""

    config: pytest.Config
    request: ReleaseRequest
    settings: Settings
    folder: Path
    """The folder of the report."""
    evidence: Evidence
    console: Console
    checklist: Checklist
    hook_calls: HookCalls
    rendering: Future[dict[str, Rendered]] | None = None
    """Both colors of a gate, rendered since pytest was configured."""
    signals: SignalHandlers = field(default_factory=SignalHandlers)
    begun: bool = False
    """Whether the preflight has passed."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Steps that are to be shown before the first one: name and text."""
    refused: list[str] = field(default_factory=list)
    """The last lines of a session that was refused."""
    trouble: CutoverError | None = None
    """The error of the step of the release that failed."""
    stage_begun: float = 0.0
    """When the current stage began (monotonic); the time of a deploy or a switch does not count."""
    pytest_session: pytest.Session | None = None
    _release: ActiveRelease | None = None
    _deployed: Deployed | None = None
    _switched: Switched | None = None
    _watched: WatchResult | None = None
    _targets: dict[TargetParam, Target] = field(default_factory=dict)
    _result: SessionResult | None = None

    @classmethod
    def create(
        cls,
        config: pytest.Config,
        request: ReleaseRequest,
        rendering: Future[dict[str, Rendered]] | None = None,
    ) -> CutoverSession:
        """The session for *request*, with both colors if they are being rendered already; raises UsageError."""
        try:
            settings = options.load_settings(config, request)
            folder = _report_folder(settings.reports, request)
            _require_report_paths(config)
        except ConfigError as problem:
            raise pytest.UsageError(str(problem)) from problem
        if request.watch_s is not None and (too_long := settings.watch_problem(request.watch_s)):
            raise pytest.UsageError(f"--watch: {too_long}")
        if too_short := _hold_problem(settings, request):
            raise pytest.UsageError(too_short)
        if config.option.xmlpath is None:
            config.option.xmlpath = str(folder / "junit.xml")
        if getattr(config.option, "htmlpath", "not installed") is None:
            config.option.htmlpath = str(folder / "report.html")
            config.option.self_contained_html = True
        hook_calls = HookCalls(config)
        evidence = Evidence(
            on_check=lambda check: hook_calls.call("verdict", check=check),
            on_step=lambda step: hook_calls.call("stage", step=step),
        )
        evidence.fact("command", "pytest " + shlex.join(config.invocation_params.args))
        checklist = Checklist(whole=not options.selections(config) and not options.partial_paths(config))
        console = Console(config)
        return cls(config, request, settings, folder, evidence, console, checklist, hook_calls, rendering)

    def close(self) -> None:
        """Restore the signals; delete the report folder of a session that was refused."""
        if not self.begun:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.signals.restore()

    # --- what is known -------------------------------------------------------------------------------------------
    @property
    def watch_seconds(self) -> float:
        """How long the watch lasts."""
        asked = self.request.watch_s
        return self.settings.watch.duration if asked is None else asked

    @property
    def colors(self) -> Colors | None:
        """Both colors as they were before the first test; None for plain URLs."""
        return self._release.situation.colors if self._release else None

    @property
    def live_tag(self) -> str | None:
        """The tag that users had before the first test; None if it is unknown."""
        return self._release.situation.before.tag if self._release else None

    def release(self) -> ActiveRelease:
        """The release; raises UsageError for plain URLs, which have none."""
        if self._release is None:
            raise pytest.UsageError("this needs a cutover.toml")
        return self._release

    def target(self, param: TargetParam) -> Target:
        """The target that a test's parameter names, resolved once."""
        if param not in self._targets:
            release, colors = self._release, self.colors
            if release and self.request.changes_something and not param.after_switch:
                found = self._deployed.target if self._deployed else release.situation.target
            else:
                current = colors.refreshed() if colors and param.after_switch else colors
                found = target_named(current, param.name)
            expect = self.request.expect
            self._targets[param] = replace(found, tag=expect) if expect else found
        return self._targets[param]

    def baselines(self, target: Target) -> dict[str, LogWindow]:
        """Service -> the log before the deploy; of a verified release that runs already, its log until then."""
        if self._release is None or target.color is None:
            return {}
        deployed = self._deployed
        if deployed and deployed.baselines and deployed.target.color == target.color:
            return dict(deployed.baselines)
        return baselines_of_verified(self.settings, target.color)

    # --- steps ---------------------------------------------------------------------------------------------------
    def stop(self, why: str) -> None:
        """End the session before its next test."""
        if self.pytest_session is not None:
            self.pytest_session.shouldfail = why

    def begin(self) -> None:
        """Recover, inspect and run the preflight before the first test; what is refused ends the session."""
        make_private(self.folder, mode=0o750)
        self.evidence.file = self.folder / "evidence.jsonl"
        try:
            if not self.request.only_urls:
                self._release = self._begin_release()
        except (Locked, OperatorNeeded) as error:
            status = "LOCKED" if isinstance(error, Locked) else "ROLLBACK FAILED"
            self.refused = refused_lines(status, str(error), error.exit_code, look_of_terminal())
            raise pytest.exit.Exception(str(error), returncode=error.exit_code) from error
        except (ConfigError, EngineUnavailable) as error:
            raise pytest.UsageError(str(error)) from error
        self.begun = True
        gc.freeze()  # pytest collects garbage at its end; what was imported until now is none
        point_latest_to(self.folder)
        self.console.report_at(self.folder)
        self.stage_begun = time.monotonic()

    def hold_lock(self) -> None:
        """Take the session lock, unless this session holds it already; raises Locked."""
        options.hold_lock(self.config, self.settings, self.request)

    def _begin_release(self) -> ActiveRelease:
        request, settings, state = self.request, self.settings, State(self.settings.state)
        report = Reporter(self.evidence, self.console.step)
        if request.plan:
            report_obstacles(state, report)
        elif request.changes_something:
            from cutover.release.rollback import finish_record

            self.hold_lock()
            with journaled(state):
                recover_dead_session(state, report)
            if completed := finish_record(settings, state):
                report.line("T-15m", "recover", completed)
        rendered = self.rendering.result() if self.rendering else None
        situation = situation_of(inspect_colors(settings, rendered), request)
        was = situation.before
        facts = {
            "project": settings.project, "target": situation.target.name, "who": who(), "began": time.time(),
            "time_zone": settings.approval.time_zone,
            "from": {"tag": was.tag, "color": was.live, "image": was.image},
        }  # fmt: skip
        for key, value in facts.items():
            self.evidence.fact(key, value)
        self.console.greet(situation, who())
        for name, text in self.notes:
            report.line("", name, text, None, "not asked")
        # Beside the preflight, which waits for Compose: a revert is judged by it.
        reverts = request.changes_something and request.rollback and not request.plan
        with ThreadPoolExecutor(1) as pool:
            before = pool.submit(failing, situation.colors) if reverts else None
            plan = preflight(situation, report)
        if before is not None:
            situation = replace(situation, before=replace(situation.before, failed=before.result()))
        if request.plan:
            for line in plan_lines(situation, plan):
                report.line("", "plan", line)
        elif request.changes_something:
            send_event(situation, report, "begin", f"{request.summary} begins")
        return ActiveRelease(situation, plan, Transaction.of(situation), report)

    def deploy(self) -> str | None:
        """Deploy the requested tag, if there is one; the tag."""
        if self.request.deploy is not None and self._deployed is None:
            from cutover.release.deploy import deploy

            self._deployed = self._run_step(deploy)
            self.stage_begun = time.monotonic()
        return self.request.deploy

    def switch(self) -> bool:
        """Switch the traffic, if it was requested; whether it was."""
        if self.request.switch and self._switched is None:
            from cutover.release.switch import Interrupt, switch

            interrupt = Interrupt(self.signals.interrupt, self.signals.interruptible)
            self._switched = self._run_step(lambda on: switch(on, self._deployed, interrupt))
            on = self.release()
            serves = f"{self.settings.project} serves {on.situation.tag} on {self._switched.color}"
            send_event(on.situation, on.report, "switched", f"{serves}, watched from here on")
            self.stage_begun = time.monotonic()
        return self.request.switch

    def watch_checks(self, target: Target) -> list[WatchCheck]:
        """The checks of the watch; after a switch they go on where the watch in the background is."""
        if self._switched is not None and target.color == self._switched.color:
            return self._switched.suite.checks()
        from cutover.release.switch import build_watch_checks

        return build_watch_checks(self.release().situation.colors, target, self.evidence)

    def watch(self, target: Target, checks: list[WatchCheck]) -> WatchResult:
        """Drain the old color after a switch, then watch; once for the whole session."""
        if self._watched is None:
            from cutover.release.switch import drain_old, require_well, watch

            report, progress = self.release().report, partial(self.console.progress, self.watch_seconds)
            switched = self._switched
            if switched is not None:
                self._run_step(lambda on: drain_old(on, switched))
                switched.background.stop()  # the watch runs its checks
                self._run_step(lambda on: require_well(on, switched.background))
            self._watched = watch(self.settings, target, checks, self.watch_seconds, report, progress)
            if switched is not None and not self._watched.ended_by:
                switched.background.start()
        return self._watched

    @property
    def why_ended(self) -> str:
        """Why the watch in the background has ended the session; empty if it has not."""
        ended = self._switched.background.ended if self._switched else None
        return f"{ended.question}: {ended.reason}" if ended is not None else ""

    def note_end(self) -> None:
        """Record the verdict by which the watch in the background has ended the session, as its trouble."""
        if self._switched is not None and self.trouble is None:
            from cutover.release.switch import require_well

            try:
                require_well(self.release(), self._switched.background)
            except CutoverError as error:
                self.trouble = error

    def roll_back(self) -> str:
        """Revert the changes of this session now and return what serves then; empty if nothing was changed."""
        tx = self.release().tx
        if not tx.changed:
            return ""
        from cutover.release.rollback import revert_open_release

        why = "the rollback fixture"
        return self._run_step(lambda _: revert_open_release(self.settings, tx.state, tx.id, why))

    def _run_step(self, act: Callable[[ActiveRelease], _T]) -> _T:
        """Do a step; if it fails, the session ends with its one error instead of one for each test."""
        release = self.release()
        trouble: CutoverError
        try:
            return act(release)
        except CutoverError as error:
            trouble = error
        except Exception as error:
            self.trouble = Inconclusive(f"internal error: {type(error).__name__}: {error}")
            self.stop(str(self.trouble))
            raise
        # Outside of the except block: pytest would print the first error above the second one.
        self.trouble = trouble
        self.stop("the release did not get further")
        if isinstance(trouble, Inconclusive):
            raise NotAnswered(str(trouble))
        pytest.fail(str(trouble), pytrace=False)

    # --- the end -------------------------------------------------------------------------------------------------
    def finish(self, outcomes: Outcomes) -> SessionResult:
        """Keep or revert the release, once; the result."""
        on, whole = self._release, self.checklist.whole
        if self._result is None:
            if self._switched is not None:
                self._switched.background.stop()
            if on is None:
                self._result = url_result(self.request, self.evidence, outcomes)
            else:
                end = SessionEnd(on.situation, on.plan, on.tx, on.report, outcomes, self.trouble, whole)
                self._result = end.finish()
        return self._result

    def outcomes(self, pytest_exit: int) -> Outcomes:
        """The outcomes by which the release is decided."""
        self.note_end()
        return self.checklist.outcomes(self.request, pytest_exit, outcome_of_error(self.trouble))

    def write_report(self, result: SessionResult) -> None:
        """Write the files of the report; raises OSError."""
        files = release_files(self._release.tx if self._release else None)
        write_report(self.folder, self.evidence, result, self.checklist.unasked, files)

    def leave_out_reports(self, exitstatus: int) -> None:
        """Before pytest's summary of a session that has not begun: its folder is deleted, and its reason comes last."""
        self.console.leave_out_reports(self.folder, refused=bool(self.refused) or int(exitstatus) == USAGE)

    def report(
        self, result: SessionResult, write: Callable[[], None], unasked: Mapping[str, Sequence[str]]
    ) -> None:
        """Write the report by *write*, and print the last lines below pytest's own summary."""
        self.hook_calls.call("end", result=result)
        with self._warning("the report"):
            write()
            self.hook_calls.call("report", folder=self.folder, result=result)
        self.console.lines(self.hook_calls.close())
        with self._warning("the last lines"):
            self.console.ending(result, self.evidence, unasked)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        with self._warning("the job summary"):
            if summary:
                write_job_summary(Path(summary), self.evidence, result)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            self.console.lines(error_lines(self.evidence, result))

    def end_broken(self, error: BaseException, result: SessionResult) -> None:
        """Say what another plugin did to the end of the session; raises pytest's Exit unless only its file was lost."""
        if is_full(error):
            # Users keep a good release whose report cannot be written.
            self.console.lines([f"warning: the report {self.folder} is incomplete: {error}"])
            return
        text = f"a plugin broke the end of the session: {type(error).__name__}: {error}"
        raise pytest.exit.Exception(printable(text), returncode=result.exit_code)

    @contextlib.contextmanager
    def _warning(self, what: str) -> Iterator[None]:
        # A report that cannot be written must not change the exit code of the release.
        try:
            yield
        except Exception as error:  # noqa: BLE001  # as above
            text = f"warning: {what} could not be written: {type(error).__name__}: {error}"
            self.console.lines([printable(text)])


SESSION = pytest.StashKey[CutoverSession]()


def is_full(error: BaseException) -> bool:
    """Whether *error* is of a file that could not be written to its end."""
    return isinstance(error, OSError) and error.errno in NO_SPACE


def _hold_problem(settings: Settings, request: ReleaseRequest) -> str:
    """Why the hold is too short; empty if it is not."""
    watch_s = settings.watch.duration if request.watch_s is None else request.watch_s
    alone = request.switch and not request.hosts
    if request.hold_s is None or not alone or request.hold_s >= watch_s:
        return ""
    hold, watch_ = duration(request.hold_s), duration(watch_s)
    return f"--hold of {hold} is shorter than the watch of {watch_}: raise it, or shorten --watch"


# --- the files of the report ---------------------------------------------------------------------------------------
def _report_folder(root: Path, request: ReleaseRequest) -> Path:
    """`reports/<utc>-<target>-<tag>`, not created yet; raises ConfigError if it cannot be written."""
    _require_writable(root, f"reports folder {root}")
    name = f"{request.targets[0].split('://')[-1]}-{request.deploy or 'gate'}"
    name = "".join(each if each.isalnum() or each in "-." else "-" for each in name)
    stem = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
    numbered = (root / f"{stem}{f'-{n}' if n else ''}" for n in range(1000))
    return next(each for each in numbered if not each.exists())


def _require_report_paths(config: pytest.Config) -> None:
    """Raise ConfigError if the file of `--html` or `--junitxml` cannot be written."""
    for name, option in (("htmlpath", "--html"), ("xmlpath", "--junitxml")):
        given = getattr(config.option, name, None)
        if not given:
            continue
        path = Path(os.path.expandvars(given)).expanduser()
        if path.is_dir():
            raise ConfigError(f"{option}={given}: it is a folder, and must be a file")
        _require_writable(path.parent, f"{option}={given}")


def _require_writable(folder: Path, what: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{what} cannot be written: {error.strerror}") from error
