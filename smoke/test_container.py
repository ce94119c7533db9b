"""The runbook's third line: the container is healthy. It is also the right one."""

import pytest

from cutover.core.config import Settings
from cutover.core.verdict import AssertVerdict
from cutover.gate.container_checks import ExpectedIdentity, health, identity
from cutover.system.container import Container

pytestmark = pytest.mark.requires("container")


def test_identity(
    container: Container, expected_identity: ExpectedIdentity, assert_verdict: AssertVerdict
) -> None:
    """Image, container, configuration and the owner of the port are those of the release."""
    assert_verdict(identity(container.id, expected_identity))


def test_health(container: Container, cutover_config: Settings, assert_verdict: AssertVerdict) -> None:
    """The container's own HEALTHCHECK finds it healthy, since its start."""
    assert_verdict(health(container.id, cutover_config.gate.start_timeout))
