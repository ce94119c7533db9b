"""The requests that a team lists in `cutover.toml`, each answered as it says there, and in time."""

from collections.abc import Callable

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import Endpoint
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict, Verdict
from cutover.gate.http_checks import endpoint as answered
from cutover.gate.http_checks import latency, sampled_path, slower_than_other
from cutover.system.http import HttpClient

pytestmark = pytest.mark.requires("endpoints")


def test_endpoint(
    cutover_http: HttpClient,
    other_http: HttpClient | None,
    control_probe: ControlProbe,
    cutover_config: Settings,
    endpoint: Endpoint,
    assert_verdict: AssertVerdict,
) -> None:
    """The endpoint is answered with the right status, JSON and headers, and time after time in time."""
    limit_s, samples, path = endpoint.max_latency, cutover_config.gate.samples, sampled_path(endpoint.path)

    def in_time() -> Verdict:
        verdict = latency(cutover_http, control_probe, path, limit_s, samples)
        return slower_than_other(verdict, other_http, path, limit_s, samples)

    asks: dict[str, Callable[[], Verdict]] = {
        endpoint.label: lambda: answered(cutover_http, control_probe, endpoint)
    }
    if endpoint.method == "GET":  # what writes is sent once, and undone
        asks["latency"] = in_time
    assert_verdict(asks)
