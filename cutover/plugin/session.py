"""The session with a target: what is known of it, for the hooks and fixtures that take it on its way."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cutover import saying
from cutover.core import config as settings_module
from cutover.core import result
from cutover.core.config import Settings
from cutover.core.errors import ConfigError, EngineUnavailable, Locked, OperatorNeeded
from cutover.core.evidence import Evidence
from cutover.plugin import console, options, output
from cutover.plugin.checklist import Checklist
from cutover.plugin.opening import only_urls, report_folder, require_places, settings_for
from cutover.plugin.required import Asked
from cutover.plugin.signals import Signals
from cutover.report.terminal import refused_lines
from cutover.target import Target
from cutover.walk import Walk
from cutover.wish import ReleaseRequest

if TYPE_CHECKING:
    from cutover.watch.loop import WatchResult


@dataclass(repr=False, eq=False)
class Run:
    """One pytest session with a target."""

    config: pytest.Config
    request: ReleaseRequest
    settings: Settings | None
    folder: Path
    evidence: Evidence
    walk: Walk | None
    console: console.Console
    checklist: Checklist = field(default_factory=Checklist)
    targets: dict[Asked, Target] = field(default_factory=dict)
    observed: WatchResult | None = None
    session: pytest.Session | None = None
    stage_begun: float = field(default_factory=time.monotonic)
    begun: bool = False
    refused: list[str] = field(default_factory=list)
    """The last lines of a session that was not begun."""
    ended: saying.Ended | None = None
    signals: Signals = field(default_factory=Signals)

    @classmethod
    def of(cls, config: pytest.Config, request: ReleaseRequest) -> Run:
        """A session for *wish*: its settings read, its report folder named; raises UsageError."""
        try:
            settings = settings_for(config, request)
            folder = report_folder(settings, request)
            require_places(config)
        except ConfigError as problem:
            raise pytest.UsageError(str(problem)) from problem
        evidence = Evidence(file=None)
        terminal = console.Console(config)
        # A URL is asked where no color of ours exists: nothing is rendered, locked or reverted for it.
        walk = (
            Walk(settings, request, evidence, terminal.step) if settings and not only_urls(request) else None
        )
        if config.option.xmlpath is None:
            config.option.xmlpath = str(folder / "junit.xml")
        if getattr(config.option, "htmlpath", "none here") is None:
            config.option.htmlpath = str(folder / "report.html")
            config.option.self_contained_html = True
        run = cls(config, request, settings, folder, evidence, walk, terminal)
        if walk is not None and options.LOCK in config.stash:
            walk.hold(config.stash[options.LOCK])
            del config.stash[options.LOCK]
        run.checklist.whole = not options.is_selected(config)
        evidence.fact("command", "pytest " + shlex.join(config.invocation_params.args))
        return run

    def open(self) -> None:
        """Let hooks take the session on its way; one that only looks is none that could end."""
        from cutover.plugin.collecting import Collecting
        from cutover.plugin.ending import Ending
        from cutover.plugin.running import Running

        parts: list[object] = [Collecting(self)]
        if not options.only_looks(self.config):
            running = Running(self)
            parts += [running, running.timer, Ending(self, running)]
            output.last()
            self.config.add_cleanup(output.end)
            self.signals.catch()
        for part in parts:
            self.config.pluginmanager.register(part, f"cutover-{type(part).__name__.lower()}")

    def close(self) -> None:
        """Let the lock and the signals go; a session that was refused leaves no report behind."""
        if not self.begun and self.ended is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.walk is not None:
            self.walk.unlock()
        self.signals.restore()

    def require_settings(self) -> Settings:
        """The settings; for a URL without a cutover.toml the defaults."""
        return self.settings or settings_module.url_config()

    def watch_seconds(self) -> float:
        """How long the watch is to be."""
        if self.request.watch_s is not None:
            return self.request.watch_s
        return self.settings.watch.duration if self.settings else 0.0

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """End the session with what refuses it: one line and its exit code, and nothing changed."""
        try:
            yield
        except Locked as locked:
            self.refused = refused_lines("LOCKED", str(locked), result.LOCKED, self.console.look)
            raise pytest.exit.Exception(str(locked), returncode=result.LOCKED) from locked
        except OperatorNeeded as lost:
            self.refused = refused_lines(
                "ROLLBACK FAILED", str(lost), result.NEEDS_OPERATOR, self.console.look
            )
            raise pytest.exit.Exception(str(lost), returncode=result.NEEDS_OPERATOR) from lost
        except ConfigError as problem:
            raise pytest.UsageError(str(problem)) from problem
        except EngineUnavailable as silent:
            raise pytest.UsageError(str(silent)) from silent
