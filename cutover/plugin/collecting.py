"""What is required of a session: each test for each target, those that can be asked, in the order of stages."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import pytest

from cutover.core.text import count
from cutover.plugin import limits, options
from cutover.plugin.required import GATE, WATCH, Asked, stage_of
from cutover.plugin.session import Run


@dataclass(repr=False, eq=False)  # pytest keeps plugins in sets where folders have conftests of their own
class Collecting:
    """Hooks from the options to the first test."""

    run: Run

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each target, endpoint and watched question."""
        names, settings = metafunc.fixturenames, self.run.settings
        if "target" in names:
            asked = self._asked(watching="watch_result" in names)
            metafunc.parametrize(
                "target", asked, indirect=True, scope="session", ids=[each.name for each in asked]
            )
        if "endpoint" in names and settings is not None:
            labels = [each.label for each in settings.endpoints]
            metafunc.parametrize("endpoint", settings.endpoints, indirect=True, ids=labels)
        if "watch_check_name" in names and settings is not None:
            from cutover.watch.suite import check_names

            metafunc.parametrize("watch_check_name", check_names(settings), indirect=True)

    def _asked(self, *, watching: bool) -> list[Asked]:
        """The targets that a test is asked for: with --switch both before and after, the watch only after."""
        request = self.run.request
        after = [Asked("live", after_switch=True)] if request.switch else []
        return after if watching and after else [*(Asked(name) for name in request.targets), *after]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """With --plan nothing is collected."""
        if not session.config.option.plan:
            return None
        session.items = []
        session.testscollected = 0
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Take out what cannot be asked, and sort by stage, whatever the order of paths."""
        collected = [item.nodeid for item in items]
        yield
        left = {item.nodeid for item in items}
        self._refuse_selection([each for each in collected if each not in left])
        run = self.run
        items[:] = sorted((each for each in items if run.checklist.take(each, run.settings)), key=stage_of)
        longest = run.settings.release_timeout if run.settings and run.request.changes_something else 0.0
        limits.limit(items, longest, run.watch_seconds())
        lacking = {GATE, WATCH} - {stage_of(item) for item in items}
        if lacking and run.request.switch and not options.only_looks(run.config):
            raise pytest.UsageError("--switch needs a gate and a watch: name smoke and checks")

    def _refuse_selection(self, lost: list[str]) -> None:
        """Whoever took tests out, a plugin or a conftest, made a whole checklist a part of one."""
        if not lost:
            return
        self.run.checklist.whole = False
        if self.run.request.changes_something and not options.only_looks(self.run.config):
            raise pytest.UsageError(
                f"{count(len(lost), 'check')} deselected by a plugin or a conftest, {lost[0]}: "
                "a release is decided by a whole checklist"
            )
