"""What forbids a release before anything is changed."""

from __future__ import annotations

import socket

import pytest

from cutover.core.errors import ConfigError
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.preflight import can_bind, fit

GOOD = [yes("disk", "half is free"), not_asked("tls", "no https"), yes("alerts", "2 rules loaded")]


def test_says_what_is_around_the_release() -> None:
    """One line of all that was asked."""
    assert fit(GOOD, ()) == "disk: half is free; alerts: 2 rules loaded"


@pytest.mark.parametrize(
    "bad",
    [
        no("tls", "expected at least 14 days left, got 13 days left"),
        unknown("tls", "no certificate is shown"),
    ],
)
def test_refuses_what_the_watch_would_revert_for(bad: Verdict) -> None:
    """What no release can help is told before it begins, and not after the switch; what only reports never decides."""
    with pytest.raises(ConfigError) as raised:
        fit([*GOOD, bad], ())
    assert f"tls: {bad.reason}" in str(raised.value)
    assert 'report_only = ["tls"]' in str(raised.value)
    assert f"tls: {bad.reason}" in fit([*GOOD, bad], ("disk", "tls"))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", ""])
def test_a_port_that_somebody_listens_on_is_taken(address: str) -> None:
    """On the address itself, or on all of them."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert not can_bind(port, address)
    assert can_bind(port, address)


def test_what_we_may_not_bind_is_not_taken() -> None:
    """An address of another host, or a port for root only, is the engine's business."""
    assert can_bind(8123, "192.0.2.1")
