"""Whether the live colour logs more errors than the old one did, or errors that nobody knew, since the switch.

The rules, with their numbers. Errors of a signature that the old colour logs in the same minutes are not
counted: they are not this release's. Of the others, since the switch and in the newest minute:

- *log errors* is a no with at least `floor` (5) errors which the old colour's rate before the switch gives by
  chance in fewer than 1 of 1,000 watches (a conditional binomial; each look spends its part of that), and more
  than in the old colour's own worst stretch of that length;
- *new errors* is a no with at least `floor` errors of signatures that the old colour never logged, if they are
  crashes (traceback, critical, fatal), or if no such error in all the time before makes so many now as
  unlikely; where there is less than a minute of that, with twice `floor` that go on for 20 s and more.

Logs are read on from the last stamp, a bounded number of lines at a time; memory is constant.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cutover.core.config_schema import Logs
from cutover.core.errors import EngineSilent
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.evidence import Evidence
from cutover.gate.log_checks import (
    MIN_EXPOSURE_S,
    NO_LEVEL,
    LoggedError,
    LogWindow,
    read_baseline,
    worst_stretch,
)
from cutover.probes.background import Background, Start, in_thread
from cutover.probes.log_tally import Reader, Tally
from cutover.statistics import more_often, spent
from cutover.system.container import Container

ALPHA = 0.001
GOES_ON_S = 20.0
NO_READING = "does not support reading"


@dataclass(frozen=True, slots=True)
class Seen:
    """All that both rules look at."""

    live: Tally
    shared: frozenset[str]
    """Signatures that the old colour logged in the same minutes."""
    before: LogWindow | None
    """The old colour's log up to the switch."""
    known: frozenset[str]
    """Signatures that the old colour had logged up to the switch; without one, the live colour's own."""
    look: int
    lines: int
    blind: bool = False
    """Lines of JSON of which none has a level: errors cannot be told from others."""

    @property
    def own(self) -> frozenset[str]:
        """Signatures of errors that only the live colour logs now."""
        return frozenset(self.live.by_signature) - self.shared

    @property
    def not_own(self) -> str:
        """What is to be said of the others."""
        number = sum(self.live.by_signature[name] for name in self.live.by_signature if name in self.shared)
        return f"; {number} more are logged by both colours: not this release" if number else ""


def judge_rate(seen: Seen, floor: int) -> Verdict:
    """Judge *log errors* by the rule at the head of this file."""
    question, (whole, seconds) = "log errors", seen.live.counts(seen.own)[0]
    before = seen.before
    if before is None:
        return not_asked(
            question, f"{whole} errors in {seconds:.0f} s; no log of an old colour to compare with"
        )
    was = f"the old colour logged {len(before.errors)} in {before.seconds:.0f} s before"
    for count, length in seen.live.counts(seen.own):
        chance = more_often(count, length, len(before.errors), before.seconds)
        if count >= floor and chance <= spent(ALPHA, seen.look) / 2 and count > worst_stretch(before, length):
            reason = f"{count} errors in {length:.0f} s, {was}: {seen.live.most(seen.own)}"
            return no(
                question, reason, expected="as many errors as before", seen=f"{count}", lines=seen.lines
            )
    if seen.blind:
        return not_asked(question, NO_LEVEL)
    reason = f"{whole} errors in {seconds:.0f} s ({seen.lines} log lines), {was}{seen.not_own}"
    return yes(question, reason, expected="as many errors as before", seen=f"{whole}")


def judge_new(seen: Seen, floor: int) -> Verdict:
    """Judge *new errors* by the rule at the head of this file."""
    question, fresh = "new errors", seen.own - seen.known
    count, seconds = seen.live.counts(fresh)[0]
    crashes = frozenset(name for name in fresh if seen.live.severe[name])
    if sum(seen.live.severe[name] for name in crashes) >= floor:
        reason = f"crashes of a new kind in {seconds:.0f} s: {seen.live.most(crashes)}"
        return no(question, reason, expected="no new kind of error", seen=seen.live.most(crashes))
    exposure = seen.before.seconds if seen.before else 0.0
    for number, length in seen.live.counts(fresh):
        sure = more_often(number, length, 0, exposure) <= spent(ALPHA, seen.look) / 2
        if number >= floor and (
            sure or (exposure < MIN_EXPOSURE_S and _goes_on(seen.live, fresh, 2 * floor))
        ):
            reason = f"{number} errors of a new kind in {length:.0f} s: {seen.live.most(fresh)}"
            return no(question, reason, expected="no new kind of error", seen=seen.live.most(fresh))
    if seen.blind:
        return not_asked(question, NO_LEVEL)
    reason = f"{count} of a new kind in {seconds:.0f} s" if count else f"none in {seconds:.0f} s"
    return yes(question, reason + seen.not_own, expected="no new kind of error", kinds=len(fresh))


def _goes_on(live: Tally, names: frozenset[str], least: int) -> bool:
    """Whether at least *least* errors of *names* came over 20 s and more, one of them just now."""
    at = [moment for moment, name in live.recent if name in names]
    return len(at) >= least and at[-1] - at[0] >= GOES_ON_S and live.now - at[-1] <= GOES_ON_S


