"""Before the switch: what the new release answers otherwise than the one that users have, to the same requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cutover.core.config import Settings
from cutover.core.target import Target
from cutover.core.verdict import AssertVerdict, not_asked
from cutover.system.http import HttpClient

if TYPE_CHECKING:
    from cutover.gate.compare_requests import CompareRequest
    from cutover.gate.compare_run import LiveRelease


@pytest.mark.requires("compare")
@pytest.mark.asks("compare")
def test_compare(
    target: Target,
    cutover_http: HttpClient,
    live_release: LiveRelease | None,
    compare_requests: list[CompareRequest],
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """No difference of a kind in `[compare] fail_on`; the others are reported."""
    from cutover.gate.compare_run import (
        QUESTION,
        compare,
    )  # 20 ms that a gate without [compare] does not need

    wanted = cutover_config.compare
    if wanted is None or live_release is None:
        assert_verdict(
            not_asked(QUESTION, f"{target.name} is what users have: there is nothing to compare it with")
        )
        return
    names = [each for each in (live_release.tag, target.tag, live_release.color, target.color) if each]
    assert_verdict(compare(compare_requests, live_release.http, cutover_http, wanted, names))
