"""The requests that a team lists in `cutover.toml`, each answered as it says there, and in time."""

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import Endpoint
from cutover.gate.http_checks import Sampling, latency
from cutover.gate.http_checks import endpoint as answered
from cutover.probes import Expect
from cutover.system.http import HttpClient
from cutover.target import Control

pytestmark = pytest.mark.asks("endpoints")


def test_endpoint(
    cutover_http: HttpClient, control: Control, settings: Settings, endpoint: Endpoint, expect: Expect
) -> None:
    """The endpoint is answered with the right status, JSON and headers, and time after time in time."""
    expect(answered(cutover_http, control, endpoint))
    if endpoint.method == "GET":  # what writes is sent once, and undone
        expect(
            latency(
                cutover_http, control, endpoint.path, Sampling(endpoint.max_latency, settings.gate.samples)
            )
        )
