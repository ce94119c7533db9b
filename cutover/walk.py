"""Walks the run of show: holds the lock, applies changes with their undo, keeps or reverts, and says what it saw."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cutover import preflight, scene
from cutover.changes import Change
from cutover.changes.up import Previous
from cutover.core.config import Settings
from cutover.core.errors import CutoverError, Failed, Inconclusive, OperatorNeeded
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome, Verdict
from cutover.scene import Scene
from cutover.state import REVERTED_ELSEWHERE, Record, State
from cutover.system import process
from cutover.system.container import Container
from cutover.system.files import close_lock
from cutover.target import Target
from cutover.wish import ReleaseRequest

if TYPE_CHECKING:
    from cutover.deploying import Planned
    from cutover.gate.log_checks import LogBaseline

Say = Callable[[str, str, str, float, str], None]
"""Tells people a line of the run of show: moment, name, text, seconds, outcome."""


@dataclass(slots=True)
class Walk:
    """One session's way through the run of show; what it knows is asked, not remembered from another run."""

    settings: Settings
    request: ReleaseRequest
    evidence: Evidence
    say: Say
    scene: Scene = field(init=False)
    target: Target = field(init=False)
    """The target of the deploy or switch, resolved once under the lock; else the first one."""
    before: str | None = None
    """The live color before anything was changed."""
    from_tag: str | None = None
    changes: list[Change] = field(default_factory=list)
    release_id: str | None = None
    trouble: CutoverError | None = None
    switched: bool = False
    deployed: bool = False
    pending: Record | None = None
    """What was deployed, to be recorded at commit."""
    planned: Planned | None = None
    """What the preflight found, so that the deploy need not ask again."""
    old: Previous | None = None
    """How the live color is started again before the traffic goes back to it."""
    there_before: dict[str, dict[str, Container | None]] = field(default_factory=dict)
    """Color -> service -> its container before this session changed the color."""
    put_back: Record | None = None
    """The proven release that this session puts back, and nothing else."""
    baselines: dict[tuple[str, str], LogBaseline] = field(default_factory=dict)
    """Color and service -> what was logged there before this session changed it."""
    _lock: int | None = None

    @property
    def state(self) -> State:
        """The project's state directory."""
        return State(self.settings.state)

    @property
    def changed(self) -> bool:
        """Whether this session has begun to change anything."""
        return self.release_id is not None

    @property
    def trouble_outcome(self) -> Outcome | None:
        """What a change or its question ended with: no, unknown, or None when all went well."""
        if self.trouble is None:
            return None
        return Outcome.UNKNOWN if isinstance(self.trouble, Inconclusive) else Outcome.NO

    # --- beginning -----------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Lock, revert what a dead session left, resolve the target; raises ConfigError or Locked."""
        if self.request.plan:
            self.look_only()
        elif self.request.changes_something:
            self.lock()
            self.recover()
        self.begin_here()

    def begin_here(self) -> None:
        """Resolve the target and who is live, by somebody who holds the lock already or needs none."""
        self.scene = scene.look(self.settings)
        self.target, *_ = [scene.target_named(self.scene, name) for name in self.request.targets]
        self.before = self.scene.live.color
        if self.before in {None, self.target.color}:
            self.from_tag = self.target.tag
        else:
            self.from_tag = scene.running_tag(self.settings, self.before or "")

    def lock(self) -> None:
        """Hold the release lock until the process ends or `unlock`; a no-op for who holds it."""
        if self._lock is None:
            self.state.prepare()
            self._lock = self.state.acquire(self.owner(), self.request.asked_at)

    def hold(self, lock: int) -> None:
        """Go on with the release lock that was taken before there was a walk."""
        self._lock = lock

    def unlock(self) -> None:
        """Let others release."""
        if self._lock is not None:
            close_lock(self._lock)
            self._lock = None

    def owner(self) -> dict[str, object]:
        """Who we are, for those whom the lock turns away."""
        return self.request.owner()

    def look_only(self) -> None:
        """Say what a release would meet before its first change: one that lives, or one that a dead session left."""
        if self.state.is_held():
            self.told("", "plan", f"would be refused now: {self.state.told()}", None, "unknown")
        elif (left := self.state.open_release()) is not None:
            undo = self.state.root / "undo.sh"
            text = f"release {left} of a session that died is open: would first revert it by {undo}"
            self.told("", "plan", text, None, "unknown")

    def recover(self) -> None:
        """Revert the release of a session that is gone; the lock is ours, so it is gone."""
        left = self.state.open_release()
        if left is None:
            return
        owner = self.state.owner()
        begun = time.monotonic()
        done = self.state.revert(left)
        if not done.ok:
            what = f"a half-done release {left} could not be reverted: {done.last_line}"
            raise OperatorNeeded(f"{what}; run: {self.state.revert_command}")
        self.state.journal("recovered", release=left)
        self.told(
            "T-15m", "recover", f"the release {left} of a session that died was reverted; going on", begun
        )
        self.evidence.fact("recovered", {"release": left, "owner": owner})

    # --- changing ------------------------------------------------------------------------------------------------
    def apply(self, change: Change) -> process.CompletedCommand:
        """Run a change with its undo written first; raises Failed when somebody else reverted the release."""
        if self.release_id is None:
            release_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
            self.state.begin(release_id, self.settings.release_timeout)
            self.release_id = release_id
            self.state.journal(
                "open", release=release_id, who=preflight.who(), what=self.owner()["what"], **self.as_it_was()
            )
        self.changes.append(change)
        self.state.journal("do", release=self.release_id, change=change.name, text=change.text)
        done = self.state.step(self.release_id, self.changes, self.settings.release_timeout)
        self.state.journal(
            "did",
            release=self.release_id,
            change=change.name,
            code=done.code,
            said=done.last_line if not done.ok else "",
        )
        if done.code == REVERTED_ELSEWHERE:
            raise Failed(f"{change.name}: the release was reverted by {self.taken_by()} meanwhile")
        return done

    def as_it_was(self) -> dict[str, str | None]:
        """What users had before this session: whoever reverts it can tell whether they have it again."""
        return {"live": self.before, "color": self.before or self.target.color, "tag": self.from_tag}

    def taken_by(self) -> str:
        """Who reverted our release, as the journal says."""
        rows = [
            row
            for row in self.state.history()
            if row.get("event") in {"reverting", "reverted"} and row.get("release") == self.release_id
        ]
        return str(rows[-1].get("who", "the guard")) if rows else "the guard"

    # --- telling -------------------------------------------------------------------------------------------------
    def told(self, moment: str, name: str, text: str, begun: float | None, outcome: str = "yes") -> None:
        """Keep one line of the run of show as evidence, and say it."""
        spent = 0.0 if begun is None else time.monotonic() - begun
        self.evidence.step(moment, name, text, spent, outcome)
        self.say(moment, name, text, spent, outcome)

    @contextmanager
    def telling(self, moment: str, name: str) -> Iterator[list[str]]:
        """Time a step; the body appends its sentence, an error becomes the line's text and goes on up."""
        begun, words = time.monotonic(), [""]
        try:
            yield words
        except CutoverError as error:
            outcome = Outcome.UNKNOWN if isinstance(error, Inconclusive) else Outcome.NO
            self.told(moment, name, str(error), begun, str(outcome))
            raise
        self.told(moment, name, words[-1], begun)

    def require(self, verdict: Verdict, test: str, stage: int = 0) -> Verdict:
        """Keep the verdict of a question of ours; raises Failed on a no, Inconclusive on an unknown."""
        row = self.evidence.check(test, self.target.name, stage, verdict, 0.0)
        if verdict.outcome is Outcome.NO:
            raise Failed(f"{verdict.question}: {verdict.reason}", check=row.id)
        if verdict.outcome is Outcome.UNKNOWN:
            raise Inconclusive(f"{verdict.question}: {verdict.reason}", check=row.id)
        return verdict
