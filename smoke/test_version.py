"""The runbook's second line: `/version` names the expected service and release."""

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import Version
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
    wanted = (
        cutover_config.version or Version()
    )  # of a plain URL, also beside a cutover.toml without [version]
    assert_verdict(version(cutover_http, control_probe, wanted, expected_tag))
