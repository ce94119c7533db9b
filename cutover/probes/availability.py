"""Is the service there for its users? Probes of our own through the proxy, on a new connection each."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cutover.core.errors import EngineSilent
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.evidence import Evidence
from cutover.http import Answer, Asking, Silence, ask
from cutover.probes.background import Background, Start, in_thread
from cutover.statistics import Sequential
from cutover.target import Control

if TYPE_CHECKING:
    import httpx

STREAK = 3
RECENT = 20
ONCE = Asking(tries=1)  # what one probe could not ask the next one asks

Kind = Literal["good", "failed", "shared", "silent"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One request of ours and what came of it.

    `failed` is a wrong answer, or none although the control was good; `shared` is a failure that the old
    colour shows at the same moment; `silent` is no answer when the control had none either.
    """

    kind: Kind
    said: str
    seconds: float
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks *path* through the proxy, and, only when that fails, the old colour and the control."""

    http: httpx.Client
    path: str
    control: Control
    colour_header: str = ""
    old: httpx.Client | None = None

    def __call__(self) -> Probe:
        """One probe; takes at most the deadlines of its clients."""
        said = ask(self.http, "GET", self.path, ONCE)
        words = f"status {said.status}" if isinstance(said, Answer) else said.reason
        colour = said.headers.get(self.colour_header.lower()) if isinstance(said, Answer) else None
        return Probe(self._kind(said if isinstance(said, Answer) else None), words, said.seconds, colour)

    def _kind(self, answer: Answer | None) -> Kind:
        if answer and answer.status == 200:  # noqa: PLR2004 - what ready means is the gate's question
            return "good"
        if answer is None and not self._way_is_good():
            return "silent"
        if self.old is None:
            return "failed"
        other = ask(self.old, "GET", self.path, ONCE)
        return "shared" if _same_failure(answer, other) else "failed"

    def _way_is_good(self) -> bool:
        try:
            return self.control.answers()
        except (EngineSilent, OSError):
            return False


def _same_failure(answer: Answer | None, other: Answer | Silence) -> bool:
    """Whether the old colour fails the same way; one that is simply not there shares nothing."""
    if isinstance(other, Silence):
        return answer is None and other.kind == "timeout"
    return answer is not None and other.status == answer.status


@dataclass(slots=True)
class Tally:
    """What the probes of one watch came to."""

    test: Sequential
    probes: int = 0
    """Good and failed ones; shared and silent ones judge nobody."""
    failed: int = 0
    streak: int = 0
    shared: int = 0
    last: Probe | None = None
    last_failure: str = ""
    slowest: float = 0.0
    colours: Counter[str] = field(default_factory=Counter)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, probe: Probe) -> None:
        """Count one probe."""
        self.last = probe
        if probe.colour:
            self.colours[probe.colour] += 1
        if probe.kind in {"good", "failed"}:
            bad = probe.kind == "failed"
            self.probes += 1
            self.failed += bad
            self.streak = self.streak + 1 if bad else 0
            self.recent.append(bad)
            self.slowest = max(self.slowest, probe.seconds)
            self.last_failure = probe.said if bad else self.last_failure
            self.test.look((self.failed, self.probes), (sum(self.recent), len(self.recent)))
        elif probe.kind == "shared":
            self.shared += 1
            self.streak = 0


def judge_availability(tally: Tally, wanted: float) -> Verdict:
    """No at three failed probes in a row, or when fewer than *wanted* succeed for sure.

    Sure is an exact binomial test over all probes and over the last twenty, alpha 0.001, of which each look
    spends its part. A failure that the old colour shows too is reported: it is not this release's. A probe
    whose control failed too is unknown.
    """
    question, expected = "availability", f"at least {wanted:.2%} of probes answered with 200"
    seen = f"{tally.failed} of {tally.probes} probes failed"
    if tally.streak >= STREAK or tally.test.sure:
        reason = f"expected {expected}, got {seen}, the last one: {tally.last_failure}"
        if tally.streak >= STREAK:
            reason = f"{tally.streak} probes in a row failed: {tally.last_failure}"
        return no(question, reason, expected=expected, seen=seen, failed=tally.failed, probes=tally.probes)
    if tally.last is None:
        return not_asked(question, "0 probes ended, needs 1")
    if tally.last.kind == "silent":
        return unknown(
            question, f"{tally.last.said}, and the control did not answer either", expected=expected
        )
    if tally.last.kind == "shared":
        return not_asked(question, f"reported: {tally.last.said} from both colours: not this release")
    if tally.streak:
        return not_asked(question, f"{seen}, the last {tally.streak} of them; {STREAK} in a row are a no")
    reason = f"{seen}, slowest {tally.slowest * 1000:.0f} ms"
    reason += f"; {tally.shared} failed for both colours" if tally.shared else ""
    return yes(question, reason, expected=expected, seen=seen, failed=tally.failed, probes=tally.probes)


def judge_colour(seen: Counter[str], live: str, silent: str = "") -> Verdict:
    """No at the first answer of another colour than *live*: nobody but this release switches the proxy.

    Unknown while the proxy is *silent*, whatever it answered before.
    """
    question, expected = "colour", f"every answer by {live}"
    strange = {colour: count for colour, count in seen.items() if colour != live}
    if strange:
        got = ", ".join(f"{count} by {colour}" for colour, count in strange.items())
        return no(
            question, f"expected {expected}, got {got}", expected=expected, seen=got, answers=dict(seen)
        )
    if silent:
        return unknown(question, silent, expected=expected)
    if not seen:
        return not_asked(question, "no answer named its colour")
    return yes(question, f"{seen[live]} answers, all by {live}", expected=expected, answers=dict(seen))


@dataclass(slots=True)
class Availability:
    """Probes through the proxy at the rate of `[watch] probes_per_second`, judged by `judge_availability`."""

    prober: Callable[[], Probe]
    wanted: float
    every_s: float
    evidence: Evidence
    live: str
    most: int = 10
    start: Start = in_thread
    name: str = "availability"
    asked: int = 0
    tally: Tally = field(init=False)
    background: Background[Probe] = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(Sequential(1 - self.wanted))
        self.background = Background(self.prober, self.most, self.start)

    def tick(self, now: float) -> None:
        """Send one probe; take in those that ended."""
        for probe in self.background.tick(now):
            self.asked += 1
            self.tally.add(probe)
            if probe.kind == "good":
                self.evidence.sample("probe seconds", probe.colour or self.live, probe.seconds)
            else:
                self.evidence.sample("probe failed", probe.colour or self.live, 1.0)

    def silence(self) -> tuple[int, str]:
        """How many probes have ended, and why nobody answered the last one; empty when somebody did."""
        last = self.tally.last
        mute = last is not None and last.kind == "silent"
        return self.asked, f"the proxy does not answer: {last.said}" if mute and last else ""

    def verdict(self) -> Verdict:
        """The judgement of all probes so far."""
        return judge_availability(self.tally, self.wanted)


@dataclass(slots=True)
class ColourSeen:
    """Whether each probe of *availability* was answered by the live colour; asks nothing by itself."""

    availability: Availability
    live: str
    every_s: float
    name: str = "colour"

    @property
    def asked(self) -> int:
        """How many probes have ended."""
        return self.availability.asked

    def tick(self, now: float) -> None:
        """Nothing: the probes bring it."""

    def verdict(self) -> Verdict:
        """The judgement of the colours that answered so far."""
        return judge_colour(self.availability.tally.colours, self.live, self.availability.silence()[1])
