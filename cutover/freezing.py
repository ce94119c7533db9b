"""The write freeze inside a release: asked for at the proxy, bounded, and lifted as soon as the switch is proven."""

from __future__ import annotations

import time
from http import HTTPStatus

from cutover.changes import freeze as change
from cutover.core.errors import Failed
from cutover.core.verdict import Verdict, no, yes
from cutover.proxy.ask import ProxyClient
from cutover.walk import Walk


def freeze_writes(walk: Walk) -> float:
    """Answer writes with 503 while the switch happens, where that was asked for; since when."""
    begun = time.monotonic()
    if walk.settings.freeze is None:
        return begun
    with walk.telling("T-0", "freeze") as words:
        done = walk.apply(change.freeze_writes(walk.settings))
        if not done.ok:
            raise Failed(f"the write freeze failed: {done.last_line}")
        refused = judge(ProxyClient.of(walk.settings))
        if not refused.ok:
            raise Failed(f"the write freeze failed: {refused.reason}")
        words.append("writes are answered with 503 and Retry-After")
    return begun


def judge(way: ProxyClient) -> Verdict:
    """Whether the proxy answers a write, which reaches nobody behind it, with 503."""
    seen = way.post_control()
    where, got = f"POST {way.url}{way.control}", str(seen.status or seen)
    if seen.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return yes("freeze", f"{where} is answered with 503")
    return no("freeze", f"{where}: expected status 503, got {got}", expected="status 503", seen=got)


def still_in_time(walk: Walk, frozen_at: float) -> None:
    """Raises Failed when writes are frozen for longer than users were promised: the undo lets them through."""
    if walk.settings.freeze is None:
        return
    verdict = change.judge_frozen(time.monotonic() - frozen_at, walk.settings.freeze.max_duration)
    if not verdict.ok:
        raise Failed(f"freeze: {verdict.reason}")


def unfreeze_writes(walk: Walk, frozen_at: float) -> None:
    """Let writes through again, and say how long users waited."""
    if walk.settings.freeze is None:
        return
    with walk.telling("T-0", "unfreeze") as words:
        done = walk.apply(change.unfreeze_writes(walk.settings))
        if not done.ok:
            raise Failed(f"the write freeze could not be lifted: {done.last_line}")
        verdict = change.judge_frozen(time.monotonic() - frozen_at, walk.settings.freeze.max_duration)
        walk.evidence.fact("frozen_s", round(time.monotonic() - frozen_at, 1))
        words.append(f"writes are answered again; {verdict.reason}")
