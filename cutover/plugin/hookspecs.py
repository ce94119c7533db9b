"""The hooks that other pytest plugins may implement to follow a release, and how they are called.

They only observe. They run one after another in a thread of their own, so that a slow hook delays no step of a
release, and a hook that raises, exits or hangs changes no verdict: the session names it in one line at its end.
Known secrets are masked in all values.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from cutover.core.evidence import Check, Step
    from cutover.core.result import SessionResult

END_BUDGET_S = 10.0


def pytest_cutover_stage(config: pytest.Config, step: Step) -> None:
    """Called when a step of the release has ended, like `deploy green`, `smoke[idle]`, `switch`, `watch` or `undo`.

    `step` has `moment`, `name`, `text`, `outcome` (`yes`, `no` or `unknown`), `seconds`, and `at`, the time of its end.
    """


def pytest_cutover_verdict(config: pytest.Config, check: Check) -> None:
    """Called for each recorded verdict, also for those of the release itself, like `deploy::up`.

    `check` has `id`, `test`, `target`, `stage` (0 gate, 1 through the proxy, 2 watch), `verdict`, `seconds`, and `at`.
    """


def pytest_cutover_end(config: pytest.Config, result: SessionResult) -> None:
    """Called once when the release was kept or reverted. A refused session (exit codes 4 and 12) has no end.

    `result` has `status`, `exit_code`, `project`, `running` (what each color runs), `reasons`, and what users saw.
    """


def pytest_cutover_report(config: pytest.Config, folder: Path, result: SessionResult) -> None:
    """Called last, when `report.html`, `junit.xml` and `evidence.jsonl` are complete in `folder`."""


Values = Mapping[str, Any]


@dataclass(repr=False, eq=False)
class HookCalls:
    """Calls the hooks above in the order of the events; the thread starts with the first event that has a hook."""

    config: pytest.Config
    budget_s: float = END_BUDGET_S
    _events: queue.SimpleQueue[tuple[str, Values] | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _running: str = ""
    _failed: dict[str, str] = field(default_factory=dict)

    def call(self, event: str, **values: Any) -> None:
        """Call the hook `pytest_cutover_<event>` with *values*, soon."""
        name = f"pytest_cutover_{event}"
        if not getattr(self.config.hook, name).get_hookimpls():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._call_all, name="cutover-hooks", daemon=True)
            self._thread.start()
        self._events.put((name, values))

    def close(self) -> Sequence[str]:
        """Wait for the calls, for a limited time; one line for each hook that failed or has not returned."""
        if self._thread is None:
            return []
        self._events.put(None)
        self._thread.join(self.budget_s)
        late = f"{self._running} has not returned after {self.budget_s:g} s"
        told = [*self._failed.values(), *([late] if self._thread.is_alive() else [])]
        return [f"warning: {line}; the release does not depend on it" for line in told]

    def _call_all(self) -> None:
        for name, values in iter(self._events.get, None):
            plugins = [each.plugin for each in getattr(self.config.hook, name).get_hookimpls()]
            for plugin in plugins:
                self._call(name, plugin, [each for each in plugins if each is not plugin], values)

    def _call(self, name: str, plugin: object, others: Sequence[object], values: Values) -> None:
        """Call the hook of one plugin, so that its failure does not keep the event from the next one."""
        from cutover.core.masking import MASK
        from cutover.core.verdict import shortened

        manager = self.config.pluginmanager
        self._running = where = f"{name} of the plugin {manager.get_name(plugin)}"
        try:
            masked = {key: _masked(each) for key, each in values.items()}
            manager.subset_hook_caller(name, others)(config=self.config, **masked)
        except BaseException as error:  # noqa: BLE001  # pytest.fail and SystemExit are no Exception
            why = MASK(shortened(f"{type(error).__name__}: {error}"))
            self._failed.setdefault(where, f"{where} failed: {why}")


def _masked(value: Any) -> Any:
    """*value* for a hook: a check or a result as a copy without known secrets."""
    from cutover.core.evidence import Check
    from cutover.core.masking import MASK
    from cutover.core.result import SessionResult, result_from_json
    from cutover.core.verdict import Verdict

    if isinstance(value, Check):
        row: Any = MASK.within(value.verdict.as_json())
        verdict = Verdict(**row | {"outcome": value.verdict.outcome})
        return replace(value, test=MASK(value.test), verdict=verdict)
    if isinstance(value, SessionResult):
        row = MASK.within(value.as_json())
        return result_from_json(row | {"status": value.status})
    return value
