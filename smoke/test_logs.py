"""The runbook's fourth line: no error spike in the log, against the time before."""

from collections.abc import Mapping

import pytest

from cutover.container import Container
from cutover.probes import Expect
from cutover.probes.logs import Baseline, logs
from cutover.settings import Settings

pytestmark = pytest.mark.asks("container")


def test_no_error_spike(
    seen: Container,
    beside: tuple[Container, ...],
    baselines: Mapping[str, Baseline],
    settings: Settings,
    expect: Expect,
) -> None:
    """The release does not log more errors than the one before it, and no crashes of a new kind."""
    expect(
        [
            logs(seen, baselines.get(seen.service), settings.logs),
            *(logs(each, baselines.get(each.service), settings.logs).of(each.name) for each in beside),
        ]
    )
