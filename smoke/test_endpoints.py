"""The requests that a team lists in `cutover.toml`, each answered as it says there, and in time."""

import httpx
import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import Endpoint
from cutover.probes import Expect
from cutover.probes.endpoints import endpoint as answered
from cutover.probes.latency import Sampling, latency
from cutover.target import Control

pytestmark = pytest.mark.asks("endpoints")


def test_endpoint(
    http: httpx.Client, control: Control, settings: Settings, endpoint: Endpoint, expect: Expect
) -> None:
    """The endpoint is answered with the right status, JSON and headers, and time after time in time."""
    expect(answered(http, control, endpoint))
    if endpoint.method == "GET":  # what writes is sent once, and undone
        expect(latency(http, control, endpoint.path, Sampling(endpoint.max_latency, settings.gate.samples)))
