"""Seeded releases with a fault, an old release that may be unwell, and an edit of a file. Pure: seed and number in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from examples.catalogue import DEFECTS, Seen

GOOD, BREAKS, NONE, WELL = "good", "breaks-later", "none", "well"
SWITCH, IN_PLACE, PLAIN, STAGED = "switch", "in place", "plain", "staged"
PLACES = {SWITCH: 11, IN_PLACE: 4, PLAIN: 3, STAGED: 2}
"""Place -> weight: idle color and switch; live color behind a proxy; no proxy; idle color without a switch."""

COLORS = ("blue", "green")
# The moments of a release, in their order; `revert` is reached by a bad release only.
BEFORE, DEPLOY, GATE, FLIP, PROOF, WATCH, REVERT = (
    "before",
    "deploy",
    "gate",
    "switch",
    "proof",
    "watch",
    "revert",
)
MOMENTS = (BEFORE, DEPLOY, GATE, FLIP, PROOF, WATCH)
REACHED = {SWITCH: MOMENTS, IN_PLACE: MOMENTS[:3], PLAIN: MOMENTS[:3], STAGED: MOMENTS[:3]}
AT_START = frozenset(
    {"crash-at-start", "prints-environment", "crash-loop-late", "dies-after-healthy", "never-ready"}
)
"""Defects with which the deploy fails, so that the gate is not reached."""
SLOW = frozenset({"hangs", "listens-elsewhere"})
"""Defects that take too long to be told."""
UNASKED = frozenset({"slow-endpoint", "wrong-status", "wrong-json", "half-errors"})
"""Defects of /memories, which needs a database: neither checklist nor client of these stands ask for it."""

ENGINE_REFUSES, ENGINE_MUTE = "engine refuses", "engine is mute"
KILLED, ALL_KILLED, GUARD_KILLED = "session killed", "session and guard killed", "guard killed"
INTERRUPTED, REPORTS_FULL = "session interrupted", "report folder full"
PAUSED, STOPPED, REMOVED = "old color paused", "old color stopped", "old color removed"
PROXY_AWAY, UNDO_CUT, UNDO_GONE = "proxy away", "undo script cut", "undo script deleted"
SOMEBODY = "somebody starts the old tag there"
AFTER_START, AFTER_DEPLOY = (*MOMENTS[1:], REVERT), (*MOMENTS[2:], REVERT)
FAULTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    NONE: (tuple(PLACES), (BEFORE,)),
    ENGINE_REFUSES: (tuple(PLACES), AFTER_START),
    ENGINE_MUTE: (tuple(PLACES), AFTER_START),
    KILLED: (tuple(PLACES), AFTER_START),
    ALL_KILLED: (tuple(PLACES), AFTER_START),
    INTERRUPTED: (tuple(PLACES), AFTER_START),
    GUARD_KILLED: (tuple(PLACES), AFTER_DEPLOY),
    REPORTS_FULL: (tuple(PLACES), AFTER_START),
    PAUSED: ((SWITCH, STAGED), (BEFORE, *AFTER_DEPLOY)),
    STOPPED: ((SWITCH,), (FLIP, PROOF, WATCH)),
    REMOVED: ((SWITCH,), (PROOF, WATCH)),
    PROXY_AWAY: ((SWITCH, IN_PLACE, STAGED), AFTER_DEPLOY),
    UNDO_CUT: (tuple(PLACES), MOMENTS[2:]),
    UNDO_GONE: (tuple(PLACES), MOMENTS[2:]),
    SOMEBODY: (tuple(PLACES), MOMENTS[2:]),
}
"""Fault -> the places and the moments at which it can begin."""
DEADLY = frozenset({KILLED, ALL_KILLED})
HARMLESS = frozenset({NONE, GUARD_KILLED, REPORTS_FULL, UNDO_CUT, UNDO_GONE})
"""Faults beside which a good release is kept."""

TRACEBACKS, BY_HAND, BY_HAND_BAD = "logs tracebacks", "started by hand", "started by hand, not ready"
OLD = {WELL: 12, TRACEBACKS: 3, BY_HAND: 2, BY_HAND_BAD: 3}
COMPOSE, ENV_KEY, TAG_OF_LIVE, TAG_OF_TARGET = (
    "compose file",
    "env key",
    "tag line of live",
    "tag line of target",
)
EDITS = {NONE: 12, COMPOSE: 3, ENV_KEY: 2, TAG_OF_LIVE: 2, TAG_OF_TARGET: 1}


@dataclass(frozen=True, slots=True)
class Case:
    """One release to try."""

    seed: int
    number: int
    place: str
    release: str
    """`good`, or the name of a defect."""
    breaks: str
    """The moment in which a release that breaks later does so; empty for any other."""
    fault: str
    moment: str
    seconds: float
    """How long a fault lasts that ends by itself."""
    old: str
    edit: str

    @property
    def name(self) -> str:
        """`1-17`: seed and number."""
        return f"{self.seed}-{self.number}"

    @property
    def bad(self) -> bool:
        """Whether the release must not be kept."""
        harmless = {GOOD} | UNASKED
        return self.release not in harmless and DEFECTS[self.release].seen is not Seen.NEVER

    def target(self, live: str) -> str:
        """The color that is released while *live* is live."""
        same = self.place in {IN_PLACE, PLAIN} or live not in COLORS
        return live if same else next(each for each in COLORS if each != live)

    def __str__(self) -> str:
        breaks = f" in the {self.breaks}" if self.breaks else ""
        fault = "" if self.fault == NONE else f"; {self.fault} ({self.moment})"
        old = "" if self.old == WELL else f"; old release {self.old}"
        return f"{self.place}: {self.release}{breaks}{fault}{old}{'' if self.edit == NONE else f'; edited: {self.edit}'}"


def reached(place: str, release: str, breaks: str) -> list[str]:
    """The moments that such a release reaches."""
    found = list(REACHED[place])
    if release == GOOD or DEFECTS[release].seen is Seen.NEVER:
        return found
    last = breaks or (DEPLOY if release in AT_START else GATE)
    return [*found[: found.index(last) + 1], REVERT]


def case(seed: int, number: int) -> Case:
    """The release *number* of *seed*."""
    dice = random.Random(f"{seed}-{number}")  # noqa: S311 - no secret
    place = _weighed(dice, PLACES)
    kind = dice.choice((GOOD, GOOD, BREAKS, BREAKS, "gate", "gate", "noisy"))
    at_gate = [
        each.name for each in DEFECTS.values() if each.seen is Seen.BEFORE_TRAFFIC and each.name not in SLOW
    ]
    noisy = [each.name for each in DEFECTS.values() if each.seen is Seen.NEVER]
    release = {"gate": dice.choice(at_gate), "noisy": dice.choice(noisy)}.get(kind, kind)
    breaks = dice.choice(REACHED[place][2:]) if release == BREAKS else ""
    there = reached(place, release, breaks)
    possible = [
        (fault, moment)
        for fault, (places, moments) in FAULTS.items()
        if place in places
        for moment in moments
        if moment in there
    ]
    # First the fault, then its moment: a fault with one moment is as frequent as one with six.
    fault = dice.choice(sorted({each for each, _ in possible}))
    moment = dice.choice([at for each, at in possible if each == fault])
    seconds = round(dice.uniform(1.5, 5.0), 1)
    return Case(
        seed,
        number,
        place,
        release,
        breaks,
        fault,
        moment,
        seconds,
        _weighed(dice, OLD),
        _weighed(dice, EDITS),
    )


def _weighed(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]
