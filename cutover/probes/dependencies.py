"""Database, cache and AI endpoint: reachable and quick, asked from inside the service's own network.

Asked for both colours: what fails for both is not this release's doing, and is only reported.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from cutover.core.config_schema import Dependency
from cutover.core.errors import EngineSilent
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.evidence import Evidence
from cutover.probes.background import Background, Start, in_thread
from cutover.system import docker
from cutover.system.container import Container

IN_A_ROW = 2
HURRY_S = 1.0
CANNOT_RUN = frozenset({126, 127})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one dependency said to one colour: milliseconds, an error, or why it was not asked."""

    ms: float | None = None
    error: str = ""
    why_not: str = ""

    @staticmethod
    def of(row: Mapping[str, Any]) -> Answer:
        """The answer that the script inside the container wrote."""
        if "unset" in row:
            return Answer(why_not=f"{row['unset']} is not set in the container")
        return Answer(row.get("ms"), str(row.get("error", "")))


Answers = dict[str, Answer]


def script() -> str:
    """The program that is run inside the container."""
    return resources.files(__package__).joinpath("asked_inside.py").read_text(encoding="utf-8")


def ask(container: Container | None, wanted: Sequence[Dependency]) -> Answers | None:
    """Ask every dependency from inside *container*, None while it does not run; raises EngineSilent."""
    if container is None or not container.running:
        return None
    words = ["python3", "-I", "-S", "-c", script(), json.dumps([_row(each) for each in wanted])]
    code, out, err = run_inside(container.id, words)
    if code in CANNOT_RUN or "executable file not found" in err + out:
        return {each.name: Answer(why_not="no python3 in the container to ask with") for each in wanted}
    try:
        said: dict[str, Any] = json.loads(out)
    except ValueError:
        last = (err.strip() or out.strip() or f"exit {code}").splitlines()[-1]
        return {
            each.name: Answer(why_not=f"asking from inside the container failed: {last[:200]}")
            for each in wanted
        }
    return {name: Answer.of(row) for name, row in said.items()}


def _row(wanted: Dependency) -> dict[str, str]:
    return {
        "name": wanted.name,
        "kind": wanted.kind,
        "url": wanted.url,
        "url_key": wanted.url_key,
        "path": wanted.path,
    }


def run_inside(container_id: str, words: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of *words* run inside the container; raises EngineSilent."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    api = docker.client().api
    try:
        made = api.exec_create(container_id, list(words))["Id"]
        out, err = api.exec_start(made, demux=True)
        code = int(api.exec_inspect(made)["ExitCode"] or 0)
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"nothing can be run in {container_id[:12]}: {error}") from error
    return code, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")


def judge_dependency(
    name: str, streak: int, live: Answer | None, old: Answer | None, allowed_s: float
) -> Verdict:
    """No when it failed or was slow twice in a row for the live colour, and not for the old one.

    *streak* counts the live colour's bad answers in a row. What is bad for both colours is reported only.
    """
    question, expected = f"dependency {name}", f"an answer within {allowed_s * 1000:.0f} ms"
    if live is None:
        return not_asked(question, "the container does not run")
    if live.why_not:
        return not_asked(question, live.why_not)
    seen = live.error or f"{live.ms:.0f} ms"
    beside = f", {_said(old)} from the old colour" if old else ""
    if not bad(live, allowed_s):
        return yes(question, f"{seen}{beside}", expected=expected, seen=seen)
    if old is not None and bad(old, allowed_s):
        return not_asked(
            question, f"reported: dependency {name} fails for both colours: {seen}: not this release"
        )
    if streak < IN_A_ROW:
        return not_asked(question, f"{seen}, once; {IN_A_ROW} in a row are a no")
    return no(
        question, f"expected {expected}, got {seen}{beside}", expected=expected, seen=seen, in_a_row=streak
    )


def _said(answer: Answer) -> str:
    return answer.error or answer.why_not or f"{answer.ms:.0f} ms"


def bad(answer: Answer | None, allowed_s: float) -> bool:
    """Whether a dependency failed, or took too long."""
    if answer is None or answer.why_not:
        return False
    return bool(answer.error) or (answer.ms is not None and answer.ms > allowed_s * 1000)


@dataclass(slots=True)
class Asker:
    """Asks all dependencies for both colours at once, in the background."""

    live: Callable[[], Answers | None]
    old: Callable[[], Answers | None] | None
    allowed_s: float
    evidence: Evidence
    start: Start = in_thread
    pace_s: float = 0.0
    answers: Answers | None = None
    answers_old: Answers | None = None
    streaks: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    silent: str = ""
    background: Background[tuple[Answers | None, Answers | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.background = Background(self._both, 1, self.start, self.pace_s)

    def _both(self) -> tuple[Answers | None, Answers | None]:
        """Both colours at the same time: what hangs for both is waited for once."""
        old: list[Answers | None] = []
        beside = threading.Thread(target=lambda: old.append(self._old()), daemon=True)
        beside.start()
        live = self.live()
        beside.join()
        return live, old[0] if old else None

    def _old(self) -> Answers | None:
        """The old colour is only compared with: its silence is no answer, not an error."""
        try:
            return self.old() if self.old else None
        except EngineSilent:
            return None

    def look(self, now: float) -> None:
        """Ask once more; take in what was answered."""
        # Sooner while one fails, so that a no is soon sure.
        self.background.pace_s = min(self.pace_s, HURRY_S) if any(self.streaks.values()) else self.pace_s
        try:
            come = self.background.tick(now)
        except EngineSilent as error:
            self.silent, self.asked = str(error), self.asked + 1
            return
        for live, old in come:
            self.answers, self.answers_old = live, old
            self.silent, self.asked = "", self.asked + 1
            for name, answer in (self.answers or {}).items():
                failed = bad(answer, self.allowed_s)
                self.streaks[name] = self.streaks.get(name, 0) + 1 if failed else 0
                if answer.ms is not None:
                    self.evidence.sample(f"{name} ms", "live", answer.ms)

    def trouble_of_old(self) -> str:
        """Which dependency fails for the old colour now, in words; empty when all is well or nobody can say."""
        answers = self._old() or {}
        failing = [name for name, answer in answers.items() if bad(answer, self.allowed_s)]
        return (
            f"dependency {failing[0]} fails for the old colour too ({_said(answers[failing[0]])})"
            if failing
            else ""
        )


@dataclass(slots=True)
class DependencyQuestion:
    """One dependency of those that *asker* asks; the first one asks for all."""

    dependency: str
    asker: Asker
    asks: bool = False
    every_s: float = 0.5

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"dependency {self.dependency}"

    @property
    def asked(self) -> int:
        """How often they were asked."""
        return self.asker.asked

    def tick(self, now: float) -> None:
        """Ask once more."""
        if self.asks:
            self.asker.look(now)

    def verdict(self) -> Verdict:
        """The judgement of the last answers."""
        asker, name = self.asker, self.dependency
        if asker.silent:
            return unknown(self.name, asker.silent)
        if not asker.asked:
            return not_asked(self.name, "not answered yet")
        live, old = ((found or {}).get(name) for found in (asker.answers, asker.answers_old))
        return judge_dependency(name, asker.streaks.get(name, 0), live, old, asker.allowed_s)


def questions(wanted: Sequence[Dependency], asker: Asker) -> list[DependencyQuestion]:
    """One question for each dependency."""
    return [DependencyQuestion(each.name, asker, asks=index == 0) for index, each in enumerate(wanted)]
