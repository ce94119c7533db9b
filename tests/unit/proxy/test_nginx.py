"""nginx by a marker: the words, what a directory says, and who agrees with whom."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cutover.core.change import Change, line, undo_script
from cutover.core.verdict import Outcome
from cutover.proxy.base import Live
from cutover.proxy.nginx import Nginx, judge_marker, judge_nginx, read_marker
from tests.helpers.proxy_drivers import UNREACHABLE, run_change, run_undo
from tests.helpers.proxy_files import create_marker

BLUE = Live("blue", "/m names blue")


def names(folder: Path) -> set[str]:
    """What lies in *folder*."""
    return {each.name for each in folder.iterdir()}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A marker directory that names blue, its name as nasty as a path can be."""
    folder = tmp_path / "recall live's $HOME"
    create_marker(folder, "blue")
    return folder


def test_switch_is_one_rename(marker: Path) -> None:
    """There and back, and each of them is a no-op when it is run twice."""
    change = Nginx(marker, UNREACHABLE).switch("green")
    for run, color in ((run_change, "green"), (run_change, "green"), (run_undo, "blue"), (run_undo, "blue")):
        assert run(change) == 0
        assert names(marker) == {"here", color}


def test_undo_of_what_never_happened(marker: Path) -> None:
    """Reverting a switch that was never done changes nothing."""
    assert run_undo(Nginx(marker, UNREACHABLE).switch("green")) == 0
    assert names(marker) == {"here", "blue"}


def test_switch_needs_no_space(marker: Path) -> None:
    """A process that may not write one byte can still switch and come back."""
    change = Nginx(marker, UNREACHABLE).switch("green")
    for words, color in ((change.do, "green"), (("sh", "-c", change.undo[0]), "blue")):
        subprocess.run(("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *words), check=True)
        assert names(marker) == {"here", color}


@pytest.mark.parametrize("left", [{"here"}, {"here", "blue", "green"}])
def test_nothing_is_overwritten(marker: Path, left: set[str]) -> None:
    """A directory that names nobody, or both, is left as it is, and both ways fail: it serves what nobody chose."""
    for name in ("blue", "green"):
        (marker / name).touch() if name in left else (marker / name).unlink(missing_ok=True)
    for to in ("green", "blue"):
        change = Nginx(marker, UNREACHABLE).switch(to)
        assert (run_change(change), run_undo(change)) == (1, 1)
    assert names(marker) == left


def test_no_line_follows_a_way_back_that_failed(marker: Path, tmp_path: Path) -> None:
    """Somebody touched the other name: nginx stays on green, and the lines that take green away are not reached."""
    change = Nginx(marker, UNREACHABLE).switch("green")
    assert run_change(change) == 0
    (marker / "blue").touch()
    up = Change("up", "sha-2 on green", ("true",), (line("touch", str(tmp_path / "green is gone")),), 60)
    script = undo_script((up, change))
    done = subprocess.run(("sh", "-eu", "-c", script), check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == f"{marker} names green and blue: remove the one that should not be live"
    assert not (tmp_path / "green is gone").exists()


def test_never_moves_into_a_directory(marker: Path) -> None:
    """A directory that is called like a color swallows no marker."""
    (marker / "green").mkdir()
    run_change(Nginx(marker, UNREACHABLE).switch("green"))
    assert names(marker / "green") == set()


def test_budget_and_text() -> None:
    """The change says from where to where, and is bounded."""
    change = Nginx(Path("/m"), UNREACHABLE).switch("blue")
    assert (change.name, change.text, change.budget_s) == ("switch", "green → blue", 10.0)
    assert change.undo[0].startswith("timeout -k 10 10 sh -c ")


@pytest.mark.parametrize(
    ("found", "mode", "color", "why"),
    [
        ({"here", "blue"}, 0o755, "blue", "/m names blue"),
        ({"here", "green"}, 0o755, "green", "/m names green"),
        ({"here", "green", "freeze"}, 0o755, "green", "/m names green"),
        ({"here"}, 0o755, None, "/m names neither blue nor green"),
        ({"here", "blue", "green"}, 0o755, None, "/m names blue and green"),
        ({"green"}, 0o755, None, "/m has lost its file here"),
        (set(), 0o755, None, "/m has lost its file here"),
        ({"here", "green"}, 0o700, None, "/m has mode 0700: nginx cannot look into it"),
        ({"here", "green"}, 0o757, None, "/m has mode 0757: every user can switch the traffic"),
        ({"here", "green"}, 0o1777, None, "/m has mode 1777: every user can switch the traffic"),
    ],
)
def test_a_directory_says(found: set[str], mode: int, color: str | None, why: str) -> None:
    """Exactly one name, beside `here`, in a directory that nginx may look into: anything else is unknown."""
    said = judge_marker("/m", found, mode)
    assert said.color == color
    assert said.how.startswith(why)


def test_reads_a_directory(marker: Path, tmp_path: Path) -> None:
    """The marker of this host is read, and one that is not there is unknown."""
    assert read_marker(marker).color == "blue"
    assert read_marker(tmp_path / "none") == Live(None, f"{tmp_path}/none: no such file or directory")


def test_laying_changes_nothing_that_is_there(marker: Path) -> None:
    """A directory that is there is left as it is, whatever it says."""
    (marker / "blue").rename(marker / "green")
    create_marker(marker, "blue")
    assert names(marker) == {"here", "green"}


@pytest.mark.parametrize(
    ("marker", "live", "sees", "outcome", "reason"),
    [
        (BLUE, Live("blue", "asked"), "seen", Outcome.YES, "marker and proxy say blue"),
        (BLUE, Live("blue", "asked"), "", Outcome.YES, "marker and proxy say blue"),
        (BLUE, Live("green", "asked"), "seen", Outcome.NO, "the marker names blue, but green answers"),
        (BLUE, Live("blue", "asked"), "lost", Outcome.UNKNOWN, "nginx does not see this host's marker"),
        (BLUE, Live(None, "no answer"), "seen", Outcome.UNKNOWN, "the marker names blue, but no answer"),
        (Live(None, "both"), Live("blue", "asked"), "seen", Outcome.UNKNOWN, "both"),
    ],
)
def test_agrees(marker: Live, live: Live, sees: str, outcome: Outcome, reason: str) -> None:
    """Marker, nginx and application must say the same; what cannot be known is unknown, not no."""
    verdict = judge_nginx(marker, live, sees)
    assert verdict.outcome is outcome
    assert verdict.reason.startswith(reason)
