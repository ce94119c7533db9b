"""The checklist of one session: which tests are required, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from cutover.core.config import Settings
from cutover.core.result import Outcomes, Required
from cutover.core.verdict import Outcome
from cutover.plugin.required import GATE, THROUGH_PROXY, WATCH, Row, stage_of, why_not
from cutover.wish import ReleaseRequest


@dataclass(slots=True)
class Checklist:
    """The tests of a session by their node id."""

    rows: dict[str, Row] = field(default_factory=dict)
    unasked: dict[str, list[str]] = field(default_factory=dict)
    """Why not -> the tests that cannot be asked."""
    whole: bool = True
    """Whether nothing picked among the tests, so that a pass is a proof."""

    def take(self, item: pytest.Item, settings: Settings | None) -> bool:
        """Require *item*; False for one that cannot be asked here, which is noted."""
        why = why_not(item, settings)
        if why:
            self.unasked.setdefault(why, []).append(item.nodeid)
        else:
            self.rows[item.nodeid] = Row(stage_of(item))
        return not why

    def leave_out(self, nodeid: str, why: str) -> None:
        """Do not count the required test *nodeid*; it is listed as not asked, with the reason *why*."""
        self.rows[nodeid].not_asked = why
        self.unasked.setdefault(why, []).append(nodeid)

    def not_yes(self, before: int) -> list[str]:
        """The tests of the stages before that one which did not say yes."""
        return [
            name
            for name, row in self.rows.items()
            if row.stage < before and not row.not_asked and row.outcome is not Outcome.YES
        ]

    def said(self, stage: int) -> Mapping[str, Row]:
        """The tests of *stage* that said something."""
        return {
            name: row
            for name, row in self.rows.items()
            if row.stage == stage and row.outcome is not None and not row.not_asked
        }

    def tally(self, request: ReleaseRequest, pytest_exit: int, trouble: Outcome | None) -> Outcomes:
        """What was required and what came of it."""
        required = [
            Required(name, row.stage, row.outcome) for name, row in self.rows.items() if not row.not_asked
        ]
        stages = {GATE} | ({THROUGH_PROXY, WATCH} if request.switch else set())
        if not request.changes_something:
            stages = {each.stage for each in required} or {GATE}
        return Outcomes(required, pytest_exit, frozenset(stages), trouble)
