"""Takes secrets out of what pytest itself prints and writes: tracebacks, skip reasons, captured output."""

from __future__ import annotations

from typing import Any

import pytest

from cutover.core.masking import MASK


def mask(report: pytest.TestReport) -> None:
    """Star out known values in *report*, before terminal, JUnit and HTML read it."""
    if report.longrepr is not None:
        report.longrepr = _masked(report.longrepr)
    report.sections = [(name, MASK(text)) for name, text in report.sections]


def _masked(longrepr: Any) -> Any:
    """A traceback without a secret stays what it is, with its colors; one with a secret becomes masked text."""
    if isinstance(longrepr, tuple):
        path, line, reason = longrepr
        return path, line, MASK(str(reason))
    text = str(longrepr)
    masked = MASK(text)
    return longrepr if masked == text else masked
