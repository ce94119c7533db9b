"""The runbook's section 6: each check of the watch, with its last verdict."""

import pytest

from cutover.core.verdict import not_asked
from cutover.probes import Expect
from cutover.watch.loop import WatchResult

pytestmark = pytest.mark.asks("colour")


def test_stays_well(watch: WatchResult, watched_name: str, expect: Expect) -> None:
    """The target passed this check for the whole watch."""
    missing = not_asked(watched_name, f"the watch ended after {watch.seconds:.0f} s, before it was asked")
    expect(watch.verdicts.get(watched_name, missing))
