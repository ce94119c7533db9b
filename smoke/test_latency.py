"""Answers come in time, by several samples after a warm-up; those of `[[endpoints]]` are asked with them."""

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict
from cutover.gate.http_checks import latency
from cutover.system.http import HttpClient


def test_latency(
    cutover_http: HttpClient,
    control_probe: ControlProbe,
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """The target answers the question whether it is ready within `[gate] max_latency`."""
    path, gate = cutover_config.ready.path, cutover_config.gate
    assert_verdict(latency(cutover_http, control_probe, path, gate.max_latency, gate.samples))
