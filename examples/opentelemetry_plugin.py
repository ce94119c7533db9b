"""A pytest plugin that follows a release by its hooks: one OpenTelemetry trace, a span for each stage and verdict.

    cutover release sha-2 -p examples.opentelemetry_plugin

It uses the tracer provider of the process, as `opentelemetry-instrument` or a `conftest.py` sets it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes

from cutover.core.evidence import Check, Step
from cutover.core.result import SessionResult

NANOSECONDS = 1_000_000_000


def pytest_configure(config: pytest.Config) -> None:
    """Follow the session, if it has a target."""
    if config.option.target:
        config.pluginmanager.register(ReleaseSpans(trace.get_tracer("cutover")), "cutover-opentelemetry")


@dataclass(eq=False)
class ReleaseSpans:
    """The spans of one session: `release`, and below it one for each stage and each verdict."""

    tracer: Tracer
    release: Span | None = None

    def pytest_cutover_stage(self, step: Step) -> None:
        """Make the span of a step."""
        attributes = {"cutover.moment": step.moment, "cutover.text": step.text}
        self._span(step.name, step, step.outcome, step.text, attributes)

    def pytest_cutover_verdict(self, check: Check) -> None:
        """Make the span of a verdict."""
        verdict = check.verdict
        attributes = {
            "cutover.test": check.test,
            "cutover.target": check.target,
            "cutover.reason": verdict.reason,
        }
        self._span(verdict.question, check, str(verdict.outcome), verdict.reason, attributes)

    def _span(self, name: str, row: Step | Check, outcome: str, text: str, more: dict[str, str]) -> None:
        begun, ended = int((row.at - row.seconds) * NANOSECONDS), int(row.at * NANOSECONDS)
        if self.release is None:
            self.release = self.tracer.start_span("release", start_time=begun)
        attributes: Attributes = {"cutover.outcome": outcome, **more}
        parent = trace.set_span_in_context(self.release)
        span = self.tracer.start_span(name, parent, attributes=attributes, start_time=begun)
        if outcome in {"no", "unknown"}:
            span.set_status(Status(StatusCode.ERROR, text))
        span.end(ended)

    def pytest_cutover_end(self, result: SessionResult) -> None:
        """End the trace, and send it before the process ends."""
        if self.release is None:
            return
        self.release.set_attributes({
            "cutover.project": result.project,
            "cutover.status": str(result.status),
            "cutover.exit_code": result.exit_code,
        })  # fmt: skip
        if result.exit_code:
            self.release.set_status(Status(StatusCode.ERROR, str(result.status)))
        self.release.end()
        provider = trace.get_tracer_provider()
        if isinstance(provider, TracerProvider):
            provider.force_flush()
