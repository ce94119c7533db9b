"""The runbook's second line: `/version` names the expected service and release."""

import pytest

from cutover.core.config import Settings
from cutover.gate.http_checks import version
from cutover.probes import Expect
from cutover.system.http import HttpClient
from cutover.target import Control


@pytest.mark.asks("version")
def test_version(
    cutover_http: HttpClient, control: Control, settings: Settings, expected_tag: str | None, expect: Expect
) -> None:
    """The target is the service and the release that it should be."""
    assert settings.version is not None
    expect(version(cutover_http, control, settings.version, expected_tag))
