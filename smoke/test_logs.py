"""The runbook's fourth line: no error spike in the log, against the time before."""

from collections.abc import Mapping

import pytest

from cutover.core.config import Settings
from cutover.gate.log_checks import LogBaseline, log_errors
from cutover.probes import Expect
from cutover.system.container import Container

pytestmark = pytest.mark.asks("container")


def test_no_error_spike(
    seen: Container,
    beside: tuple[Container, ...],
    baselines: Mapping[str, LogBaseline],
    settings: Settings,
    expect: Expect,
) -> None:
    """The release does not log more errors than the one before it, and no crashes of a new kind."""
    expect(
        [
            log_errors(seen, baselines.get(seen.service), settings.logs),
            *(log_errors(each, baselines.get(each.service), settings.logs).of(each.name) for each in beside),
        ]
    )
