"""The terminal of a session: its lines, closed pipes, signals."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cutover.core.evidence import Evidence, Step
from cutover.core.text import near
from cutover.report import terminal

if TYPE_CHECKING:
    from cutover.core.result import SessionResult
    from cutover.core.verdict import Verdict
    from cutover.release.colors import Situation

STREAMS = ("stdout", "stderr")
INTERRUPT = signal.SIGRTMIN + 7  # of our own, to ourselves; the first ones are used by C libraries
IGNORE_REPEATED_S = 15.0


def look_of_terminal() -> terminal.Look:
    """What the terminal of this process can show."""
    tty = sys.__stdout__ is not None and sys.__stdout__.isatty()
    encoding = getattr(sys.__stdout__, "encoding", None)
    columns = shutil.get_terminal_size().columns if tty else 0
    return terminal.terminal_look(os.environ, tty=tty, encoding=encoding, columns=columns)


@dataclass
class Console:
    """Writes lines to pytest's terminal, live, whatever is captured; errors of a closed terminal are ignored."""

    config: pytest.Config
    moment: str = ""
    _minutes: set[int] = field(default_factory=set)
    _progress: bool = False

    @property
    def _reporter(self) -> Any:
        return self.config.pluginmanager.getplugin("terminalreporter")

    def quiet(self) -> None:
        """Without -v, turn off pytest's header and its progress lines, which would interleave with ours."""
        if self._reporter is not None and self.config.get_verbosity() <= 0:
            self._reporter.showfspath = False
            self._reporter._show_progress_info = False  # noqa: SLF001  # no public switch but an ini file
            self.config.option.no_header = True  # our first line says what is released

    def lines(self, lines: Sequence[str], *, progress: bool = False) -> None:
        """Print *lines* in place of a progress line; with *progress* they are one themselves."""
        reporter, capture = self._reporter, self.config.pluginmanager.getplugin("capturemanager")
        suspended = capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext()
        if reporter is None:
            return
        with contextlib.suppress(OSError, ValueError), suspended:
            if progress or self._progress:
                reporter.write("\r\x1b[K")
            for line in lines:
                (reporter.write if progress else reporter.write_line)(line)
            self._progress = progress

    def leave_out_reports(self, folder: Path, *, refused: bool) -> None:
        """Before pytest's summary: leave out the files of *folder*, which will be deleted.

        Of a session that was *refused* nothing is summed up either: its reason is what a person reads last.
        """
        option, plugins = self.config.option, self.config.pluginmanager
        junit = plugins.get_plugin("junitxml")
        if junit is not None and _is_in(folder, option.xmlpath):
            junit.pytest_unconfigure(self.config)
        if _is_in(folder, getattr(option, "htmlpath", None)):
            for each in plugins.get_plugins():
                if type(each).__module__.startswith("pytest_html."):
                    plugins.unregister(each)
        if refused:
            option.verbose = min(option.verbose, -2)  # so quiet that pytest does not count what ran

    def refuse(self, lines: Sequence[str]) -> None:
        """Print the last lines of a session that was refused, in place of pytest's own line for its exit."""
        if lines and self._reporter is not None:
            self._reporter._keyboardinterrupt_memo = None  # noqa: SLF001  # pytest would print the same below
        self.lines(lines)

    def greet(self, situation: Situation, who: str) -> None:
        """Print the first line: project, color, old and new tag, and who releases."""
        request, target = situation.request, situation.target
        where = target.color or target.name if len(request.targets) == 1 else ", ".join(request.targets)
        before = situation.before.tag or ""
        line = terminal.Who(situation.settings.project, where, before, situation.tag, who)
        self.lines([terminal.first_line(line, look_of_terminal())])

    def report_at(self, folder: Path) -> None:
        """Print where the report will be, once it is sure that there is one."""
        step = Step("", "report", f"{near(folder)}{os.sep}", 0.0, 0.0, "")
        self.lines(terminal.step_lines(step, look_of_terminal()))

    def step(self, step: Step) -> None:
        """Print one step of the release."""
        self.lines(terminal.step_lines(step, look_of_terminal(), moment=step.moment != self.moment))
        self.moment = step.moment

    def progress(self, total: float, left: float, verdicts: Mapping[str, Verdict]) -> None:
        """Print the line of the watch: rewritten in place on a terminal, once a minute in a log."""
        line = terminal.watch_line(left, total, verdicts, look_of_terminal())
        on_terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
        if on_terminal or int(left // 60) not in self._minutes:
            self._minutes.add(int(left // 60))
            self.lines([line], progress=on_terminal)

    def ending(self, result: SessionResult, evidence: Evidence, unasked: Mapping[str, Sequence[str]]) -> None:
        """Print the last lines, below pytest's own summary."""
        look = look_of_terminal()
        notable = terminal.notable_lines(evidence.checks, result, look)
        pairs = ((test, why) for why, tests in unasked.items() for test in tests)
        self.lines(["", *notable, *terminal.not_asked_lines(pairs, look), *terminal.last_lines(result, look)])


def _is_in(folder: Path, path: str | None) -> bool:
    return bool(path) and Path(path or "").parent == folder


# --- closed pipes --------------------------------------------------------------------------------------------------
class LastingStream:
    """A stream that ignores EPIPE: a closed pipe must not fail a release. What is written afterwards is lost."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        """Every other attribute is that of the stream."""
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write *text*; it is lost after an error."""
        try:
            self.stream.write(text)
        except OSError:
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Flush; what is buffered is lost after an error."""
        try:
            self.stream.flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        # What is still buffered must go somewhere, or the last flush of the interpreter would change the exit code.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
            self.stream.flush()


def wrap_streams() -> None:
    """Wrap stdout and stderr as `LastingStream`; called before pytest's reporter takes one of them."""
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, LastingStream):
            setattr(sys, name, LastingStream(stream))


def unwrap_streams() -> None:
    """Flush stdout and stderr, and put back the original streams."""
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is not None:
            LastingStream(stream).flush()
        if isinstance(stream, LastingStream):
            setattr(sys, name, stream.stream)


# --- signals -------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class SignalHandlers:
    """Turns SIGINT, SIGTERM and SIGHUP into an orderly end of the session; nothing interrupts its revert."""

    _before: dict[int, Any] = field(default_factory=dict)
    _last: float = float("-inf")
    _why: Callable[[], str] | None = None
    """Why the body of `interruptible` is to be ended; None outside of one."""

    def catch(self) -> None:
        """Raise KeyboardInterrupt for each signal, also for a SIGINT that was inherited as ignored."""
        from cutover.system.process import ENDING_SIGNALS

        if threading.current_thread() is threading.main_thread():
            for number in ENDING_SIGNALS:
                self._before[number] = signal.signal(number, self._interrupt)
            self._before[INTERRUPT] = signal.signal(INTERRUPT, self._fail_now)

    @contextlib.contextmanager
    def interruptible(self, why: Callable[[], str]) -> Iterator[None]:
        """Let `interrupt` fail the body with the text of *why*; at once, if there is one already."""
        self._why = why
        try:
            self._fail_now()
            yield
        finally:
            self._why = None

    def interrupt(self) -> None:
        """Fail the body of `interruptible` from another thread; a call that blocks is interrupted."""
        if INTERRUPT in self._before:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)

    def _fail_now(self, _number: int = 0, _frame: object = None) -> None:
        why = self._why() if self._why is not None else ""
        if why:
            self._why = None  # once
            pytest.fail(why, pytrace=False)

    def _interrupt(self, number: int, _frame: object) -> None:
        # A second signal would interrupt pytest's teardown before the revert has begun. After a while it counts
        # again, because a test may have swallowed the first.
        now = time.monotonic()
        if now - self._last >= IGNORE_REPEATED_S:
            self._last = now
            raise KeyboardInterrupt(signal.Signals(number).name)

    def ignore(self) -> None:
        """Ignore the signals from now on."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
