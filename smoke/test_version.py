"""The runbook's second line: `/version` names the expected service and release."""

import httpx
import pytest

from cutover.core.config import Settings
from cutover.probes import Expect
from cutover.probes.version import version
from cutover.target import Control


@pytest.mark.asks("version")
def test_version(
    http: httpx.Client, control: Control, settings: Settings, expected_tag: str | None, expect: Expect
) -> None:
    """The target is the service and the release that it should be."""
    assert settings.version is not None
    expect(version(http, control, settings.version, expected_tag))
