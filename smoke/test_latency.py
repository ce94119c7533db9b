"""Answers come in time, by several samples after a warm-up; those of `[[endpoints]]` are asked with them."""

import pytest

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict
from cutover.gate.http_checks import latency, sampled_ready, slower_than_other
from cutover.system.http import HttpClient


@pytest.mark.asks("latency")
def test_latency(
    cutover_http: HttpClient,
    other_http: HttpClient | None,
    control_probe: ControlProbe,
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """The target answers whether it is ready within `[gate] max_latency`, unless the other color is too slow too."""
    asked, gate = sampled_ready(cutover_config.ready), cutover_config.gate
    verdict = latency(cutover_http, control_probe, asked, gate.max_latency, gate.samples)
    assert_verdict(slower_than_other(verdict, other_http, asked, gate.max_latency, gate.samples))
