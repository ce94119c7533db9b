"""Commands for a person at night; nothing here needs an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.cli import operations
from cutover.core.errors import ConfigError
from cutover.release.history import unresolved
from cutover.release.state import State
from tests.plugin.project import Project


def test_recover_without_a_release_says_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deploy that did not pass leaves no release to revert: the gate decides, and no empty name is printed."""
    project = Project.at(tmp_path)
    state = State(project.state)
    state.prepare()
    state.journal(
        "end", word="ROLLBACK FAILED", code=11, why="sha-9 did not pass", run="cutover recover", release=None
    )
    monkeypatch.setattr(operations, "say_what_runs", lambda _settings: "blue sha-9 runs, live")
    monkeypatch.setattr(operations, "require_gate_of_old", lambda *_: None)
    told: list[str] = []
    monkeypatch.setattr(operations, "tell", lambda _json, _facts, lines: told.extend(lines))
    monkeypatch.setenv("CUTOVER_STATE_DIR", str(project.state))
    code = operations.recover_command.main(
        ["--cutover-config", str(project.folder / "cutover.toml")], standalone_mode=False
    )
    assert (code, told) == (0, ["resolved: blue sha-9 runs, live"])
    assert unresolved(state.history()) is None


def test_a_rollback_does_one_thing(tmp_path: Path) -> None:
    """A release is named to be reverted, a tag to be deployed."""
    project = Project.at(tmp_path)
    words = ["--cutover-config", str(project.folder / "cutover.toml"), "7", "--to-tag", "sha-1"]
    with pytest.raises(
        ConfigError, match="--to-tag=sha-1 with 7: the one deploys, the other reverts; choose one"
    ):
        operations.rollback_command.main(words, standalone_mode=False)
    assert not project.state.exists()
