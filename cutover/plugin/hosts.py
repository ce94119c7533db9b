"""The pytest session of a coordinator: its tests are those of the hosts, reported with the host in their ids."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cutover.core.errors import ConfigError, Locked
from cutover.core.evidence import Check, Evidence, load_evidence
from cutover.core.result import LOCKED, NEEDS_OPERATOR, OK, Reason, SessionResult, Status
from cutover.core.text import count, duration, near
from cutover.core.verdict import Outcome, Verdict
from cutover.plugin.console import look_of_terminal, unwrap_streams, wrap_streams
from cutover.plugin.session import CutoverSession
from cutover.release.coordinate import Coordinator, HostReport, HostsRequest, host_options
from cutover.release.hosts import (
    HostPhase,
    HostsEnd,
    HostsPlan,
    chosen_hosts,
    config_name,
    plan_hosts,
    require_approved,
)
from cutover.release.plan import APPROVED_TAG
from cutover.release.state import who
from cutover.report.terminal import Who, first_line, refused_lines
from cutover.report.write import ReleaseFiles, point_latest_to, write_report
from cutover.system import process
from cutover.system.files import make_private
from cutover.system.ssh import connections

MOMENTS = {
    HostPhase.STAGE: "T-10m",
    HostPhase.SWITCH: "T-0",
    HostPhase.CONFIRM: "T+15m",
    HostPhase.REVERT: "T+15m",
}
PARAMETERS = re.compile(r"\[(?P<ids>.*)\]$", re.DOTALL)
SHIPPED = {"smoke", "checks", "cutover.smoke", "cutover.checks"}


def register_coordinator(session: CutoverSession) -> None:
    """Register the hooks of a coordinator's session; raises UsageError."""
    try:
        hooks = CoordinatorHooks.create(session)
    except ConfigError as problem:
        raise pytest.UsageError(str(problem)) from problem
    session.config.pluginmanager.register(hooks, "cutover-hosts")
    wrap_streams()
    session.config.add_cleanup(unwrap_streams)
    session.signals.catch()


