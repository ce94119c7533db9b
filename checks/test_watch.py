"""The runbook's section 6: each check of the watch, with its last verdict."""

import pytest

from cutover.core.verdict import AssertVerdict, not_asked
from cutover.watch.check import WatchResult

pytestmark = pytest.mark.requires("color")


def test_stays_well(watch_result: WatchResult, watch_check_name: str, assert_verdict: AssertVerdict) -> None:
    """The target passed this check for the whole watch."""
    missing = not_asked(
        watch_check_name, f"the watch ended after {watch_result.seconds:.0f} s, before it was asked"
    )
    assert_verdict(watch_result.verdicts.get(watch_check_name, missing))
