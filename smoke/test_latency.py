"""Answers come in time, by several samples after a warm-up; those of `[[endpoints]]` are asked with them."""

import httpx

from cutover.core.config import Settings
from cutover.probes import Expect
from cutover.probes.latency import Sampling, latency
from cutover.target import Control


def test_latency(http: httpx.Client, control: Control, settings: Settings, expect: Expect) -> None:
    """The target answers the question whether it is ready within `[gate] latency`."""
    expect(
        latency(http, control, settings.ready.path, Sampling(settings.gate.latency, settings.gate.samples))
    )
