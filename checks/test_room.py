"""What no release should run out of: disk, and days of the certificate."""

import pytest

from cutover.probes import Expect
from cutover.probes.disk import disk
from cutover.probes.tls import tls
from cutover.settings import Settings

pytestmark = [pytest.mark.asks("colour"), pytest.mark.usefixtures("watch")]


@pytest.mark.asks("container")
def test_disk(settings: Settings, expect: Expect) -> None:
    """There is room for images, logs, state and reports."""
    expect(disk(settings))


@pytest.mark.asks("tls")
def test_certificate(settings: Settings, expect: Expect) -> None:
    """The proxy's certificate is trusted and does not expire soon."""
    expect(tls(settings))
