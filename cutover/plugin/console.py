"""Where the session's lines go: above pytest's own summary, live, whatever is captured."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cutover.core.evidence import Evidence, Step
from cutover.core.text import near
from cutover.core.verdict import Outcome
from cutover.report import terminal

if TYPE_CHECKING:
    from cutover.core.result import SessionResult
    from cutover.core.verdict import Verdict
    from cutover.walk import Walk
from cutover.wish import ReleaseRequest

GATE, THROUGH_PROXY = 0, 1


def look() -> terminal.Look:
    """What the process's own terminal can show."""
    tty = sys.__stdout__ is not None and sys.__stdout__.isatty()
    encoding = getattr(sys.__stdout__, "encoding", None)
    columns = shutil.get_terminal_size().columns if tty else 0
    return terminal.terminal_look(os.environ, tty=tty, encoding=encoding, columns=columns)


@dataclass
class Console:
    """Writes lines to pytest's terminal; a closed pipe is no reason to stop a revert."""

    config: pytest.Config
    moment: str = ""
    shown: set[int] = field(default_factory=set)
    _progress: bool = False

    @property
    def look(self) -> terminal.Look:
        """What the terminal can show."""
        return look()

    def quiet(self) -> None:
        """Without -v pytest's own "smoke/test_ready.py ... [ 20%]" would stand in the middle of our lines."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and self.config.get_verbosity() <= 0:
            reporter.showfspath = False
            reporter._show_progress_info = False  # noqa: SLF001  # no public switch but an ini file
            self.config.option.no_header = True  # the first line says what a release is about; -v has both

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        capture = self.config.pluginmanager.getplugin("capturemanager")
        suspended = capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext()
        with contextlib.suppress(OSError, ValueError), suspended:
            if reporter is not None:
                yield reporter
                return
        if reporter is None:
            yield None

    def lines(self, lines: Sequence[str]) -> None:
        """Write *lines*, each on a line of its own."""
        with contextlib.suppress(OSError, ValueError, RuntimeError), self._open() as reporter:
            if reporter is None:
                return
            self._clear(reporter)
            reporter.ensure_newline()
            for line in lines:
                reporter.write_line(line)

    def _clear(self, reporter: Any) -> None:
        if self._progress:
            reporter.write("\r\x1b[K")
            self._progress = False

    def refuse(self, lines: Sequence[str]) -> None:
        """The last lines of a session that was not begun, in place of pytest's own on one line of exclamation marks."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        if lines and reporter is not None:
            reporter._keyboardinterrupt_memo = None  # noqa: SLF001  # it would say the same again, below us
        self.lines(lines)

    def greet(self, walk: Walk, folder: Path) -> None:
        """The first line: what is released where, from which to which, by whom."""
        request, target = walk.request, walk.target
        where = target.color or target.name if len(request.targets) == 1 else ", ".join(request.targets)
        who = terminal.Who(
            walk.settings.project, where, walk.from_tag or "", request.deploy or target.tag or "",
            str(walk.evidence.facts.get("who", "")), f"{near(folder)}{os.sep}",
        )  # fmt: skip
        self.lines([terminal.first_line(who, self.look)])

    def step(self, moment: str, name: str, text: str, seconds: float, outcome: str) -> None:
        """One line of the run of show."""
        row = Step(moment, name, text, seconds, 0.0, outcome)
        self.lines(terminal.step_lines(row, self.look, moment=moment != self.moment))
        self.moment = moment

    def stage(
        self, stage: int, request: ReleaseRequest, rows: Mapping[str, Any], seconds: float, evidence: Evidence
    ) -> None:
        """`smoke[green]  14 passed  0.7 s`, said and kept."""
        if stage > THROUGH_PROXY:
            return
        counts = {
            word: sum(1 for row in rows.values() if str(row.outcome) == word)
            for word in ("yes", "no", "unknown")
        }
        text = ", ".join(f"{number} {Outcome(word).counted}" for word, number in counts.items() if number)
        outcome = "no" if counts["no"] else "unknown" if counts["unknown"] else "yes"
        name = f"smoke[{'live' if stage == THROUGH_PROXY else request.targets[0].split('://')[-1]}]"
        moment = (
            "T-10m"
            if stage == GATE and request.changes_something
            else "T-0"
            if request.changes_something
            else ""
        )
        evidence.step(moment, name, text, seconds, outcome)
        self.step(moment, name, text, seconds, outcome)

    def progress(self, left: float, total: float, verdicts: dict[str, Verdict]) -> None:
        """The watch's line: rewritten in place on a terminal, once a minute in a log."""
        line = terminal.watch_line(left, total, verdicts, self.look)
        if sys.__stdout__ is not None and sys.__stdout__.isatty():
            with contextlib.suppress(OSError, ValueError, RuntimeError), self._open() as reporter:
                if reporter is not None:
                    reporter.write("\r\x1b[K" + line)
                    self._progress = True
            return
        minute = int(left // 60)
        if minute not in self.shown:
            self.shown.add(minute)
            self.lines([line])

    def end_progress(self) -> None:
        """Leave the progress line behind."""
        self.shown.clear()

    def ending(self, result: SessionResult, evidence: Evidence, unasked: Mapping[str, Sequence[str]]) -> None:
        """The last lines, below pytest's own summary."""
        look = self.look
        notable = terminal.notable_lines(evidence.checks, result, look)
        not_asked = terminal.not_asked_lines(
            [(test, why) for why, tests in unasked.items() for test in tests], look
        )
        self.lines(["", *notable, *not_asked, *terminal.last_lines(result, look)])
