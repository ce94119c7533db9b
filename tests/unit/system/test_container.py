from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.inspected import STARTED, at, container, health, probe

FAILED = [probe(seconds, code=1) for seconds in (20, 25, 30, 35, 40)]
RETRIES_TWO = {"Test": ["CMD", "curl"], "Retries": 2}


@pytest.mark.parametrize(
    ("made", "since"),
    [
        ({}, STARTED),
        ({"health": health("healthy", probe(5))}, STARTED),
        ({"health": health("unhealthy", probe(15), *FAILED[:3], streak=3)}, at(30)),
        ({"health": health("unhealthy", *FAILED, streak=5)}, at(30)),
        ({"health": health("unhealthy", *FAILED, streak=6), "check": RETRIES_TWO}, at(20)),
        ({"health": health("unhealthy", *FAILED, streak=90)}, at(20)),  # the first probe that is still known
        ({"health": health("unhealthy")}, STARTED),
        ({"status": "exited", "finished": at(50), "health": health("unhealthy", *FAILED, streak=5)}, at(50)),
        ({"status": "created"}, STARTED),
    ],
)
def test_a_state_begins_when_it_was_reached(made: dict[str, Any], since: str) -> None:
    """Unhealthy since the probe that made it so, exited since its end, all else since the start."""
    assert container(**made).state_since == since


@pytest.mark.parametrize("status", ["", "none"])
def test_without_a_healthcheck_there_is_no_health(status: str) -> None:
    """Podman describes the health of a container without a HEALTHCHECK too, without a status."""
    found = container(health=health(status), check={})
    assert (found.health, found.health_status, found.asks_health) == (None, "none", False)
