"""One release as a transaction: each change is applied after its undo was written, then all are kept or all undone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cutover.core.change import Change, undo_script
from cutover.core.errors import ConfigError, CutoverError, Failed, Inconclusive
from cutover.core.evidence import Evidence, Step
from cutover.core.verdict import Outcome, Verdict
from cutover.release.colors import BeforeRelease, Situation
from cutover.release.history import Record, Unrecorded
from cutover.release.plan import ReleasePlan
from cutover.release.state import REVERTED_ELSEWHERE, State, who
from cutover.system import process
from cutover.system.container import Container
from cutover.system.process import CompletedCommand

REVERT_PATIENCE_S = 60.0
"""How long a session goes on trying to revert before it says that an operator is needed."""
REVERT_PAUSE_S = 2.0
Containers = Mapping[str, Container | None]
"""Service -> its container, None if there is none."""


@dataclass(slots=True)
class Transaction:
    """The open release of a session. It is opened by the first change; before that nothing was changed."""

    state: State
    timeout_s: float
    """How long the session may last before its guard reverts the release."""
    what: str
    """What is being done, for the journal."""
    before: BeforeRelease
    """What users must have again after a revert."""
    color: str | None
    """The color of the target."""
    id: str = ""
    """Empty as long as nothing was changed."""
    changes: list[Change] = field(default_factory=list)
    """The changes so far, oldest first."""
    done: set[str] = field(default_factory=set)
    """The names of the changes that were applied successfully."""
    touched: dict[str, dict[str, Container | None]] = field(default_factory=dict)
    """Color -> its containers before this release changed them."""
    replicas: dict[str, dict[str, int]] = field(default_factory=dict)
    """Color -> how many containers of each service were in use then."""
    record: Record | None = None
    """The release that is to be recorded when the transaction is committed."""
    restored: Record | None = None
    """The verified release that a revert restores instead of what ran before, None for an ordinary release."""

    @classmethod
    def of(cls, situation: Situation) -> Transaction:
        """The transaction of the session that found *situation*."""
        timeout_s, what = situation.settings.release_timeout, situation.request.summary
        return cls(situation.state, timeout_s, what, situation.before, situation.target.color)

    @property
    def changed(self) -> bool:
        """Whether a change was applied, successful or not."""
        return bool(self.id)

    def note_containers(self, color: str, containers: Containers, replicas: Mapping[str, int]) -> None:
        """Note *containers* of *color* before a change, and their number, to compare with after a revert."""
        self.touched.setdefault(color, {}).update(containers)
        self.replicas.setdefault(color, {}).update(replicas)

    def apply(self, change: Change) -> CompletedCommand:
        """Write the undo of all changes so far and of *change*, then run *change*.

        Raises Failed if another process has reverted the release, and ConfigError if it cannot be opened.
        """
        if not self.id:
            self._open()
        self.changes.append(change)
        self.state.journal("do", release=self.id, change=change.name, text=change.text)
        done = self.state.step(self.id, self.changes, self.timeout_s)
        said = "" if done.ok else done.last_line
        self.state.journal("did", release=self.id, change=change.name, code=done.code, said=said)
        if done.code == REVERTED_ELSEWHERE:
            raise Failed(f"{change.name}: the release was reverted by {self.reverted_by()} meanwhile")
        if done.ok:
            self.done.add(change.name)
        return done

    def _open(self) -> None:
        release_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        self.state.begin(release_id, self.timeout_s)
        self.id = release_id
        was = asdict(self.before) | {"color": self.before.live or self.color}
        self.state.journal("open", release=release_id, who=who(), what=self.what, **was)

    def commit(self, left: Unrecorded | None = None) -> bool:
        """Keep all changes; False if another process has closed the release before. For *left* see `State.close`."""
        return not self.id or self.state.close(self.id, left)

    def revert(
        self,
        failed: Callable[[str], None] = lambda _why: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> CompletedCommand:
        """Undo all changes by revert.sh, repeated for `REVERT_PATIENCE_S` while an undo fails; *failed* hears of it.

        Nobody else tries in this time: the guard waits until this session has ended.
        """
        begun, tries = clock(), 1
        while True:
            done = self.state.revert(self.id, undo_script(self.changes, process.engine_environment()))
            if done.ok and tries > 1:
                note = f"note: done by attempt {tries}, after {clock() - begun:.0f} s"
                return replace(done, out=f"{done.out.rstrip()}\n{note}\n")
            if done.ok or clock() - begun >= REVERT_PATIENCE_S:
                return done
            if tries == 1:
                failed(done.last_line)
            tries += 1
            sleep(REVERT_PAUSE_S)

    def reverted_by(self) -> str:
        """Who reverted this release, by the journal as far as it can be read."""
        rows: list[dict[str, Any]] = []
        with suppress(ConfigError):
            rows += [row for row in self.state.history() if row.get("release") == self.id]
        reverts = [row for row in rows if row.get("event") in {"reverting", "reverted"}]
        return str(reverts[-1].get("who", "the guard")) if reverts else "the guard"


@dataclass(frozen=True, slots=True)
class Reporter:
    """Records the steps and verdicts of a release as evidence, and shows the steps."""

    evidence: Evidence
    show: Callable[[Step], None] = lambda _step: None

    def line(
        self, moment: str, name: str, text: str, begun: float | None = None, outcome: str = "yes"
    ) -> None:
        """Record and show one step, which began at *begun* (monotonic) and ends now."""
        spent = 0.0 if begun is None else time.monotonic() - begun
        self.show(self.evidence.step(moment, name, text, spent, outcome))

    @contextmanager
    def step(self, moment: str, name: str) -> Iterator[list[str]]:
        """Time a step. The body appends its text to the list; the text of a CutoverError is that of the error."""
        begun, text = time.monotonic(), [""]
        try:
            yield text
        except CutoverError as error:
            self.line(moment, name, str(error), begun, str(outcome_of_error(error)))
            raise
        self.line(moment, name, text[-1], begun)

    def require(self, verdict: Verdict, test: str, target: str, stage: int = 0) -> Verdict:
        """Record a verdict of the release itself; raises Failed on a no and Inconclusive on an unknown."""
        check = self.evidence.check(test, target, stage, verdict, 0.0)
        if verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}:
            kind = Failed if verdict.outcome is Outcome.NO else Inconclusive
            raise kind(f"{verdict.question}: {verdict.reason}", check=check.id)
        return verdict


@dataclass(frozen=True, slots=True)
class ActiveRelease:
    """What a session with a cutover.toml has found and planned before its first test."""

    situation: Situation
    plan: ReleasePlan
    tx: Transaction
    report: Reporter


def outcome_of_error(error: CutoverError | None) -> Outcome | None:
    """The outcome of a step that ended with *error*: no or unknown; None without an error."""
    if error is None:
        return None
    return Outcome.UNKNOWN if isinstance(error, Inconclusive) else Outcome.NO
