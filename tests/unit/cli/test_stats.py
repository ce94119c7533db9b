"""`cutover stats`: the four measures from rows of a journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cutover.cli.operations import recover_command
from cutover.cli.reports import journal_command
from cutover.cli.status import delivery_stats, stats_command, stats_lines, status_command
from cutover.core.errors import ConfigError
from cutover.core.text import seconds_of

Row = dict[str, Any]
NOW = seconds_of("2026-01-11T00:00:00Z")


def release(
    name: str, day: int, minutes: int, event: str, failed: int | None = None, **facts: Any
) -> list[Row]:
    """The journal of one release that ended after *minutes*."""
    begin, end = f"2026-01-{day:02}T10:00:00.000Z", f"2026-01-{day:02}T10:{minutes:02}:00.000Z"
    return [
        {"at": begin, "event": "open", "release": name, "who": "ana"},
        {"at": end, "event": event, "release": name, **facts},
        {"at": end, "event": "end", "release": name, "word": "x", "code": 0, "failed_requests": failed},
    ]


ROWS = [
    *release("a", 1, 10, "released"),
    *release("b", 3, 20, "released"),
    *release("c", 5, 4, "reverted", 7, why="1 check failed: ready"),
    *release("d", 6, 6, "recovered"),
    *release("e", 8, 30, "released", 2),
    {"at": "2026-01-09T10:00:00.000Z", "event": "rolled back", "release": "f", "tag": "sha-1"},
]


def test_the_four_measures() -> None:
    """Frequency, lead time, failure rate and time to restore; reasons and users' failed requests."""
    found = delivery_stats(ROWS, NOW - 10 * 86400, NOW)
    assert (found.released, found.failed, found.rolled_back, found.unverified) == (3, 2, 1, 0)
    assert (found.days, found.releases_per_day, found.change_failure_rate) == (10.0, 0.3, 0.6)
    assert (found.lead_time_s, found.restore_s, found.failed_requests) == (1200.0, 300.0, 9)
    assert found.reasons == (("1 check failed: ready", 1), ("no reason in the journal", 1))
    assert stats_lines(found) == [
        "period                10 days, 5 releases",
        "deployment frequency  0.3 a day (3 kept)",
        "lead time             20 min, from the start of a release to its commit",
        "change failure rate   60%: 2 reverted, 1 rolled back later, 0 kept unverified",
        "time to restore       5 min, from the start of a release to its revert",
        "failed requests       9 of users, as far as recorded",
        "  1 × 1 check failed: ready",
        "  1 × no reason in the journal",
    ]


@pytest.mark.parametrize(
    ("since_days", "released", "failed", "rate"),
    [(10, 3, 2, 0.6), (4, 1, 0, 1.0), (2.5, 0, 0, None), (0.5, 0, 0, None)],
)
def test_only_what_ended_in_the_period_counts(
    since_days: float, released: int, failed: int, rate: float | None
) -> None:
    """A release belongs to the moment of its end; without releases there is no rate."""
    found = delivery_stats(ROWS, NOW - since_days * 86400, NOW)
    assert (found.released, found.failed, found.change_failure_rate) == (released, failed, rate)


def test_an_empty_or_damaged_journal_is_said() -> None:
    """Rows without time or release neither count nor break."""
    found = delivery_stats([{"event": "released"}, {"at": "x"}, {}], 0.0, NOW)
    assert stats_lines(found) == ["no release ended in this period"]


def test_the_command_prints_json(tmp_path: Path) -> None:
    """`--json` has every measure; a wrong --since is one line."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = tmp_path / "cutover.toml"
    config.write_text('project = "p"\nstate_dir = "state"\n[colors.blue]\nenv_file = ".env"\n')
    done = CliRunner().invoke(stats_command, ["--cutover-config", str(config), "--json"])
    assert json.loads(done.output)["released"] == 3
    wrong = CliRunner().invoke(stats_command, ["--cutover-config", str(config), "--since=30"])
    assert str(wrong.exception).startswith("--since: '30' is no duration")


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (stats_command, "journal.jsonl"),
        (journal_command, "journal.jsonl"),
        (recover_command, "open"),
        (recover_command, "journal.jsonl"),
        (status_command, "open"),
        (status_command, "session.lock"),
        (status_command, "journal.jsonl"),
    ],
)
def test_a_state_directory_that_cannot_be_read_is_exit_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: click.Command, file: str
) -> None:
    """Neither a traceback nor "nothing is open": the folder, the file and the reason are named."""
    (tmp_path / "state" / file).mkdir(parents=True)
    config = tmp_path / "cutover.toml"
    config.write_text('project = "p"\nstate_dir = "state"\n[colors.blue]\nenv_file = ".env"\n')
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    error = CliRunner().invoke(command, ["--cutover-config", str(config)]).exception
    assert isinstance(error, ConfigError)
    said = f"state directory {tmp_path}/state cannot be read: Is a directory ({tmp_path}/state/{file}); "
    assert str(error).startswith(said)
