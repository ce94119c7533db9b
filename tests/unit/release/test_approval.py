"""The run of show: its times, its question, and who may say go."""

from __future__ import annotations

import io
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cutover.core.config import Settings
from cutover.release import plan

AT = datetime(2025, 9, 4, 16, 10, tzinfo=UTC)


def settings(**of_show: Any) -> Settings:
    """Settings with a `[approval]`."""
    return Settings.model_validate(
        {"project": "recall", "colors": {"blue": {"env_file": Path("b")}}, "approval": of_show}
    )


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("", "16:10 UTC"),
        ("Asia/Tokyo", "16:10 UTC (01:10 JST on Fri 5 Sep)"),
        ("Europe/Berlin", "16:10 UTC (18:10 CEST)"),
        ("America/New_York", "16:10 UTC (12:10 EDT)"),
    ],
)
def test_shows_local_time_beside_utc(zone: str, expected: str) -> None:
    """Both times stand side by side, the local date too where it is another one."""
    assert plan.both_times(AT, ZoneInfo(zone) if zone else None) == expected


def test_lists_the_moments_with_their_owners() -> None:
    """Each moment of the runbook has its time, what happens then, and whose it is."""
    given = settings(time_zone="Asia/Tokyo", owners={"T-0": "ana", "T-15m": "bo"})
    assert plan.timetable(given.approval, AT) == [
        "T-15m  15:55 UTC (00:55 JST on Fri 5 Sep)  bo: preflight, snapshot, rehearsal on the restored copy",
        "T-10m  16:00 UTC (01:00 JST on Fri 5 Sep)  migrate, deploy to the idle color, gate",
        "T-0    16:10 UTC (01:10 JST on Fri 5 Sep)  ana: go/no-go, switch, proof, gate again, drain",
        "T+15m  16:25 UTC (01:25 JST on Fri 5 Sep)  watch, keep warm or retire, notice",
    ]


@pytest.mark.parametrize(
    ("of_show", "expected"),
    [
        ({"time_zone": "Asia/Tokio"}, "this host knows no time zone 'Asia/Tokio'; write it like Asia/Tokyo"),
        ({"time_zone": "../x"}, "this host knows no time zone '../x'"),
        ({"owners": {"T-5m": "bo"}}, "'T-15m', 'T-10m', 'T-0' or 'T+15m'"),
    ],
)
def test_names_a_slip_before_anything_happens(of_show: dict[str, Any], expected: str) -> None:
    """A time zone or a moment that does not exist is an error of the configuration."""
    with pytest.raises(ValueError, match=re.escape(expected)):
        settings(**of_show)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("yes\nyes\ngo\n", plan.ApprovalAnswer(go=True, why="go, 2 prerequisites confirmed")),
        ("Y\nYES\ny\n", plan.ApprovalAnswer(go=True, why="go, 2 prerequisites confirmed")),
        ("yes\nno\nyes\n", plan.ApprovalAnswer(go=False, why="not confirmed: backups confirmed by ana")),
        ("yes\nyes\nnot now\n", plan.ApprovalAnswer(go=False, why="a person said 'not now'")),
        ("yes\n\nyes\n", plan.ApprovalAnswer(go=False, why="not confirmed: backups confirmed by ana")),
        ("yes\nyes\n", plan.ApprovalAnswer(go=False, why="nobody answered")),
        ("", plan.ApprovalAnswer(go=False, why="nobody answered (staging passed)")),
    ],
)
def test_goes_on_only_for_yes_to_everything(answers: str, expected: plan.ApprovalAnswer) -> None:
    """Each prerequisite is asked for, and silence, an end of input or another word is a no."""
    given = settings(prerequisites=["staging passed", "backups confirmed by ana"])
    shown = io.StringIO()
    assert plan.ask_each(["lines"], given.approval.prerequisites, io.StringIO(answers), shown) == expected
    assert shown.getvalue().startswith("\nlines\nstaging passed: confirmed? [yes/no] ")


def test_says_what_is_asked_for() -> None:
    """The question names service, color, release, time, who decides, and what has to be true."""
    given = settings(prerequisites=["backups confirmed"], owners={"T-0": "ana"})
    assert plan.approval_lines(given, "green", "sha-2", AT) == [
        "T-0    16:10 UTC: switch recall to green, sha-2",
        "       decides: ana",
        "       1. backups confirmed",
    ]


@pytest.mark.parametrize(
    ("approved", "expected"),
    [
        (
            "sha-2",
            plan.ApprovalAnswer(go=True, why="go for sha-2, approved before (CUTOVER_APPROVED_TAG)"),
        ),
        ("sha-1", plan.ApprovalAnswer(go=False, why="CUTOVER_APPROVED_TAG approves sha-1, not sha-2")),
        ("", plan.ApprovalAnswer(go=False, why="CUTOVER_APPROVED_TAG approves nothing, not sha-2")),
    ],
)
def test_takes_an_approval_for_one_release_only(approved: str, expected: plan.ApprovalAnswer) -> None:
    """An approval of a job names the release that it is for."""
    assert plan.ask_approval(settings(), "green", "sha-2", {"CUTOVER_APPROVED_TAG": approved}) == expected


def test_does_not_wait_for_ever() -> None:
    """A person who never answers has said no."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write, "w"):
        assert plan.read_answer(stdin, patience_s=0.01) is None
