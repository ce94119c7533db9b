"""Whether answers come in time: several samples, for one slow answer says nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from cutover.core.verdict import Verdict, no, yes
from cutover.http import Answer, Asking, Silence, ask, judge_silence
from cutover.target import Control

ROUNDS = 3
BUDGET_S = 10.0
FAILED = 500
ONE_TRY = Asking(tries=1)  # a silent sample is a sample: asking again would hide it


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many samples are judged, and against what."""

    limit_s: float
    samples: int = 5
    clock: Callable[[], float] = time.monotonic


def latency(http: httpx.Client, control: Control, path: str, how: Sampling) -> Verdict:
    """Sample *path* until the last samples are good, at most three times as often, in about ten seconds.

    The first request is a warm-up and does not count; a service that is slow for its first few requests is
    sampled on until it has warmed up.
    """
    begun = how.clock()
    ask(http, "GET", path, ONE_TRY)
    seen: list[Answer | Silence] = []
    while True:
        seen.append(ask(http, "GET", path, ONE_TRY))
        verdict = judge_latency(path, seen[-how.samples :], how.limit_s, control)
        over = how.clock() - begun > BUDGET_S and len(seen) > 1
        if (verdict.ok and len(seen) >= how.samples) or len(seen) >= ROUNDS * how.samples or over:
            return verdict


def judge_latency(path: str, seen: Sequence[Answer | Silence], limit_s: float, control: Control) -> Verdict:
    """No when more than one sample is slow, silent, or a failure of the server; of one sample that one."""
    question, excused = f"latency of {path}", 1 if len(seen) > 1 else 0
    silent = [each for each in seen if isinstance(each, Silence)]
    answers = [each for each in seen if isinstance(each, Answer)]
    if len(silent) > excused:
        return judge_silence(question, silent[-1], control)
    failed = [each for each in answers if each.status >= FAILED]
    if len(failed) > excused:
        reason = f"{len(failed)} of {len(seen)} requests were answered with {failed[-1].status}"
        return no(question, reason, **failed[-1].evidence)
    times = sorted([each.seconds for each in answers] + [each.seconds for each in silent])
    counts, middle = times[-1 - excused], statistics.median(times)
    what = "worst but one" if excused else "the only one"
    said = f"median {_ms(middle)}, {what} {_ms(counts)} of {len(times)} (limit {_ms(limit_s)})"
    verdict = yes if counts <= limit_s else no
    return verdict(
        question,
        said,
        expected=f"at most {_ms(limit_s)}",
        seen=_ms(counts),
        milliseconds=[_ms(t) for t in times],
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
