"""The runbook's section 6 while users are on it: each question of the watch, with what it came to."""

import pytest

from cutover.core.verdict import not_asked
from cutover.probes import Expect
from cutover.watching import Observed

pytestmark = pytest.mark.asks("colour")


def test_stays_well(watch: Observed, watched_name: str, expect: Expect) -> None:
    """The target answered this question well for the whole watch."""
    missing = not_asked(watched_name, f"the watch ended after {watch.seconds:.0f} s, before it was asked")
    expect(watch.verdicts.get(watched_name, missing))
