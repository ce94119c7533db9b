"""Database, cache and AI endpoint, asked from inside the service's own network; alert rules while the watch lasts.

Dependencies are asked for both colors: what fails for both is only reported, as it is not due to this release.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

from cutover.core.config_schema import Dependency
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.text import spelled
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.system import docker
from cutover.system.container import Container
from cutover.watch.check import Source, WatchCheck

BAD_IN_A_ROW = 2
HURRY_S = 1.0
CANNOT_RUN = frozenset({126, 127})


@dataclass(frozen=True, slots=True)
class DependencyAnswer:
    """What one dependency answered to one color: milliseconds, an error, or why it could not be asked."""

    ms: float | None = None
    error: str = ""
    why_not: str = ""

    def __str__(self) -> str:
        return self.spelled()

    def spelled(self, allowed_s: float = math.inf) -> str:
        """In words, so that a time above *allowed_s* seconds does not read like it."""
        return self.error or self.why_not or f"{spelled(self.ms or 0.0, most=allowed_s * 1000)} ms"

    def is_bad(self, allowed_s: float) -> bool:
        """Whether it failed, or took longer than *allowed_s* seconds."""
        return bool(self.error) or (self.ms is not None and self.ms > allowed_s * 1000)


DependencyAnswers = dict[str, DependencyAnswer]
Ask = Callable[[], DependencyAnswers | None]
OfBothColors = tuple[DependencyAnswers | None, DependencyAnswers | None]


def ask_dependencies(container: Container | None, wanted: Sequence[Dependency]) -> DependencyAnswers | None:
    """Ask every dependency from inside *container*; None while it does not run; raises EngineUnavailable."""
    if container is None or not container.running:
        return None
    script = resources.files(__package__).joinpath("dependency_inside.py").read_text(encoding="utf-8")
    rows = [each.model_dump() for each in wanted]
    code, out, err = _run_inside(container, ["python3", "-I", "-S", "-c", script, json.dumps(rows)])
    try:
        answers: dict[str, Mapping[str, Any]] = json.loads(out)
    except ValueError:
        last = (err.strip() or out.strip() or f"exit {code}").splitlines()[-1]
        reason = f"asking from inside the container failed: {last[:200]}"
        if code in CANNOT_RUN or "executable file not found" in err + out:
            reason = "no python3 in the container to ask with"
        return {each.name: DependencyAnswer(why_not=reason) for each in wanted}
    return {name: DependencyAnswer(**row) for name, row in answers.items()}


def _run_inside(container: Container, argv: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of *argv* run inside the container; raises EngineUnavailable."""
    with docker.engine_errors(f"nothing can be run in {container.short}"):
        api = docker.client(container.engine).api
        made = api.exec_create(container.id, list(argv))["Id"]
        out, err = api.exec_start(made, demux=True)
        code = int(api.exec_inspect(made)["ExitCode"] or 0)
    return code, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")


def judge_dependency(
    name: str, streak: int, live: DependencyAnswer | None, old: DependencyAnswer | None, allowed_s: float
) -> Verdict:
    """No when it failed or was slow twice in a row for the live color, and not for the old one.

    *streak* counts the bad answers in a row of the live color. What is bad for both colors is only reported.
    """
    question, expected = f"dependency {name}", f"an answer within {allowed_s * 1000:.0f} ms"
    if live is None or live.why_not:
        return not_asked(question, live.why_not if live else "the container does not run")
    seen = live.spelled(allowed_s)
    of_old = f", {old.spelled(allowed_s)} from the old color" if old else ""
    if not live.is_bad(allowed_s):
        return yes(question, f"{seen}{of_old}", expected=expected, seen=seen)
    if old is not None and old.is_bad(allowed_s):
        return not_asked(question, f"reported: {question} fails for both colors: {seen}: not this release")
    if streak < BAD_IN_A_ROW:
        return not_asked(question, f"{seen}, once; {BAD_IN_A_ROW} in a row are a no")
    reason = f"expected {expected}, got {seen}{of_old}"
    return no(question, reason, expected=expected, seen=seen, in_a_row=streak)


@dataclass(eq=False)
class DependencySource(Source[OfBothColors]):
    """Asks all dependencies for both colors at the same time."""

    ask: Callable[[], OfBothColors] = field(init=False)
    ask_live: Ask
    ask_old: Ask | None
    allowed_s: float
    evidence: Evidence
    streaks: dict[str, int] = field(default_factory=dict)
    """Bad answers in a row of each dependency to the live color."""
    _usual_pace_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.ask, self._usual_pace_s = self._ask_both, self.pace_s

    def _ask_both(self) -> OfBothColors:
        # In parallel: a dependency that hangs for both colors costs one deadline.
        old: list[DependencyAnswers | None] = []
        thread = threading.Thread(target=lambda: old.append(self._ask_old()), daemon=True)
        thread.start()
        live = self.ask_live()
        thread.join()
        return live, old[0] if old else None

    def _ask_old(self) -> DependencyAnswers | None:
        try:  # the old color is only compared with: its silence is not an error
            return self.ask_old() if self.ask_old else None
        except EngineUnavailable:
            return None

    def poll(self, now: float) -> None:
        """Take the answers, and ask again; more often while a dependency fails, so that a no is soon sure."""
        self.pace_s = min(self._usual_pace_s, HURRY_S) if any(self.streaks.values()) else self._usual_pace_s
        super().poll(now)

    def take(self, answer: OfBothColors) -> None:
        """Count the live color's bad answers in a row."""
        for name, one in (answer[0] or {}).items():
            self.streaks[name] = self.streaks.get(name, 0) + 1 if one.is_bad(self.allowed_s) else 0
            if one.ms is not None:
                self.evidence.sample(f"{name} ms", "live", one.ms)

    @cached_property
    def before(self) -> DependencyAnswers:
        """The old color's answers when this is read first: users of the old color had that too."""
        return self._ask_old() or {}

    def trouble_of_old(self, *, slow: bool) -> str:
        """The dependency that fails for the old color since `before`, or, with *slow*, is slow; empty if none."""
        bounds = (math.inf, self.allowed_s) if slow else (math.inf,)
        for name, answer in (self._ask_old() or {}).items():
            before = self.before.get(name, DependencyAnswer())
            if any(answer.is_bad(each) and not before.is_bad(each) for each in bounds):
                return f"dependency {name} fails for the old color too ({answer.spelled(self.allowed_s)})"
        return ""


def dependency_checks(names: Sequence[str], source: DependencySource) -> list[WatchCheck]:
    """One check for each dependency."""

    def check(name: str) -> WatchCheck:
        def judge(found: DependencySource) -> Verdict:
            live, old = ((answers or {}).get(name) for answers in found.last or (None, None))
            return judge_dependency(name, found.streaks.get(name, 0), live, old, found.allowed_s)

        return WatchCheck(f"dependency {name}", source, judge)

    return [check(name) for name in names]


def alerts_check(source: Source[Verdict]) -> WatchCheck:
    """The alert rules while the watch lasts; *source* asks for the verdict of the gate on them."""
    return WatchCheck("alerts", source, lambda _: source.last or not_asked("alerts", source.pending))
