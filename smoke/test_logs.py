"""The runbook's fourth line: no error spike in the log, against the time before."""

from collections.abc import Mapping

import pytest

from cutover.core.config import Settings
from cutover.core.verdict import AssertVerdict
from cutover.gate.log_checks import LogWindow, log_errors
from cutover.system.container import Container

pytestmark = [pytest.mark.requires("container"), pytest.mark.asks("logs")]


def test_no_error_spike(
    container: Container,
    sibling_containers: tuple[Container, ...],
    log_baselines: Mapping[str, LogWindow],
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """The release does not log more errors than the one before it, and no crashes of a new kind."""
    assert_verdict(
        [
            log_errors(container, log_baselines.get(container.service), cutover_config.logs),
            *(
                log_errors(each, log_baselines.get(each.service), cutover_config.logs).of(each.name)
                for each in sibling_containers
            ),
        ]
    )
