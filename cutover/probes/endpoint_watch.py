"""The endpoints of `[[endpoints]]`, still answered as listed, through the proxy, while users are on them.

Only those that read (GET, HEAD). How long they take is asked of users' own requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum

import httpx

from cutover.core.config_schema import Endpoint
from cutover.core.verdict import Outcome, Verdict, no, not_asked, unknown, yes
from cutover.http import Asking, Silence, ask
from cutover.probes.background import Background, Start, in_thread
from cutover.probes.endpoints import endpoint
from cutover.target import Control

IN_A_ROW = 3
SAFE = frozenset({"GET", "HEAD"})
ERROR = 500
LOOK = Asking(deadline_s=1.0, tries=1)
LOOKS, LONG_S = 20, 1.0  # a no waits for them: more would delay the way back
NOT_THERE = frozenset({404, 405})
NO_CONTROL = Control(lambda: True, "only compared with")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one endpoint answered, and the old colour's answer where the live one's was wrong."""

    live: Verdict
    old: Verdict | None = None

    @property
    def bad(self) -> bool:
        """Whether the answer was wrong, or missing although the way is good; slowness is another question's."""
        return self.live.outcome is Outcome.NO and not self.live.evidence.get("only_slow")

    @property
    def shared(self) -> bool:
        """Whether the old colour answers as wrongly."""
        return self.bad and self.old is not None and self.old.outcome is Outcome.NO


def readable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Those that may be asked again and again."""
    return tuple(each for each in endpoints if each.method in SAFE and not each.writes)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks every endpoint once, and the old colour those that were answered wrongly."""

    wanted: tuple[Endpoint, ...]
    http: httpx.Client
    control: Control
    old: httpx.Client | None = None

    def __call__(self) -> list[Asked]:
        """One round."""
        return [self._one(each) for each in self.wanted]

    def _one(self, wanted: Endpoint) -> Asked:
        asked = Asked(endpoint(self.http, self.control, wanted))
        return Asked(asked.live, endpoint(self.old, NO_CONTROL, wanted)) if asked.bad and self.old else asked


class Health(IntEnum):
    """How an endpoint is answered; the higher the worse."""

    WELL = 0
    SLOW = 1
    FAILS = 2


@dataclass(frozen=True, slots=True)
class Shared:
    """Looks whether the endpoints that the live colour fails fail for the old one as well, in the same moment."""

    wanted: tuple[Endpoint, ...]
    live: httpx.Client
    old: httpx.Client
    slow_s: float
    look: Asking = LOOK

    def __call__(self, *, slow: bool = False) -> str:
        """What fails for both, or what is *slow* for the old one, in words; empty when the live one is worse off."""
        with ThreadPoolExecutor(8) as pool:
            mine = pool.map(lambda each: self._health(self.live, each, gone=Health.FAILS), self.wanted)
            theirs = pool.map(lambda each: self._health(self.old, each, gone=Health.WELL), self.wanted)
        known = [
            (each, live, old)
            for each, live, old in zip(self.wanted, mine, theirs, strict=True)
            if live is not None and old is not None
        ]
        if any(live > old for _, live, old in known):
            return ""
        for each, live, old in known:
            if live is old is Health.FAILS:
                return f"the old colour fails {each.label} too"
            if slow and old is Health.SLOW:
                return f"the old colour is slow with {each.label} too"
        return ""

    def _health(self, http: httpx.Client, wanted: Endpoint, *, gone: Health) -> Health | None:
        """The worst of twenty looks in a second; *gone*: nobody is there; None: there is no such path."""
        until = time.monotonic() + LONG_S
        for _ in range(LOOKS):
            said = ask(http, wanted.method, wanted.path, self.look)
            if isinstance(said, Silence):
                return Health.SLOW if said.kind == "timeout" else gone
            if said.status >= ERROR or said.status in NOT_THERE:
                return Health.FAILS if said.status >= ERROR else None
            if said.seconds > min(self.slow_s, wanted.max_latency):
                return Health.SLOW
            if time.monotonic() > until:
                break
        return Health.WELL


def judge_endpoints(rounds: int, streaks: dict[str, int], last: Sequence[Asked]) -> Verdict:
    """No when one endpoint is answered wrongly three times in a row, and rightly by the old colour."""
    question, expected = "endpoints", "answers as listed"
    sure = next((each for each in last if streaks.get(each.live.question, 0) >= IN_A_ROW), None)
    if sure is not None:
        reason = f"{sure.live.question}, {streaks[sure.live.question]} times in a row: {sure.live.reason}"
        return no(question, reason, expected=sure.live.expected, **sure.live.evidence)
    if not last:
        return not_asked(question, "not answered yet")
    silent = next((each.live for each in last if each.live.outcome is Outcome.UNKNOWN), None)
    if silent is not None:
        return unknown(question, f"{silent.question}: {silent.reason}", expected=expected)
    shared = next((each.live for each in last if each.shared), None)
    if shared is not None:
        return not_asked(
            question, f"reported: {shared.question}: {shared.reason}; for both colours: not this release"
        )
    odd = next((each.live for each in last if each.bad), None)
    if odd is not None:
        return not_asked(question, f"{odd.question}: {odd.reason}; {IN_A_ROW} in a row are a no")
    return yes(question, f"{len(last)} asked {rounds} times, all as listed", expected=expected)


@dataclass(slots=True)
class Endpoints:
    """The listed endpoints, asked in rounds, judged by `judge_endpoints`."""

    ask: Callable[[], list[Asked]]
    start: Start = in_thread
    pace_s: float = 0.0
    every_s: float = 0.5
    name: str = "endpoints"
    asked: int = 0
    streaks: dict[str, int] = field(default_factory=dict)
    last: list[Asked] = field(default_factory=list)
    background: Background[list[Asked]] = field(init=False)

    def __post_init__(self) -> None:
        self.background = Background(self.ask, 1, self.start, self.pace_s)

    def tick(self, now: float) -> None:
        """Ask one more round; take in the one that ended."""
        for answers in self.background.tick(now):
            self.last, self.asked = answers, self.asked + 1
            for each in answers:
                name = each.live.question
                self.streaks[name] = self.streaks.get(name, 0) + 1 if each.bad and not each.shared else 0

    def verdict(self) -> Verdict:
        """The judgement of the rounds so far."""
        return judge_endpoints(self.asked, self.streaks, self.last)

    def forgive(self) -> None:
        """Begin to count anew."""
        self.streaks, self.last = {}, []
