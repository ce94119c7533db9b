"""The runbook's first line: `/readyz` answers 200 with `{"ready": true}`."""

from cutover.core.config import Settings
from cutover.gate.http_checks import ready
from cutover.probes import Expect
from cutover.system.http import HttpClient
from cutover.target import Control


def test_ready(cutover_http: HttpClient, control: Control, settings: Settings, expect: Expect) -> None:
    """The target says that it is ready to take traffic."""
    expect(ready(cutover_http, control, settings.ready))
