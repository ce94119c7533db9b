"""The runbook's fourth line: no error spike in the log, against the time before."""

import pytest

from cutover.engine import Container
from cutover.probes import Expect
from cutover.probes.logs import Baseline, logs
from cutover.settings import Settings

pytestmark = pytest.mark.asks("container")


def test_no_error_spike(
    seen: Container, baseline: Baseline | None, settings: Settings, expect: Expect
) -> None:
    """The service does not log more errors than the release before it, and no crashes of a new kind."""
    expect(logs(seen, baseline, settings.logs))
