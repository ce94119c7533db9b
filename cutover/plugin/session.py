"""The session of a release: its state, and the steps that fixtures and hooks trigger. No hooks here."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from cutover.core import config as configuration
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
from cutover.core.result import LOCKED, NEEDS_OPERATOR, Outcomes, SessionResult
from cutover.core.target import ControlProbe, ReleaseRequest, Target
from cutover.plugin import options
from cutover.plugin.checklist import Checklist, NotAnswered, TargetParam
from cutover.plugin.console import Console, LastingStream, SignalHandlers, look_of_terminal
from cutover.release.state import State, lock_owner, who
from cutover.report.terminal import refused_lines
from cutover.report.write import point_latest_to
from cutover.system.files import close_lock

# The release machinery is imported where it is used: it is slow, and not needed when the lock is taken.
if TYPE_CHECKING:
    from cutover.gate.container_checks import ExpectedIdentity
    from cutover.gate.log_checks import LogBaseline
    from cutover.release.colors import Colors, Situation
    from cutover.release.deploy import Deployed
    from cutover.release.plan import ReleasePlan
    from cutover.release.switch import Switched
    from cutover.release.transaction import Reporter, Transaction
    from cutover.watch.check import WatchCheck
    from cutover.watch.loop import WatchResult

T = TypeVar("T")
LOCK = pytest.StashKey[int]()
"""The session lock, taken before there is a session."""
SETTINGS = pytest.StashKey[Settings]()


@dataclass(frozen=True, slots=True)
class ActiveRelease:
    """What a session with a cutover.toml has found and planned before its first test."""

    situation: Situation
    plan: ReleasePlan
    tx: Transaction
    report: Reporter


@dataclass(repr=False, eq=False)
class CutoverSession:
    """One pytest session with a target."""

    config: pytest.Config
    request: ReleaseRequest
    settings: Settings | None
    """None for plain URLs without a cutover.toml."""
    folder: Path
    """The folder of the report."""
    evidence: Evidence
    console: Console
    checklist: Checklist
    signals: SignalHandlers = field(default_factory=SignalHandlers)
    _lock: int | None = None
    _release: ActiveRelease | None = None
    _deployed: Deployed | None = None
    _switched: Switched | None = None
    _watched: WatchResult | None = None
    _targets: dict[TargetParam, Target] = field(default_factory=dict)
    _trouble: CutoverError | None = None
    _result: SessionResult | None = None
    _begun: bool = False
    _refused: list[str] = field(default_factory=list)
    _stage_begun: float = field(default_factory=time.monotonic)
    _pytest: pytest.Session | None = None

    @classmethod
    def create(cls, config: pytest.Config, request: ReleaseRequest) -> CutoverSession:
        """The session for *request*, with the lock that `take_lock` took; raises UsageError."""
        try:
            settings = load_settings(config, request)
            folder = _report_folder(settings, request)
            _require_report_paths(config)
        except ConfigError as problem:
            raise pytest.UsageError(str(problem)) from problem
        if config.option.xmlpath is None:
            config.option.xmlpath = str(folder / "junit.xml")
        if getattr(config.option, "htmlpath", "not installed") is None:
            config.option.htmlpath = str(folder / "report.html")
            config.option.self_contained_html = True
        evidence = Evidence()
        evidence.fact("command", "pytest " + shlex.join(config.invocation_params.args))
        checklist = Checklist(whole=not options.is_selected(config))
        lock = config.stash.get(LOCK, None)
        if lock is not None:
            del config.stash[LOCK]  # from here on the session closes it
        return cls(config, request, settings, folder, evidence, Console(config), checklist, _lock=lock)

    def close(self) -> None:
        """Release the lock, restore the signals; delete the report folder of a session that was refused."""
        if not self._begun and self._result is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            close_lock(self._lock)
            self._lock = None
        self.signals.restore()

    # --- what is known -------------------------------------------------------------------------------------------
    @property
    def begun(self) -> bool:
        """Whether the preflight has passed."""
        return self._begun

    @property
    def trouble(self) -> CutoverError | None:
        """The error of the step of the release that failed."""
        return self._trouble

    @property
    def stage_seconds(self) -> float:
        """Seconds since the current stage began; the time of a deploy or a switch does not count."""
        return time.monotonic() - self._stage_begun

    def required_settings(self) -> Settings:
        """The settings; for a URL without a cutover.toml the defaults."""
        return self.settings or configuration.url_config()

    def watch_seconds(self) -> float:
        """How long the watch lasts."""
        if self.request.watch_s is not None:
            return self.request.watch_s
        return self.settings.watch.duration if self.settings else 0.0

    def release(self) -> ActiveRelease:
        """The release; raises UsageError for plain URLs, which have none."""
        if self._release is None:
            raise pytest.UsageError("this needs a cutover.toml")
        return self._release

    @property
    def _colors(self) -> Colors | None:
        return self._release.situation.colors if self._release else None

    def target(self, param: TargetParam) -> Target:
        """The target that a test's parameter names, resolved once."""
        from cutover.release.colors import target_named

        if param not in self._targets:
            release, colors = self._release, self._colors
            if release and self.request.changes_something and not param.after_switch:
                found = self._deployed.target if self._deployed else release.situation.target
            else:
                found = target_named(
                    colors.refreshed() if colors and param.after_switch else colors, param.name
                )
            self._targets[param] = found
        return self._targets[param]

    def control_probe(self, target: Target) -> ControlProbe:
        """Whether the path to *target* is up."""
        from cutover.release.colors import control_for

        return control_for(self._colors, target)

    def expected_identity(self, target: Target) -> ExpectedIdentity:
        """The identity that *target* should have."""
        from cutover.release.deploy import identity_of_target

        return identity_of_target(self.required_settings(), target, self.release().tx.record)

    def baselines(self, target: Target) -> dict[str, LogBaseline]:
        """Service -> the log before the deploy; of a verified release that runs already, its log until then."""
        from cutover.release.deploy import baselines_of_verified

        if self._release is None or target.color is None:
            return {}
        deployed = self._deployed
        if deployed and deployed.baselines and deployed.target.color == target.color:
            return dict(deployed.baselines)
        return baselines_of_verified(self.required_settings(), target.color)

    # --- steps ---------------------------------------------------------------------------------------------------
    def start(self, session: pytest.Session) -> None:
        """Remember pytest's session, which ends early at the first failure after the switch."""
        self._pytest = session
        self.console.quiet()

    def stop(self, why: str) -> None:
        """End the session before its next test."""
        if self._pytest is not None:
            self._pytest.shouldfail = why

    def begin_stage(self) -> None:
        """Count the seconds of a stage from now."""
        self._stage_begun = time.monotonic()

    def begin(self) -> None:
        """Recover, inspect and run the preflight before the first test; what is refused ends the session."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.evidence.file = self.folder / "evidence.jsonl"
        if self.settings is not None and not self.request.only_urls:
            with self._refusing():
                self._release = self._begin_release(self.settings)
        self._begun = True
        point_latest_to(self.folder)
        self.begin_stage()

    def hold_lock(self) -> None:
        """Take the session lock, unless this session holds it already; raises Locked."""
        if self._lock is None:
            state = State(self.required_settings().state)
            state.prepare()
            self._lock = state.acquire(lock_owner(self.request.summary), self.request.asked_at)

    def _begin_release(self, settings: Settings) -> ActiveRelease:
        from cutover.release.colors import inspect_situation
        from cutover.release.notify import send_event
        from cutover.release.plan import plan_lines
        from cutover.release.preflight import preflight, recover_dead_session, report_obstacles
        from cutover.release.transaction import Reporter, Transaction

        request, state, report = (
            self.request,
            State(settings.state),
            Reporter(self.evidence, self.console.step),
        )
        if request.plan:
            report_obstacles(state, report)
        elif request.changes_something:
            self.hold_lock()
            recover_dead_session(state, report)
        situation = inspect_situation(settings, request)
        for key, value in (
            ("project", settings.project),
            ("target", situation.target.name),
            ("who", who()),
            ("began", time.time()),
            ("time_zone", settings.approval.time_zone),
            ("from", {"tag": situation.before.tag, "color": situation.before.live}),
        ):
            self.evidence.fact(key, value)
        self.console.greet(situation, who(), self.folder)
        plan = preflight(situation, report)
        if request.plan:
            for line in plan_lines(situation, plan):
                report.line("", "plan", line)
        elif request.changes_something:
            send_event(situation, report, "begin", f"{request.summary} begins")
        return ActiveRelease(situation, plan, Transaction.of(situation), report)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """End the session with one line and the exit code of the error; nothing was changed."""
        try:
            yield
        except (Locked, OperatorNeeded) as error:
            locked = isinstance(error, Locked)
            status, code = ("LOCKED", LOCKED) if locked else ("ROLLBACK FAILED", NEEDS_OPERATOR)
            self._refused = refused_lines(status, str(error), code, self.console.look)
            raise pytest.exit.Exception(str(error), returncode=code) from error
        except (ConfigError, EngineUnavailable) as error:
            raise pytest.UsageError(str(error)) from error

    def deploy(self) -> str | None:
        """Deploy the requested tag, if there is one; the tag."""
        from cutover.release.deploy import deploy

        if self.request.deploy is not None and self._deployed is None:
            self._deployed = self._run_step(lambda on: deploy(on.tx, on.situation, on.plan, on.report))
            self.begin_stage()
        return self.request.deploy

    def switch(self) -> bool:
        """Switch the traffic, if it was requested; whether it was."""
        from cutover.release.notify import send_event
        from cutover.release.switch import switch

        if self.request.switch and self._switched is None:
            deployed = self._deployed
            self._switched = self._run_step(
                lambda on: switch(on.tx, on.situation, on.plan, deployed, on.report)
            )
            on, settings = self.release(), self.required_settings()
            serves = f"{settings.project} serves {on.situation.tag} on {self._switched.color}"
            send_event(on.situation, on.report, "switched", f"{serves}, watched from here on")
            self.begin_stage()
        return self.request.switch

    def watch_checks(self, target: Target) -> list[WatchCheck]:
        """The checks of the watch."""
        from cutover.release.switch import build_watch_checks

        return build_watch_checks(self.release().situation.colors, target, self.evidence)

    def watch(self, target: Target, checks: list[WatchCheck]) -> WatchResult:
        """Drain the old color after a switch, then watch; once for the whole session."""
        from cutover.release.switch import drain_old, watch

        if self._watched is None:
            on, seconds = self.release(), self.watch_seconds()
            if self._switched is not None:
                self._run_step(lambda on: drain_old(on.situation, on.report))
            self._watched = watch(
                self.required_settings(),
                target,
                checks,
                seconds,
                on.report,
                lambda left, verdicts: self.console.progress(left, seconds, verdicts),
            )
            self.console.end_progress()
        return self._watched

    def roll_back(self) -> str:
        """Revert the changes of this session now and return what serves then; empty if nothing was changed."""
        from cutover.release.rollback import revert_open_release

        on = self.release()
        if not on.tx.changed:
            return ""
        settings = self.required_settings()
        return self._run_step(
            lambda _: revert_open_release(settings, on.tx.state, on.tx.id, "the rollback fixture")
        )

    def _run_step(self, act: Callable[[ActiveRelease], T]) -> T:
        """Do a step; if it fails, the session ends with its one error instead of one for each test."""
        release = self.release()
        trouble: CutoverError
        try:
            return act(release)
        except CutoverError as error:
            trouble = error
        except Exception as error:
            self._trouble = Inconclusive(f"internal error: {type(error).__name__}: {error}")
            self.stop(str(self._trouble))
            raise
        # Outside of the except block: pytest would print the first error above the second one.
        self._trouble = trouble
        self.stop("the release did not get further")
        if isinstance(trouble, Inconclusive):
            raise NotAnswered(str(trouble))
        pytest.fail(str(trouble), pytrace=False)

    # --- the end -------------------------------------------------------------------------------------------------
    def refuse(self) -> None:
        """Print the last lines of a session that was refused."""
        self.console.refuse(self._refused)

    def finish(self, outcomes: Outcomes) -> SessionResult:
        """Keep or revert the release, once; the result."""
        from cutover.release.finish import SessionEnd, url_result

        if self._result is None:
            on = self._release
            self._result = (
                SessionEnd(
                    on.situation,
                    on.plan,
                    on.tx,
                    on.report,
                    outcomes,
                    self._trouble,
                    whole=self.checklist.whole,
                ).finish()
                if on is not None
                else url_result(self.request, self.evidence, outcomes)
            )
        return self._result

    def outcomes(self, pytest_exit: int) -> Outcomes:
        """The outcomes by which the release is decided."""
        from cutover.release.transaction import outcome_of_error

        return self.checklist.outcomes(self.request, pytest_exit, outcome_of_error(self._trouble))

    def write_report(self, result: SessionResult) -> None:
        """Write the files of the report; raises OSError."""
        from cutover.release.finish import release_files
        from cutover.report.write import write_report

        files = release_files(self._release.tx if self._release else None)
        write_report(self.folder, self.evidence, result, self.checklist.unasked, files)


SESSION = pytest.StashKey[CutoverSession]()


# --- before there is a session ---------------------------------------------------------------------------------------
def take_lock(config: pytest.Config, request: ReleaseRequest) -> int | None:
    """Take the session lock; if another process holds it, print that and return exit code 12."""
    try:
        settings = load_settings(config, request)
        if settings is None:
            return None
        state = State(settings.state)
        state.prepare()
        config.stash[LOCK] = state.acquire(lock_owner(request.summary), request.asked_at)
    except Locked as locked:
        out = LastingStream(sys.stdout)  # pytest's own terminal does not exist yet
        out.write("\n".join([*refused_lines("LOCKED", str(locked), LOCKED, look_of_terminal()), ""]))
        out.flush()
        return LOCKED
    except ConfigError as problem:
        raise pytest.UsageError(str(problem)) from problem
    config.add_cleanup(lambda: _close_unused_lock(config))
    return None


def _close_unused_lock(config: pytest.Config) -> None:
    # A session that broke before it took over the lock.
    if LOCK in config.stash:
        close_lock(config.stash[LOCK])


def load_settings(config: pytest.Config, request: ReleaseRequest) -> Settings | None:
    """The settings, read once; None for plain URLs if no cutover.toml is found and none is named."""
    if SETTINGS in config.stash:
        return config.stash[SETTINGS]
    given = config.option.cutover_config
    try:
        path = configuration.find_config(given, os.environ, config.invocation_params.dir)
    except ConfigError:
        if given is None and request.only_urls:
            return None
        raise
    config.stash[SETTINGS] = configuration.load_config(path, os.environ)
    return config.stash[SETTINGS]


def _report_folder(settings: Settings | None, request: ReleaseRequest) -> Path:
    """`reports/<utc>-<target>-<tag>`, not created yet; raises ConfigError if it cannot be written."""
    root = settings.reports if settings else Path(os.environ.get("CUTOVER_REPORTS", "reports")).absolute()
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
