"""The runbook's first line: `/readyz` answers 200 with `{"ready": true}`."""

import httpx

from cutover.core.config import Settings
from cutover.probes import Expect
from cutover.probes.ready import ready
from cutover.target import Control


def test_ready(http: httpx.Client, control: Control, settings: Settings, expect: Expect) -> None:
    """The target says that it is ready to take traffic."""
    expect(ready(http, control, settings.ready))
