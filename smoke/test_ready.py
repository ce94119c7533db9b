"""The runbook's first line: `/readyz` answers 200 with `{"ready": true}`."""

import pytest

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict
from cutover.gate.http_checks import ready
from cutover.system.http import HttpClient


@pytest.mark.asks("ready")
def test_ready(
    cutover_http: HttpClient,
    control_probe: ControlProbe,
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """The target says that it is ready to take traffic."""
    assert_verdict(ready(cutover_http, control_probe, cutover_config.ready))
