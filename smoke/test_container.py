"""The runbook's third line: the container is healthy. It is also the right one."""

from functools import partial

import pytest

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import AssertVerdict
from cutover.gate.container_checks import ExpectedIdentity, health, identity
from cutover.gate.http_checks import ready
from cutover.system.container import Container
from cutover.system.http import HttpClient

pytestmark = pytest.mark.requires("container")


@pytest.mark.asks("identity")
def test_identity(
    container: Container, expected_identity: ExpectedIdentity, assert_verdict: AssertVerdict
) -> None:
    """Image, container, configuration and the owner of the port are those of the release."""
    assert_verdict(identity(container.id, expected_identity))


@pytest.mark.asks("health")
def test_health(
    container: Container,
    cutover_http: HttpClient,
    control_probe: ControlProbe,
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """The container's own HEALTHCHECK finds it healthy, since its start; without one `[ready]` takes its place."""
    wanted, budget_s = cutover_config.ready, cutover_config.gate.start_timeout
    ask = partial(ready, cutover_http, control_probe, wanted)
    assert_verdict(health(container.id, budget_s, ask=ask, what=wanted.asked))
