"""What no release should run out of: disk, and days of the certificate. Both colours share them."""

import pytest

from cutover.core.config import Settings
from cutover.plugin.session import Run
from cutover.probes import Expect
from cutover.probes.disk import disk
from cutover.probes.excused import shared
from cutover.probes.tls import tls

pytestmark = [pytest.mark.asks("colour"), pytest.mark.usefixtures("watch")]


@pytest.mark.asks("container")
def test_disk(settings: Settings, cutover_run: Run, expect: Expect) -> None:
    """There is room for images, logs, state and reports; a release is told, not taken back."""
    expect(shared(disk(settings), releasing=cutover_run.wish.armed))


@pytest.mark.asks("tls")
def test_certificate(settings: Settings, cutover_run: Run, expect: Expect) -> None:
    """The proxy's certificate is trusted and does not expire soon; a release is told, not taken back."""
    expect(shared([tls(settings)], releasing=cutover_run.wish.armed))
