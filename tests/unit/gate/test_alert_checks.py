"""Alertmanager's configuration as it may be written; which receivers an alert reaches is in a table of its own."""

from __future__ import annotations

import pytest

from cutover.gate.environment_checks import alert_receivers


@pytest.mark.parametrize(
    ("configuration", "reached"),
    [
        ("route: {receiver: a, routes: [{receiver: b, matchers: ['x=\"1\"']}]}", {"b"}),
        ("route:\n  receiver: a\n  routes:\n  - receiver: b\n    match: {x: 1}\n", {"b"}),
        ("route:\n  receiver: a\n  routes:\n  - receiver: b\n    match: {x: '2'}\n", {"a"}),
        ("route:\n  receiver: a\n  routes: null\n  match: null\n", {"a"}),
        ("route:\n  receiver: a\n  routes: []\n", {"a"}),
        ('route:\n  receiver: "a \\"b\\""\n', {'a "b"'}),
        ("# a comment\nroute:\n  receiver: >-\n    a\n    b\n", {"a b"}),
        ("route:\n  receiver: a\n  routes:\n  - receiver: b\n    matchers: ['x=~\"[\"']\n", {"a", "b"}),
        ("route: nobody\n", set()),
        ("- a\n", set()),
        ("route: [\n", set()),
        ("", set()),
    ],
)
def test_configurations(configuration: str, reached: set[str]) -> None:
    """Blocks and flow style, values of any type, texts of several lines; what is no configuration reaches nobody."""
    assert alert_receivers(configuration, {"x": "1"}) == reached
