"""The checklist of a session: the required tests, what each needs, which stage it belongs to, its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import OFF, Endpoint
from cutover.core.masking import printable
from cutover.core.result import Outcomes, Required, outcome_of_test
from cutover.core.target import ReleaseRequest, is_url
from cutover.core.verdict import Outcome

GATE, THROUGH_PROXY, WATCH = 0, 1, 2
PACKAGE = Path(__file__).parents[1]
SHIPPED_SMOKE = (PACKAGE / "smoke", PACKAGE.parent / "smoke")
"""Where the shipped checklist lies: in the installed package, or beside it in a checkout."""
UNSEEN_FOR_URLS = {"compare", "container", "proxy", "dependencies", "database", "color"}


class NotAnswered(Exception):
    """A check without an answer: neither a pass nor a failure of the service."""


@dataclass(frozen=True, slots=True)
class TargetParam:
    """A target as tests are parametrized with it."""

    name: str
    after_switch: bool = False


@dataclass(slots=True)
class ChecklistRow:
    """What is known of one required test."""

    stage: int
    phases: dict[str, str] = field(default_factory=dict)
    unknown: bool = False
    not_asked: str = ""
    said: str = ""
    """The first line of what went wrong."""
    seconds: float = 0.0
    reported: str = ""
    """The first reason of a verdict that `[checks] report_only` keeps from deciding."""
    recorded: set[Outcome] = field(default_factory=set)
    """The outcomes of the verdicts that `assert_verdict` recorded."""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the test, None if it never ran; never better than a verdict that it recorded."""
        if not self.phases:
            return None
        found = outcome_of_test(self.phases, self.unknown)
        if Outcome.NO in self.recorded:  # whatever a fixture or a plugin did with the failure
            return Outcome.NO
        return Outcome.UNKNOWN if found is Outcome.YES and Outcome.UNKNOWN in self.recorded else found

    def note_error(self, error: BaseException) -> None:
        """Note how the test failed; the first error counts."""
        # A failure says nothing about the service if it is no assertion, or the timeout of the test itself.
        if isinstance(error, pytest.fail.Exception):
            unknown = str(error).startswith("Timeout (>")
        else:
            unknown = not isinstance(error, AssertionError)
        self.unknown = self.unknown or unknown
        self.said = self.said or printable((str(error).strip() or type(error).__name__).splitlines()[0])

    def learn(self, report: pytest.TestReport) -> None:
        """Add a phase of the test; a repeated phase does not improve its outcome."""
        self.seconds += report.duration
        if hasattr(report, "wasxfail"):
            why = report.wasxfail or "no reason"
            self.said = self.said or f"marked xfail ({why}): the mark decides, not the service"
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.said = self.said or f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
        if self.phases.get(report.when, "passed") == "passed":
            self.phases[report.when] = "xfailed" if hasattr(report, "wasxfail") else report.outcome


def param_of(item: pytest.Item) -> TargetParam | None:
    """The target that a test is parametrized with."""
    spec = getattr(item, "callspec", None)
    found = spec.params.get("target") if spec is not None else None
    return found if isinstance(found, TargetParam) else None


def stage_of(item: pytest.Item) -> int:
    """0 gate, 1 gate through the proxy, 2 watch."""
    if "watch_result" in getattr(item, "fixturenames", ()):
        return WATCH
    param = param_of(item)
    return THROUGH_PROXY if param is not None and param.after_switch else GATE


def why_not_asked(item: pytest.Item, settings: Settings) -> str:
    """Why a test cannot be asked or is off, empty if it can."""
    asks = _asks(item)
    if asks and asks <= {*settings.checks.off}:
        return OFF
    needs = {need for mark in item.iter_markers("requires") for need in mark.args}
    if "endpoint" in getattr(item, "fixturenames", ()):
        needs.add("endpoints")
    param, proxy = param_of(item), settings.proxy
    plain = param is not None and is_url(param.name)
    if param is not None and plain and needs & UNSEEN_FOR_URLS:
        return f"{param.name} is a plain URL, so its container and its surroundings cannot be seen"
    have = {
        "version": plain or settings.version,
        "endpoints": settings.endpoints,
        "proxy": proxy,
        "dependencies": settings.dependencies,
        "alerts": settings.alerts,
        "tls": proxy and proxy.url.startswith("https://"),
        "database": settings.database,
        "compare": settings.compare,
    }
    lacking = sorted(need for need in needs if not have.get(need, True))
    instead = ": the ID of the image identifies the release" if lacking == ["version"] else ""
    return f"cutover.toml has no {lacking[0]}{instead}" if lacking else ""


def _asks(item: pytest.Item) -> set[str]:
    """The checks that a test says it asks, and that of its endpoint."""
    names = {name for mark in item.iter_markers("asks") for name in mark.args}
    spec = getattr(item, "callspec", None)
    endpoint = spec.params.get("endpoint") if spec is not None else None
    if isinstance(endpoint, Endpoint):
        names |= {endpoint.label} | ({"latency"} if endpoint.method == "GET" else set())
    return names


@dataclass(slots=True)
class Checklist:
    """The tests of a session by their node id."""

    rows: dict[str, ChecklistRow] = field(default_factory=dict)
    unasked: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the tests that cannot be asked for it."""
    whole: bool = True
    """Whether no test was deselected, so that a pass proves the release."""

    def take(self, item: pytest.Item, settings: Settings) -> bool:
        """Require *item*; False for a test that cannot be asked here, which is noted with the reason."""
        why = why_not_asked(item, settings)
        if why:
            self.unasked.setdefault(why, []).append(item.nodeid)
        else:
            self.rows[item.nodeid] = ChecklistRow(stage_of(item))
        return not why

    def leave_out(self, nodeid: str, why: str) -> None:
        """Do not require *nodeid* any more: it is listed as not asked, with the reason *why*."""
        self.rows[nodeid].not_asked = why
        self.unasked.setdefault(why, []).append(nodeid)

    @property
    def required(self) -> list[Required]:
        """The required tests with their outcomes."""
        asked = {name: row for name, row in self.rows.items() if not row.not_asked}
        return [Required(name, row.stage, row.outcome) for name, row in asked.items()]

    def not_passed(self, before: int) -> list[str]:
        """The tests of earlier stages that did not pass."""
        early = (each for each in self.required if each.stage < before)
        return [each.test for each in early if each.outcome is not Outcome.YES]

    def answered(self, stage: int) -> list[ChecklistRow]:
        """The tests of *stage* that have an outcome."""
        asked = (row for row in self.rows.values() if row.stage == stage and not row.not_asked)
        return [row for row in asked if row.outcome is not None]

    def outcomes(self, request: ReleaseRequest, pytest_exit: int, trouble: Outcome | None) -> Outcomes:
        """The outcomes by which the release is decided."""
        required = self.required
        stages = {GATE} | ({THROUGH_PROXY, WATCH} if request.switch else set())
        if not request.changes_something:
            stages = {each.stage for each in required} or {GATE}
        return Outcomes(required, pytest_exit, frozenset(stages), trouble)
