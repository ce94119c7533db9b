"""Ask two releases the same, within bounds, and judge what the new one answers differently."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from cutover.core.config_schema import Compare
from cutover.core.text import count, duration
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.gate.compare_requests import SAFE, CompareRequest
from cutover.gate.comparison import Answer, Compared, Comparison, answer_of, compare_all, is_error
from cutover.system.http import HttpClient, HttpResponse, NoResponse

QUESTION = "compare"
AT_ONCE = 4
MOST_WAITING = 8
"""Requests that were begun and are not compared yet: their answers are in memory."""
OLD, NEW = "old", "new"
# Mostly between the two old ones, so that what changes with time changes between these too.
ORDERS = ((OLD, NEW, OLD), (OLD, NEW, OLD), (NEW, OLD, OLD), (OLD, OLD, NEW))
SEED = 7
MOST_GROUPS, MOST_NOISE = 50, 50


@dataclass(frozen=True, slots=True)
class LiveRelease:
    """The release that users have: its color, a client for that, and its tag, None if it is unknown."""

    color: str
    http: HttpClient
    tag: str | None


@dataclass(slots=True)
class _Pace:
    """Lets at most *rate* requests a second pass, until *until* (monotonic)."""

    rate: float
    until: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    next_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> bool:
        """Wait for the turn of one request; False if it would be too late.

        The pause to the next turn begins when this one is taken, so that a delay causes no burst.
        """
        with self.lock:
            if max(self.next_at, self.clock()) >= self.until:
                return False
            self.sleep(max(0.0, self.next_at - self.clock()))
            self.next_at = max(self.next_at, self.clock()) + 1 / self.rate
        return True


def ask_both(
    requests: Sequence[CompareRequest],
    old: HttpClient,
    new: HttpClient,
    wanted: Compare,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Compared]:
    """Send each request to *old* twice and to *new* once, in a mixed order, within count, rate and time of *wanted*.

    A GET or HEAD that *new* answers with an error is sent to it again.

    The rate is that of the requests which *old*, the release that users have, gets. What is not answered when the time
    is over is left out.
    """
    pace = _Pace(wanted.rate, clock() + wanted.within, clock, sleep)
    order = random.Random(SEED)  # noqa: S311  # the same order each time
    rows = [(each, order.choice(ORDERS)) for each in requests[: wanted.count]]

    def ask(row: tuple[CompareRequest, tuple[str, ...]]) -> Compared | None:
        request, turns = row
        answers: dict[str, list[Answer | None]] = {OLD: [], NEW: []}
        for turn in turns:
            if turn == OLD and not pace.wait():
                return None
            client, left = old if turn == OLD else new, pace.until - clock()
            if left <= 0:
                return None
            got = _send(client, request, left)
            if isinstance(got, NoResponse) and clock() >= pace.until:
                return None
            answers[turn].append(answer_of(got, wanted.headers))
        (first, second), found = answers[OLD], answers[NEW][0]
        again = _ask_again(new, request, pace.until - clock(), wanted) if is_error(found) else None
        return Compared(request.route, request.label, (first, second), found, again)

    waiting: deque[Future[Compared | None]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for row in rows:
            waiting.append(pool.submit(ask, row))
            if len(waiting) >= MOST_WAITING and (done := waiting.popleft().result()):
                yield done
        while waiting:
            if done := waiting.popleft().result():
                yield done


def _send(client: HttpClient, request: CompareRequest, left_s: float) -> HttpResponse | NoResponse:
    return client.send(
        request.method, request.path, headers=request.headers, body=request.body,
        deadline_s=min(left_s, client.deadline_s),
    )  # fmt: skip


def _ask_again(new: HttpClient, request: CompareRequest, left_s: float, wanted: Compare) -> Answer | None:
    """The second answer, None for none; a request that may have written something is not sent again."""
    if request.method not in SAFE or left_s <= 0:
        return None
    return answer_of(_send(new, request, left_s), wanted.headers)


def compare(
    requests: Sequence[CompareRequest],
    old: HttpClient,
    new: HttpClient,
    wanted: Compare,
    names: Sequence[str],
) -> Verdict:
    """Ask both releases and judge; *names* are the tags and the colors of both, in which any two differ."""
    if not requests:
        return not_asked(QUESTION, "no request is known: neither from the access log nor from [compare]")
    rows = ask_both(requests, old, new, wanted)
    found = compare_all(rows, names=names, ignore=wanted.ignore, now=time.time())
    return judge_comparison(found, wanted, left_out=min(len(requests), wanted.count) - found.asked)


def judge_comparison(found: Comparison, wanted: Compare, left_out: int = 0) -> Verdict:
    """No if there is a difference of a kind in `fail_on`; other differences are told."""
    skipped = sum(found.not_compared.values())
    why = ", ".join(f"{times:,} × {reason}" for reason, times in sorted(found.not_compared.items()))
    if not found.compared:
        what = f"none of {count(skipped + left_out, 'request')} could be compared"
        return not_asked(QUESTION, f"{what}: {why or f'no answer within {duration(wanted.within)}'}")
    evidence: dict[str, Any] = {
        "differences": [asdict(each) | {"text": each.text} for each in found.groups[:MOST_GROUPS]],
        "more_differences": max(0, len(found.groups) - MOST_GROUPS),
        "noise": [*found.noise[:MOST_NOISE]],
        "compared": found.compared,
        "routes": found.routes,
        "recovered": found.recovered,
        "refused": found.refused,
        "not_compared": dict(found.not_compared) | ({"no time was left": left_out} if left_out else {}),
        "notice": bool(found.groups or found.recovered),
    }
    on = f"{count(found.compared, 'request')} on {count(found.routes, 'route')}"
    on += f", {found.refused:,} refused without a login" if found.refused else ""
    if found.recovered:
        on += f", {found.recovered:,} × the new release answers 5xx, and well when asked again"
    bad = [each for each in found.groups if each.kind in wanted.fail_on]
    shown = "; ".join(each.text for each in (bad or found.groups)[:3])
    more = len(bad or found.groups) - 3
    told = f"{shown}{f'; {more} more' if more > 0 else ''}"
    expected = f"no difference of {', '.join(wanted.fail_on)}" if wanted.fail_on else ""
    if bad:
        seen = count(len(bad), "difference")
        return no(QUESTION, f"{told} (of {on})", expected=expected, seen=seen, **evidence)
    said = "no difference"
    if found.groups:
        said = f"{count(len(found.groups), 'difference')}, reported only: {told}"
    return yes(QUESTION, f"{on}: {said}", expected=expected, **evidence)
