"""Answers come in time, by several samples after a warm-up; those of `[[endpoints]]` are asked with them."""

from cutover.core.config import Settings
from cutover.gate.http_checks import Sampling, latency
from cutover.probes import Expect
from cutover.system.http import HttpClient
from cutover.target import Control


def test_latency(cutover_http: HttpClient, control: Control, settings: Settings, expect: Expect) -> None:
    """The target answers the question whether it is ready within `[gate] latency`."""
    expect(
        latency(
            cutover_http, control, settings.ready.path, Sampling(settings.gate.latency, settings.gate.samples)
        )
    )
