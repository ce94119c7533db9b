"""The runbook's second line: `/version` names the expected service and release."""

import pytest

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict
from cutover.gate.http_checks import version
from cutover.system.http import HttpClient


@pytest.mark.requires("version")
@pytest.mark.asks("version")
def test_version(
    cutover_http: HttpClient,
    control_probe: ControlProbe,
    cutover_config: Settings,
    expected_tag: str | None,
    assert_verdict: AssertVerdict,
) -> None:
    """The target is the service and the release that it should be."""
    assert cutover_config.version is not None
    assert_verdict(version(cutover_http, control_probe, cutover_config.version, expected_tag))