@dataclass(slots=True)
class LogWatch:
    """Reads the logs of both colours for both questions, in the background."""

    live: Callable[[], Container | None]
    old: Callable[[], Container | None] | None
    rules: Logs
    since: float
    evidence: Evidence
    colour: str
    start: Start = in_thread
    pace_s: float = 0.0
    clock: Callable[[], float] = time.time
    service: str = ""
    """Which of several services of the colour it is; empty for the one that takes the traffic."""
    asked: int = 0
    silent: str = ""
    tallies: tuple[Tally, Tally] = field(init=False)
    readers: list[Reader | None] = field(default_factory=lambda: [None, None])
    before: LogWindow | None = None
    known: frozenset[str] = frozenset()
    background: Background[list[list[LoggedError]]] = field(init=False)

    def __post_init__(self) -> None:
        self.tallies = (Tally(self.since), Tally(self.since))
        self.background = Background(self._ask, 1, self.start, self.pace_s)

    def read(self, now: float) -> None:
        """Take in what was logged since the last time, and ask for more."""
        try:
            answers = self.background.tick(now)
        except EngineSilent as error:
            self.silent, self.asked = str(error), self.asked + 1
            return
        for answer in answers:
            self.silent, self.asked = "", self.asked + 1
            for tally, errors in zip(self.tallies, answer, strict=True):
                tally.add(errors, self.clock())
            series = f"log errors of {self.service}" if self.service else "log errors"
            self.evidence.sample(series, self.colour, len(answer[0]))

    def _ask(self) -> list[list[LoggedError]]:
        if self.readers[0] is None:
            self._begin()
        return [self._read(self.readers[0], self.live), self._beside()]

    def _read(self, reader: Reader | None, find: Callable[[], Container | None]) -> list[LoggedError]:
        """The new errors of one container; one that is gone logs nothing, and its own question says so."""
        try:
            return reader.read() if reader else []
        except EngineSilent:
            container = find()  # raises again when it is the engine that is silent
            if container is not None and reader is not None and container.id == reader.container_id:
                raise
            return []

    def _beside(self) -> list[LoggedError]:
        """The old colour is only compared with: what cannot be read of it is no reason to go back to it."""
        try:
            return self._read(self.readers[1], self.old) if self.old else []
        except EngineSilent:
            return []

    def _begin(self) -> None:
        """Find both containers, and what each of them had logged up to the switch."""
        live, old = self.live(), self.old() if self.old else None
        windows = [self._up_to_now(each) for each in (live, old)]
        self.before = windows[1]
        own = windows[0].signatures if windows[0] else frozenset()
        self.known = self.before.signatures if self.before else own
        self.readers = [Reader(each.id, self.rules, self.since) if each else None for each in (live, old)]

    def _up_to_now(self, container: Container | None) -> LogWindow | None:
        seen = read_baseline(container, self.rules) if container else None
        if seen is None:
            return None
        late = max(0.0, seen.ended - self.since)
        errors = tuple(each for each in seen.errors if each.at < self.since)
        return LogWindow(errors, seen.lines, max(0.0, seen.seconds - late), self.since)

    def seen(self) -> Seen:
        """What the judges look at."""
        live, old = self.tallies
        reader = self.readers[0]
        lines, blind = (reader.lines, reader.structured and not reader.levelled) if reader else (0, False)
        return Seen(
            live, frozenset(old.by_signature), self.before, self.known, max(1, self.asked), lines, blind
        )

    def forgive(self) -> None:
        """Begin to count anew."""
        self.tallies = (Tally(self.clock()), Tally(self.clock()))


@dataclass(slots=True)
class LogQuestion:
    """One question about what *watch* reads; the one with `reads` reads for both."""

    name: str
    watch: LogWatch
    judge: Callable[[Seen, int], Verdict]
    reads: bool = False
    every_s: float = 0.5

    @property
    def asked(self) -> int:
        """How often the log was read, or could not be."""
        return self.watch.asked

    def tick(self, now: float) -> None:
        """Read on."""
        if self.reads:
            self.watch.read(now)

    def verdict(self) -> Verdict:
        """The judgement of all that was logged since the switch."""
        verdict = self._judged()
        return verdict.of(self.watch.service) if self.watch.service else verdict

    def _judged(self) -> Verdict:
        if NO_READING in self.watch.silent:
            return not_asked(self.name, "its logging driver does not support reading")
        if self.watch.silent:
            return unknown(self.name, self.watch.silent, expected="the container's log")
        if not self.watch.asked:
            return not_asked(self.name, "the log has not been read yet")
        return self.judge(self.watch.seen(), self.watch.rules.floor)

    def forgive(self) -> None:
        """Begin to count anew."""
        self.watch.forgive()


def questions(watch: LogWatch) -> list[LogQuestion]:
    """The rate of errors, and new kinds of them."""
    return [
        LogQuestion("log errors", watch, judge_rate, reads=True),
        LogQuestion("new errors", watch, judge_new),
    ]
