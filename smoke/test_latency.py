"""Answers come in time, by several samples after a warm-up; those of `[[endpoints]]` are asked with them."""

import pytest

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict
from cutover.gate.http_checks import latency, slower_than_other
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
    path, gate = cutover_config.ready.path, cutover_config.gate
    verdict = latency(cutover_http, control_probe, path, gate.max_latency, gate.samples)
    assert_verdict(slower_than_other(verdict, other_http, path, gate.max_latency, gate.samples))
