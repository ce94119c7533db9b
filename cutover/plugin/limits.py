"""How long a test may take: its own time, and that of the changes that it may start."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from cutover.plugin.required import WATCH, stage_of

OWN_TIMEOUT_S = 120.0


def limit(items: Sequence[pytest.Item], changes_s: float, watch_s: float) -> None:
    """Give each test its time, fixtures included; the first of a stage also that of the changes that it may start."""
    seen: set[int] = set()
    for item in items:
        stage = stage_of(item)
        first = stage not in seen
        seen.add(stage)
        marker = item.get_closest_marker("timeout")
        given = _given(marker) if marker else OWN_TIMEOUT_S
        if given is None:
            continue  # pytest-timeout says what is wrong with it
        more = watch_s if stage == WATCH else 0.0
        words = {"method": "signal"} if marker is None else _method(marker)
        # Before its own marker, for the closest one counts: a fixture may hang as well as a test, whatever an ini says.
        item.add_marker(
            pytest.mark.timeout(given + max(more, changes_s if first else 0.0), func_only=False, **words),
            append=False,
        )


def _given(marker: pytest.Mark) -> float | None:
    """The seconds of a test's own marker; without a limit (0) ours."""
    try:
        return float(marker.kwargs.get("timeout", marker.args[0] if marker.args else 0)) or OWN_TIMEOUT_S
    except (TypeError, ValueError):
        return None


def _method(marker: pytest.Mark) -> dict[str, Any]:
    named = marker.kwargs.get("method", marker.args[1] if len(marker.args) > 1 else None)
    return {} if named is None else {"method": named}


@dataclass(repr=False, eq=False)
class Timer:
    """Knows which test has overrun its time, also where the test has swallowed the time-out."""

    _set: tuple[str, float, float] = ("", 0.0, 0.0)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
        """Remember when it ends."""
        self._set = (item.nodeid, time.monotonic() + settings.timeout, settings.timeout)
        return (yield)

    def overrun(self, item: pytest.Item) -> float | None:
        """The limit that *item* has overrun, None while it is within it."""
        name, end, given = self._set
        return given if name == item.nodeid and time.monotonic() >= end else None
