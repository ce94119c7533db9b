"""Asked last: whether the container that was healthy at the beginning of the gate is the one that still runs."""

import pytest

from cutover.core.verdict import AssertVerdict
from cutover.gate.container_checks import access_to, restarts, unchanged
from cutover.system.container import Container

pytestmark = [pytest.mark.requires("container"), pytest.mark.asks("restarts", "unchanged")]


def test_no_restart(
    container: Container, sibling_containers: tuple[Container, ...], assert_verdict: AssertVerdict
) -> None:
    """Nothing has had to start any container of the release again, not lately and not during the gate."""
    every = (container, *sibling_containers)
    assert_verdict(
        {
            "restarts": lambda: [restarts(each.id, access_to(each)) for each in every],
            "unchanged": lambda: [unchanged(each) for each in every],
        }
    )
