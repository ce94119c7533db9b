"""Asked last: whether the container that was healthy at the beginning of the gate is the one that still runs."""

import pytest

from cutover.engine import Container
from cutover.probes import Expect
from cutover.probes.restarts import restarts, unchanged

pytestmark = pytest.mark.asks("container")


def test_no_restart(seen: Container, expect: Expect) -> None:
    """Nothing has had to start the container again, not lately and not during the gate."""
    expect([restarts(seen.id), unchanged(seen)])
