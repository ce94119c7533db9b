"""Notices by a team's own command."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cutover.core.config import Settings
from cutover.core.masking import MASK
from cutover.release.notify import HookEvent, hook_variables, run_hook

if TYPE_CHECKING:
    from pathlib import Path

NOTICE = HookEvent("released", "recall runs sha-2", "sha-2", "sha-1", "green", "ana@runner", "reports/x", 0)


def settings(folder: Path, *command: str, **more: Any) -> Settings:
    """Settings with a command for notices."""
    return Settings.model_validate(
        {
            "project": "recall",
            "colors": {"blue": {"env_file": folder / "b"}},
            "hooks": {"command": command, **more},
            "approval": {"time_zone": "Asia/Tokyo"},
            "source": folder / "cutover.toml",
        }
    )


def test_gives_the_facts_as_variables(tmp_path: Path) -> None:
    """The command gets all facts, the caller's own variables, and runs beside cutover.toml."""
    given = settings(tmp_path, "sh", "-c", "env > told")
    assert run_hook(given, NOTICE, {**os.environ, "CHAT_URL": "https://chat.example/hook"}) is None
    told = dict(line.split("=", 1) for line in (tmp_path / "told").read_text().splitlines() if "=" in line)
    assert {
        key: told[key] for key in hook_variables(given, NOTICE, datetime.now(UTC)) if "TIME" not in key
    } == {
        "CUTOVER_EVENT": "released",
        "CUTOVER_PROJECT": "recall",
        "CUTOVER_TEXT": "recall runs sha-2",
        "CUTOVER_FROM": "sha-1",
        "CUTOVER_TO": "sha-2",
        "CUTOVER_COLOR": "green",
        "CUTOVER_WHO": "ana@runner",
        "CUTOVER_REPORT": "reports/x",
        "CUTOVER_EXIT_CODE": "0",
    }
    assert told["CHAT_URL"] == "https://chat.example/hook"


def test_tells_both_times(tmp_path: Path) -> None:
    """A reader far away needs no arithmetic."""
    told = hook_variables(settings(tmp_path, "true"), NOTICE, datetime(2025, 9, 4, 16, 10, tzinfo=UTC))
    assert [told[f"CUTOVER_{key}"] for key in ("TIME_UTC", "TIME_LOCAL", "TIMES")] == [
        "2025-09-04T16:10:00+00:00",
        "2025-09-05T01:10:00+09:00",
        "16:10 UTC (01:10 JST on Fri 5 Sep)",
    ]


@pytest.mark.parametrize(
    ("command", "budget", "expected"),
    [
        (["sh", "-c", "echo no chat >&2; exit 3"], "10s", "the notice 'released' was not sent: no chat"),
        (
            ["/nowhere/chat"],
            "10s",
            "the notice 'released' was not sent: /nowhere/chat: No such file or directory",
        ),
        (["sleep", "60"], "50ms", "the notice 'released' was not sent: sleep 60 …: no end after 0.05 s"),
    ],
)
def test_reports_what_was_not_sent(tmp_path: Path, command: list[str], budget: str, expected: str) -> None:
    """A notice that fails, cannot start or hangs is one line, and nothing else."""
    assert run_hook(settings(tmp_path, *command, budget=budget), NOTICE) == expected


def test_is_silent_about_other_events(tmp_path: Path) -> None:
    """Only the events that the team named start the command."""
    given = settings(tmp_path, "touch", "told", events=["operator_needed"])
    assert run_hook(given, NOTICE) is None
    assert not (tmp_path / "told").exists()


def test_tells_no_secret(tmp_path: Path) -> None:
    """What is masked in reports is masked in a chat too."""
    MASK.learn(["canary-notice"])
    told = hook_variables(
        settings(tmp_path, "true"), HookEvent("released", "with canary-notice"), datetime.now(UTC)
    )
    assert told["CUTOVER_TEXT"] == "with ***"
