"""The runbook's third line: the container is healthy. It is also the right one."""

import pytest

from cutover.core.config import Settings
from cutover.gate.container_checks import ExpectedIdentity, health, identity
from cutover.probes import Expect
from cutover.system.container import Container

pytestmark = pytest.mark.asks("container")


def test_identity(seen: Container, expected: ExpectedIdentity, expect: Expect) -> None:
    """Image, container, configuration and the owner of the port are those of the release."""
    expect(identity(seen.id, expected))


def test_health(seen: Container, settings: Settings, expect: Expect) -> None:
    """The container's own HEALTHCHECK finds it healthy, since its start."""
    expect(health(seen.id, settings.gate.up_budget))
