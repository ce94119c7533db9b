"""Disk room and days left of the certificate: both colors share them."""

import pytest

from cutover.core.config import Settings
from cutover.gate.environment_checks import disk, tls
from cutover.plugin.session import Run
from cutover.probes import Expect
from cutover.watch.check import report_shared

pytestmark = [pytest.mark.asks("colour"), pytest.mark.usefixtures("watch")]


@pytest.mark.asks("container")
def test_disk(settings: Settings, cutover_run: Run, expect: Expect) -> None:
    """There is room for images, logs, state and reports; only reported during a release."""
    expect(report_shared(disk(settings), releasing=cutover_run.wish.armed))


@pytest.mark.asks("tls")
def test_certificate(settings: Settings, cutover_run: Run, expect: Expect) -> None:
    """The proxy's certificate is trusted and does not expire soon; only reported during a release."""
    expect(report_shared([tls(settings)], releasing=cutover_run.wish.armed))
