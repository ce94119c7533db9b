"""What only looks or plans changes nothing, also where a dead release waits to be reverted."""

from __future__ import annotations

import fcntl

import pytest

from cutover.core.change import UNDO_END
from tests.plugin.project import GOOD, LOOKING, Project


@pytest.mark.parametrize("option", LOOKING)
@pytest.mark.parametrize("release", [(), ("--deploy=sha-2",)])
def test_looking_changes_nothing(project: Project, option: str, release: tuple[str, ...]) -> None:
    """An option that only shows something neither releases nor reverts, nor does it wait for who does."""
    project.test(GOOD)
    project.state.mkdir(parents=True, mode=0o700)
    (project.state / "open").write_text("20260101T000000-1\n")
    (project.state / "undo.sh").write_text(f"touch {project.mark}\n{UNDO_END}\n")
    with (project.state / "session.lock").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        done = project.run(option, *release)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not project.mark.exists()
    assert project.is_open
    assert not (project.folder / "reports" / "latest").exists()


def test_a_plan_makes_nothing(project: Project) -> None:
    """On a machine that has never released there is no state afterwards either."""
    project.test(GOOD)
    done = project.run("--deploy=sha-2", "--plan")
    assert done.returncode == 4, done.stdout + done.stderr  # there is no engine here
    assert "the Docker engine at" in done.stdout + done.stderr
    assert not project.state.exists()


def test_a_plan_reverts_nothing(project: Project) -> None:
    """What a dead session left open stays open under --plan, and its undo is not run."""
    project.test(GOOD)
    project.state.mkdir(mode=0o700, parents=True)
    (project.state / "open").write_text("20260101T000000-1\n")
    (project.state / "undo.sh").write_text(f"touch {project.mark}\n{UNDO_END}\n")
    done = project.run("--deploy=sha-2", "--plan")
    assert "release 20260101T000000-1 of a session that died is open" in done.stdout, done.stdout
    assert done.returncode == 4, done.stdout + done.stderr  # there is no engine here
    assert not project.mark.exists()
    assert sorted(each.name for each in project.state.iterdir()) == ["open", "undo.sh"]
