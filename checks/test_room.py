"""Disk room and days left of the certificate: both colors share them."""

import pytest

from cutover.core.config import Settings
from cutover.core.verdict import AssertVerdict
from cutover.gate.environment_checks import disk, tls
from cutover.plugin.session import CutoverSession
from cutover.watch.check import report_shared

pytestmark = [pytest.mark.requires("color"), pytest.mark.usefixtures("watch_result")]


@pytest.mark.requires("container")
@pytest.mark.asks("disk")
def test_disk(
    cutover_config: Settings, cutover_session: CutoverSession, assert_verdict: AssertVerdict
) -> None:
    """There is room for images, logs, state and reports; only reported during a release."""
    assert_verdict(report_shared(disk(cutover_config), releasing=cutover_session.request.changes_something))


@pytest.mark.requires("tls")
@pytest.mark.asks("tls")
def test_certificate(
    cutover_config: Settings, cutover_session: CutoverSession, assert_verdict: AssertVerdict
) -> None:
    """The proxy's certificate is trusted and does not expire soon; only reported during a release."""
    assert_verdict(report_shared([tls(cutover_config)], releasing=cutover_session.request.changes_something))
