"""The required tests: what each needs to be asked, which stage it belongs to, what it said."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cutover import scene
from cutover.core.config import Settings
from cutover.core.masking import MASK
from cutover.core.result import outcome_of_test
from cutover.core.verdict import Outcome

GATE, THROUGH_PROXY, WATCH = 0, 1, 2


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
    reported: str = ""
    """The first reason of a verdict that `[checks] report_only` keeps from deciding."""
    told: set[Outcome] = field(default_factory=set)
    """The outcomes of the verdicts that `expect` was given."""

    @property
    def outcome(self) -> Outcome | None:
        """None: it never ran."""
        if not self.phases:
            return None
        return outcome_of_test(self.phases, self.unknown)

    def learn(self, report: pytest.TestReport) -> None:
        """Take in one phase; run again, it does not become better than it was."""
        self.seconds += report.duration
        if self.phases.get(report.when, "passed") == "passed":
            self.phases[report.when] = "xfailed" if hasattr(report, "wasxfail") else report.outcome


def param(item: pytest.Item) -> Asked | None:
    """The target that an item was parametrized with."""
    spec = getattr(item, "callspec", None)
    found = spec.params.get("target") if spec is not None else None
    return found if isinstance(found, Asked) else None


def stage_of(item: pytest.Item) -> int:
    """0 gate, 1 gate through the proxy, 2 watch."""
    if "watch_result" in getattr(item, "fixturenames", ()):
        return WATCH
    asked = param(item)
    return THROUGH_PROXY if asked is not None and asked.after_switch else GATE


def why_not(item: pytest.Item, settings: Settings | None) -> str:
    """Why this test cannot be asked at all, empty if it can."""
    needs = {need for mark in item.iter_markers("requires") for need in mark.args}
    asked = param(item)
    plain = asked is not None and scene.is_url(asked.name)
    if plain and needs & {"container", "proxy", "dependencies", "database", "color"}:
        name = asked.name if asked else "this"
        return f"{name} is a plain URL, so its container and its surroundings cannot be seen"
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


def first_line(error: BaseException) -> str:
    """What went wrong, masked, on one line."""
    text = str(error).strip() or type(error).__name__
    return MASK(text.splitlines()[0])


def is_unknown(error: BaseException) -> bool:
    """Whether a failure says nothing about the service: no assertion, or the test's own time-out."""
    if isinstance(error, pytest.fail.Exception):
        return str(error).startswith("Timeout (>")
    return not isinstance(error, AssertionError)
