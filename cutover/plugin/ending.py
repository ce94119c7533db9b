"""The end of a session: keep or revert, the files of its report, its last lines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutover import finishing, saying
from cutover.core import result
from cutover.plugin.running import Running
from cutover.plugin.session import Run
from cutover.report.write import write_job_summary, write_report


@dataclass(repr=False, eq=False)
class Ending:
    """The outermost hook around all other ends."""

    run: Run
    running: Running

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:  # noqa: ARG002  # pytest's signature
        """Keep or revert: before the reports are written when it is a no, after all else when it is a yes."""
        run = self.run
        if not run.begun:
            yield
            run.console.refuse(run.refused)
            return
        run.signals.ignore()
        self.running.tell_stage()
        tally = self._tally(int(session.exitstatus))
        if not result.is_verified(tally):
            self._end(session, tally)
        broken: BaseException | None = None
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # whatever another plugin does, this release has an end
            broken = error
        code = result.INTERNAL if broken is not None else int(session.exitstatus)
        ended = self._end(session, self._tally(code))
        self._report(ended)
        if broken is not None:
            text = f"a plugin broke the end of the session: {type(broken).__name__}: {broken}"
            raise pytest.exit.Exception(text, returncode=ended.code)

    def _tally(self, pytest_exit: int) -> result.Outcomes:
        """What was required and what came of it."""
        walk = self.run.walk
        return self.run.checklist.tally(self.run.request, pytest_exit, walk.trouble_outcome if walk else None)

    def _end(self, session: pytest.Session, tally: result.Outcomes) -> saying.Ended:
        """Keep or revert, once."""
        run = self.run
        if run.ended is None:
            whole, plan = run.checklist.whole, run.config.option.plan
            run.ended = finishing.finish(run.walk, run.request, run.evidence, tally, whole=whole, plan=plan)
        session.exitstatus = run.ended.code
        return run.ended

    def _report(self, ended: saying.Ended) -> None:
        """Write the files of the report, and the last lines below pytest's own summary."""
        run = self.run
        with self._telling("the report"):
            files = saying.release_files(run.walk)
            write_report(run.folder, run.evidence, ended.ending, run.checklist.unasked, files)
        with self._telling("the last lines"):
            run.console.ending(ended.ending, run.evidence, run.checklist.unasked)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        with self._telling("the job summary"):
            if summary:
                write_job_summary(Path(summary), run.evidence, ended.ending)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from cutover.report.github import error_lines

            run.console.lines(error_lines(run.evidence, ended.ending))

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """What cannot be written is said in one line: the release has its end, and the exit code stays true."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is, it is no verdict on a service
            self.run.console.lines([f"warning: {what} could not be written: {type(error).__name__}: {error}"])
