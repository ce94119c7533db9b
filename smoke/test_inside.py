"""What can be seen inside the container, without writing anything."""

import pytest

from cutover.core.config import Settings
from cutover.gate.inside_checks import (
    ContainerHost,
    InsideView,
    judge_listens,
    judge_read_only,
    judge_user,
    look_inside,
    port_inside,
)
from cutover.probes import Expect
from cutover.system.container import Container
from cutover.target import Target

pytestmark = pytest.mark.asks("container")


@pytest.fixture(scope="module")
def inside(container: ContainerHost, settings: Settings) -> InsideView:
    """What one look inside saw."""
    return look_inside(container, settings.gate.read_only)


def test_listens(
    inside: InsideView, seen: Container, target: Target, settings: Settings, expect: Expect
) -> None:
    """The service listens on its published port, or on `[gate] listens`, where the outside reaches it."""
    expect(judge_listens(inside, settings.gate.listens or port_inside(seen.ports, target.port)))


def test_user(inside: InsideView, settings: Settings, expect: Expect) -> None:
    """Each process of the service runs as its own user, never as root."""
    expect(judge_user(inside, settings.gate.runs_as))


def test_read_only(inside: InsideView, expect: Expect) -> None:
    """The service cannot write where it has no business."""
    expect(judge_read_only(inside))
