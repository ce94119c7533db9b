"""What can be seen inside the container, without writing anything."""

import pytest

from cutover.container import Container
from cutover.probes import Expect
from cutover.probes.inside import Host, Inside, inner_port, judge_listens, judge_read_only, judge_user, look
from cutover.settings import Settings
from cutover.target import Target

pytestmark = pytest.mark.asks("container")


@pytest.fixture(scope="module")
def inside(container: Host, settings: Settings) -> Inside:
    """What one look inside saw."""
    return look(container, settings.gate.read_only)


def test_listens(inside: Inside, seen: Container, target: Target, settings: Settings, expect: Expect) -> None:
    """The service listens on its published port, or on `[gate] listens`, where the outside reaches it."""
    expect(judge_listens(inside, settings.gate.listens or inner_port(seen.ports, target.port)))


def test_user(inside: Inside, settings: Settings, expect: Expect) -> None:
    """Each process of the service runs as its own user, never as root."""
    expect(judge_user(inside, settings.gate.runs_as))


def test_read_only(inside: Inside, expect: Expect) -> None:
    """The service cannot write where it has no business."""
    expect(judge_read_only(inside))
