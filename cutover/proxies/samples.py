"""The proof in samples: what the requests around a switch say about it; nothing here asks anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from cutover.core.verdict import Verdict, no, unknown, yes

BUCKET_S = 0.1
MOST_ERRORS = 5
SERVER_ERROR = 500
QUESTION = "proof"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was sent and answered (monotonic seconds), by whom; status 0 when it was not."""

    started: float
    ended: float
    colour: str
    status: int
    method: str = "GET"
    error: str = ""

    @property
    def failed(self) -> bool:
        """No answer, or one that says that the server failed."""
        return not 0 < self.status < SERVER_ERROR

    @property
    def nameless(self) -> bool:
        """Answered well, by nobody knows which colour."""
        return not self.failed and not self.colour


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen of one switch; times in milliseconds from the moment before the switch was called.

    `requests` are those sent after the first answer of the new colour: of them `answered` came from it and
    `wrong` from another. `failed` counts every request that ended without an answer or with a 5xx since the
    switch was called, also those in flight; where a gap was announced, those in it are `failed_in_gap`.
    `timeline` has a row [ms, blue, green, failed] for each 100 ms.
    """

    to: str
    requests: int = 0
    answered: int = 0
    wrong: int = 0
    failed: int = 0
    failed_before: int = 0
    failed_in_gap: int = 0
    posts: int = 0
    open_connections: int = 0
    new_connections: int = 0
    reopened: int = 0
    first_answer_ms: float | None = None
    longest_gap_ms: float = 0.0
    waited_ms: float = 0.0
    timeline: tuple[tuple[int, int, int, int], ...] = ()
    errors: tuple[str, ...] = ()
    way_is_good: bool = True

    def verdict(self) -> Verdict:
        """Yes: every request since was answered by the new colour, and none failed."""
        seen = self.as_json()
        evidence = {key: seen[key] for key in seen if key not in {"timeline", "to"}}
        if self.first_answer_ms is None and not self.way_is_good:
            return unknown(
                QUESTION, "neither the service nor the proxy itself answers since the switch", **evidence
            )
        trouble = self._trouble()
        if trouble:
            return no(QUESTION, trouble, expected=f"all answered by {self.to}", **evidence)
        return yes(QUESTION, str(self), **evidence)

    def _trouble(self) -> str:
        if self.first_answer_ms is None:
            after = f"{self.waited_ms / 1000:.1f} s after the switch"
            return f"no answer from {self.to} {after}{self._first_error()}"
        if self.failed:
            return f"{_count(self.failed, 'request')} failed around the switch{self._first_error()}"
        if self.wrong:
            return f"{self.wrong} of {_count(self.requests, 'request')} since then not answered by {self.to}"
        return "" if self.requests else f"no request was sent after the first answer of {self.to}"

    def _first_error(self) -> str:
        return f": {self.errors[0]}" if self.errors else ""

    def __str__(self) -> str:
        """`2,400 requests on 120 open and 40 new connections: 2,400 green, 0 failed, …`."""
        return (
            f"{_count(self.requests, 'request')} on {self.open_connections} open and "
            f"{self.new_connections} new connections: {self.answered:,} {self.to}, {self.failed} failed, "
            f"longest gap {self.longest_gap_ms:.0f} ms{self._announced()}"
        )

    def _announced(self) -> str:
        """What the gap that was announced did to users."""
        return (
            f" with {_count(self.failed_in_gap, 'failed request')} in it, as announced"
            if self.failed_in_gap
            else ""
        )

    def as_json(self) -> dict[str, Any]:
        """A dictionary of JSON values, for the journal and the report."""
        return asdict(self) | {"timeline": [list(row) for row in self.timeline], "errors": list(self.errors)}


def weigh(
    samples: Sequence[Sample],
    to: str,
    called: float,
    *,
    way_is_good: bool = True,
    gap_announced: bool = False,
    **counts: int,
) -> Proof:
    """The proof in *samples* of a switch to *to* that was called at *called*.

    *way_is_good* says whether the proxy itself answers; any answer since the call shows that as well. With
    *gap_announced* (a port swap) requests may fail until the first answer of *to*.
    """
    settled = min((each.ended for each in samples if _by(each, to) and each.ended >= called), default=None)
    since = [each for each in samples if settled is not None and each.started >= settled]
    failed, in_gap, before = _failures(samples, called, settled, gap_announced=gap_announced)
    # Where the new colour never answered, those that named none are part of the reason.
    nameless = (
        [] if settled is not None else [each for each in samples if each.ended >= called and each.nameless]
    )
    return Proof(
        to=to,
        requests=len(since),
        answered=sum(_by(each, to) for each in since),
        wrong=sum(not each.failed and each.colour != to for each in since),
        failed=len(failed),
        failed_in_gap=len(in_gap) if gap_announced else 0,
        failed_before=len(before),
        posts=sum(each.method == "POST" for each in since),
        first_answer_ms=None if settled is None else _ms(settled - called),
        longest_gap_ms=_ms(longest_gap(samples, called)),
        waited_ms=_ms(max((each.ended for each in samples), default=called) - called),
        timeline=timeline(samples, called),
        errors=_errors([*failed, *nameless]),
        way_is_good=way_is_good or any(each.status for each in samples if each.ended >= called),
        **counts,
    )


def _failures(
    samples: Sequence[Sample], called: float, settled: float | None, *, gap_announced: bool
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """What failed by the switch; in its gap; and before it, or in the gap just as before it."""
    trouble = [each for each in samples if each.failed and each.ended >= called]
    before = [each for each in samples if each.failed and each.ended < called]
    in_gap = [each for each in trouble if settled is not None and each.started < settled]
    old = [] if gap_announced else _as_before(in_gap, before)
    excused = in_gap if gap_announced else old
    failed = [each for each in trouble if not any(each is one for one in excused)]
    return failed, in_gap, [*before, *old]


def _as_before(in_gap: Sequence[Sample], before: Sequence[Sample]) -> list[Sample]:
    """What failed in the gap as it had failed *before* the switch, and is no fault of it.

    The last bad answers of an old colour that failed before; a lost one only where just that way was known before.
    """
    known = {each.error for each in before if each.error}
    return [each for each in in_gap if before and (each.status or each.error in known)]


def _errors(bad: Sequence[Sample]) -> tuple[str, ...]:
    """The most frequent ways in which requests went wrong, in words."""
    words = Counter(
        each.error or f"{each.method} was answered {each.status}{'' if each.failed else ' without a colour'}"
        for each in bad
    )
    return tuple(text for text, _ in words.most_common(MOST_ERRORS))


def longest_gap(samples: Sequence[Sample], called: float) -> float:
    """The longest time around and after *called* in which nobody was answered, in seconds."""
    ends = sorted(each.ended for each in samples if not each.failed)
    last = max((each.ended for each in samples), default=called)
    moments = [*ends, last]
    return max(
        (late - early for early, late in pairwise(moments) if late >= called),
        default=0.0,
    )


def timeline(samples: Sequence[Sample], called: float) -> tuple[tuple[int, int, int, int], ...]:
    """Requests by colour and outcome for each bucket of their end, the empty ones too."""
    rows: dict[int, list[int]] = {}
    for each in samples:
        row = rows.setdefault(int((each.ended - called) // BUCKET_S), [0, 0, 0])
        place = 2 if each.failed else ("blue", "green").index(each.colour) if each.colour else None
        if place is not None:
            row[place] += 1
    if not rows:
        return ()
    width = round(BUCKET_S * 1000)
    every = ((number, *rows.get(number, [0, 0, 0])) for number in range(min(rows), max(rows) + 1))
    return tuple((number * width, blue, green, failed) for number, blue, green, failed in every)


def _by(sample: Sample, colour: str) -> bool:
    return not sample.failed and sample.colour == colour


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