@dataclass(repr=False, eq=False)
class CoordinatorHooks:
    """Runs the release on the hosts in place of tests, and reports their tests as its own."""

    session: CutoverSession
    request: HostsRequest
    end: HostsEnd | None = None
    schemas: dict[str, str] = field(default_factory=dict)
    """Host -> where the schema is that its session has migrated."""

    @classmethod
    def create(cls, session: CutoverSession) -> CoordinatorHooks:
        """Hooks for the hosts that the session names; raises ConfigError."""
        settings, asked = session.settings, session.request
        hosts = chosen_hosts(asked.hosts, settings)
        tag, watch_s, hold_s = asked.deploy or "", asked.watch_s, asked.hold_s
        plan = plan_hosts(settings, hosts, tag, watch_s=watch_s, hold_s=hold_s, migrate=asked.migrate)
        plan = replace(plan, config=config_name(settings.source, session.config.invocation_params.dir))
        own = [each for each in asked.paths if each != "--pyargs"]
        # The shipped checklists are found by each host itself: in its checkout or in its installed package.
        tests = () if {*own} <= SHIPPED else asked.paths
        release = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
        approved = os.environ.get(APPROVED_TAG)
        if not asked.plan:
            require_approved(settings, plan.tag, approved)
        options, name = host_options(asked, tests), who().split("@")[0]
        return cls(session, HostsRequest(settings, plan, release, name, options, approved or ""))

    @property
    def plan(self) -> HostsPlan:
        """What is released where."""
        return self.request.plan

    # --- the session --------------------------------------------------------------------------------------------
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Print our lines in place of pytest's."""
        self.session.pytest_session = session
        self.session.console.quiet()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect nothing: the tests run on the hosts."""
        session.items = []
        session.testscollected = 0
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool:
        """Run the release on the hosts."""
        ours, plan = self.session, self.plan
        make_private(ours.folder, mode=0o750)
        ours.evidence.file = ours.folder / "evidence.jsonl"
        facts = {"project": ours.settings.project, "target": plan.where, "who": who(), "began": time.time(),
                 "time_zone": ours.settings.approval.time_zone, "to": {"tag": plan.tag}}  # fmt: skip
        for key, value in facts.items():
            ours.evidence.fact(key, value)
        line = Who(ours.settings.project, f"{count(len(plan.hosts), 'host')}", "", plan.tag, who())
        ours.console.lines([first_line(line, look_of_terminal())])
        if len(plan.stages) > 1:
            only = "migration, snapshot and one-shot services run only there"
            self._step("", "first", f"{plan.hosts[0]} is staged alone: {only}", 0.0, "not asked")
        for number, batch in enumerate(plan.batches, 1):
            text = f"{', '.join(batch.hosts)}: watched for {duration(batch.watch_s)}"
            self._step("", f"batch {number}", text, 0.0, "not asked")
        if ours.request.plan:
            self._begin()
        else:
            self._release()
        return True

    def _release(self) -> None:
        ours = self.session
        with connections(self.plan.hosts, self.plan.ssh_config) as hosts:
            coordinator = Coordinator(self.request, hosts, ours.folder, self._told)
            begun = time.monotonic()
            try:
                coordinator.preflight()
                with ended_by_signals(coordinator), coordinator.lease():
                    self._begin()
                    text = f"{count(len(hosts), 'host')} answer, with the same cutover.toml and version"
                    self._step("T-15m", "hosts", text, time.monotonic() - begun, "yes")
                    self.end = coordinator.run()
                ours.signals.ignore()  # while the connections are closed
            except Locked as error:
                ours.refused = refused_lines("LOCKED", str(error), error.exit_code, look_of_terminal())
                raise pytest.exit.Exception(str(error), returncode=LOCKED) from error
            except ConfigError as error:
                raise pytest.UsageError(str(error)) from error

    def _begin(self) -> None:
        """Note that the session is not refused any more: it has an end and a report."""
        self.session.begun = True
        point_latest_to(self.session.folder)

    def _step(self, moment: str, name: str, text: str, seconds: float, outcome: str) -> None:
        self.session.console.step(self.session.evidence.step(moment, name, text, seconds, outcome))

    def _told(self, report: HostReport) -> None:
        """Record and print a step of a host, and report the tests of its session."""
        step = report.step
        evidence = _evidence(report.folder)
        checks = evidence.checks if evidence else []
        if evidence and (schema := evidence.facts.get("schema")):
            self.schemas[step.host] = str(schema)
        text = f"{passed_of(checks)}; {step.said}" if checks else step.said
        self._step(MOMENTS[step.phase], f"{step.phase}[{step.host}]", text, step.seconds, str(step.outcome))
        verdict = Verdict(f"{step.phase} {step.host}", step.outcome, step.said)
        self._report(f"hosts::{step.phase}[{step.host}]", step.host, 0, verdict, step.seconds)
        for check in checks:
            target = f"{step.host}-{check.target}" if check.target else step.host
            test = test_on(check, step.host, report.color)
            self._report(test, target, check.stage, check.verdict, check.seconds)
        for sample in evidence.samples if evidence else ():
            line = f"{step.host} {sample.color}".strip()
            self.session.evidence.keep_sample(replace(sample, color=line))

    def _report(self, test: str, target: str, stage: int, verdict: Verdict, seconds: float) -> None:
        """Record a verdict of a host, and report it to pytest as a test."""
        self.session.evidence.check(test, target, stage, verdict, seconds)
        hook, file = self.session.config.hook, test.partition("::")[0]
        location = (file, None, test.partition("::")[2])
        hook.pytest_runtest_logstart(nodeid=test, location=location)
        for report in reports_of(test, location, verdict, seconds):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=test, location=location)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Print no dots, because of our own lines."""
        if self.session.config.get_verbosity() > 0 or not isinstance(report, pytest.TestReport):
            return None
        return (report.outcome if report.when == "call" else "", "", "")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
        """Write the report, with those of the hosts beside it, and print how it ended."""
        ours = self.session
        if not ours.begun:
            ours.leave_out_reports(exitstatus)
            yield
            ours.console.refuse(ours.refused)
            return
        ours.signals.ignore()
        result = self._result()
        session.exitstatus = result.exit_code
        rows = self.end.rows if self.end else ()
        ours.evidence.fact("hosts", [asdict(row) | {"reports": self._reports(row.host)} for row in rows])
        broken: BaseException | None = None
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # whatever another plugin does, this release has an end
            broken = error
        session.exitstatus = result.exit_code
        ours.report(result, lambda: write_report(ours.folder, ours.evidence, result, {}, ReleaseFiles()), {})
        if broken is not None:
            ours.end_broken(broken, result)

    def _reports(self, host: str) -> list[str]:
        """The pages of the host's own reports, relative to ours."""
        pages = (Path(host, phase, "report.html") for phase in (HostPhase.STAGE, HostPhase.SWITCH))
        return [str(page) for page in pages if (self.session.folder / page).is_file()]

    def _result(self) -> SessionResult:
        project, report = self.session.settings.project, str(near(self.session.folder / "report.html"))
        if self.session.request.plan:
            return SessionResult(Status.PLAN, project, OK, report=report)
        if self.end is None:
            told = f"an operator is needed: what {self.plan.where} serve was not asked, because the session broke."
            status = Status.ROLLBACK_FAILED
            return SessionResult(status, project, NEEDS_OPERATOR, sentence=told, report=report)
        end, checks = self.end, self.session.evidence.checks
        stay = [] if end.status.kind == "good" else self.schemas.items()
        schemas = "".join(f" The schema of {host} stays at {schema}." for host, schema in stay)
        return SessionResult(
            end.status,
            project,
            end.exit_code,
            sentence=end.sentence + schemas,
            reasons=tuple(_reason(host, text, checks, self.plan.hosts) for host, text in end.why),
            command=end.command,
            report=report,
            passed=sum(check.verdict.ok for check in checks),
        )


