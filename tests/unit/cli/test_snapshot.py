"""`cutover snapshot` on a SQLite database in a folder of this host: Compose is needed, a Docker engine is not."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cutover.cli.snapshot import snapshot_command
from cutover.core.errors import ConfigError
from tests.unit.database.sqlite_files import ROWS, count_memories, fill, run_sql

Run = Callable[..., Result]


@pytest.fixture
def live_file(tmp_path: Path) -> Path:
    """The live database."""
    (tmp_path / "volume").mkdir()
    return fill(tmp_path / "volume" / "recall.db")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Returns `cutover snapshot` with the configuration of the service."""
    (tmp_path / "compose.yml").write_text(
        "services: {api: {image: 'recall/api:sha-1', volumes: [./volume:/data]}}\n"
    )
    (tmp_path / ".env.blue").write_text("IMAGE_TAG=sha-1\n")
    config = tmp_path / "cutover.toml"
    config.write_text(
        f'project = "recall"\ncompose_file = "compose.yml"\nstate_dir = "{tmp_path}/state"\n'
        'colors.blue.env_file = ".env.blue"\n[database]\nsqlite = "/data/recall.db"\n'
    )

    def run_command(*argv: str) -> Result:
        name, *rest = argv
        words = (name, "--cutover-config", str(config), *rest)
        return CliRunner().invoke(snapshot_command, words, standalone_mode=False, catch_exceptions=False)

    return run_command


def test_create_list_and_restore(live_file: Path, run: Run) -> None:
    """A snapshot is created, listed as verified, and restored; the printed command undoes the restore."""
    assert "restored and compared: 2 tables" in run("create").output
    run_sql(live_file, "delete from memories")
    listed = json.loads(run("list", "--json").output)["snapshots"]
    assert [(each["verified"], each["rows"]) for each in listed] == [(True, ROWS + 1)]
    assert run("list").output.startswith(f"{listed[0]['file']}  ")
    done = json.loads(run("restore", "--yes", "--json").output)
    assert count_memories(live_file) == ROWS
    undo = shlex.split(done["undo"])
    assert undo[:3] == ["cutover", "snapshot", "restore"]
    assert run(*undo[2:]).exit_code == 0
    assert count_memories(live_file) == 0


@pytest.mark.parametrize("named", [False, True], ids=["the last one", "one by name"])
def test_a_dry_restore_changes_nothing(live_file: Path, run: Run, *, named: bool) -> None:
    """Without --yes the effect and the command that does it are printed; it restores that snapshot, also later."""
    run("create")
    name = json.loads(run("list", "--json").output)["snapshots"][0]["file"]
    run_sql(live_file, "delete from memories")
    dry = run("restore", *([name] if named else []))
    assert dry.exit_code == 0
    assert "memories: 0 rows now, 300 in the snapshot" in dry.output
    assert "nothing was changed" in dry.output
    assert count_memories(live_file) == 0
    to_do = shlex.split(dry.output.splitlines()[-1].split("to do it", 1)[1])
    assert name in to_do
    run("create")
    assert run(*to_do[2:]).exit_code == 0
    assert count_memories(live_file) == ROWS


def test_a_restore_names_its_owner(
    live_file: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a restore has who (from CUTOVER_WHO), what, since, pid and host."""
    monkeypatch.setenv("CUTOVER_WHO", "ana")
    run("create")
    assert run("restore", "--yes").exit_code == 0
    owner = json.loads((tmp_path / "state/owner.json").read_text())
    assert owner.pop("since")
    assert owner == {
        "who": f"ana@{socket.gethostname()}",
        "what": "a restore",
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }


@pytest.mark.parametrize("yes", [(), ("--yes",)])
def test_a_restore_and_its_undo_are_not_one(live_file: Path, run: Run, yes: tuple[str, ...]) -> None:
    """A snapshot beside --back would be left out without a word."""
    run("create")
    name = json.loads(run("list", "--json").output)["snapshots"][0]["file"]
    with pytest.raises(ConfigError, match=f"{name} with --back: a restore or its undo, not both"):
        run("restore", name, "--back", "recall_before_20261130_091020", *yes)
    assert count_memories(live_file) == ROWS


@pytest.mark.parametrize("broken", ["compose.yml", ".env.blue"])
def test_lists_snapshots_whatever_the_compose_file_says(
    live_file: Path, tmp_path: Path, run: Run, broken: str
) -> None:
    """An incident may have begun with it."""
    assert live_file.is_file()
    run("create")
    before = run("list").output
    (tmp_path / broken).unlink()
    assert run("list").output == before != ""