@contextlib.contextmanager
def ended_by_signals(coordinator: Coordinator) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the release in order; an exception could leave a host out of the revert."""

    def end(_number: int, _frame: object) -> None:
        # In a thread of its own, because this one may hold the lock that is needed.
        threading.Thread(target=coordinator.interrupt, daemon=True).start()

    with process.handling_signals(end):
        yield


def _reason(host: str, text: str, checks: Iterable[Check], hosts: Sequence[str]) -> Reason:
    bad = tuple(each.id for each in checks if host and each.bad and host_of(each, hosts) == host)
    return Reason("", f"{host}: {text}" if host else text, bad)


def host_of(check: Check, hosts: Sequence[str]) -> str:
    """Which of *hosts* a check is of: `web-1` and not `web` for the target `web-1-green`; empty for none."""
    named = (each for each in hosts if check.target == each or check.target.startswith(f"{each}-"))
    return max(named, key=len, default="")


def test_on(check: Check, host: str, color: str) -> str:
    """The id of a host's test among those of all hosts: `smoke/test_ready.py::test_ready[web-2-green]`."""
    found = PARAMETERS.search(check.test)
    if found is None:
        return f"{check.test}[{host}{f'-{check.target}' if check.target else ''}]"
    ids = re.sub(r"^idle(?=-|$)", color or "idle", found["ids"])
    return f"{check.test[: found.start()]}[{host}-{ids}]"


test_on.__test__ = False  # type: ignore[attr-defined]  # a name, not a test


def passed_of(checks: Iterable[Check]) -> str:
    """`31 passed`, `30 passed, 1 failed`: the verdicts of a host's session."""
    outcomes = [check.verdict.outcome for check in checks]
    return ", ".join(f"{outcomes.count(each)} {each.counted}" for each in Outcome if each in outcomes)


def reports_of(
    test: str, location: tuple[str, int | None, str], verdict: Verdict, seconds: float
) -> Iterable[pytest.TestReport]:
    """The three reports by which pytest and its plugins know a test."""
    outcomes = {Outcome.YES: "passed", Outcome.NOT_ASKED: "skipped"}
    outcome: Any = outcomes.get(verdict.outcome, "failed")
    text = f"{verdict.question}: {verdict.reason}"
    said: Any = {"skipped": (location[0], 0, f"Skipped: {text}"), "failed": text}.get(outcome)
    now = time.time()
    begun = now - seconds
    yield pytest.TestReport(test, location, {}, "passed", None, "setup", start=begun, stop=begun)
    yield pytest.TestReport(
        test, location, {}, outcome, said, "call", duration=seconds, start=begun, stop=now
    )
    yield pytest.TestReport(test, location, {}, "passed", None, "teardown", start=now, stop=now)


def _evidence(folder: Path | None) -> Evidence | None:
    try:
        return load_evidence(folder / "evidence.jsonl") if folder else None
    except OSError:
        return None
