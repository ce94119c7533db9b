"""Traefik's prepared files: the words, and what the file in place says."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from cutover.core.verdict import Outcome
from cutover.proxy.base import Live, judge_agreement
from cutover.proxy.traefik import Traefik, judge_dynamic_file, read_dynamic_file
from tests.helpers.proxy_drivers import UNREACHABLE, run_change, run_undo

TEXTS = {"blue": b"blue", "green": b"green"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Blue's file in place, both prepared."""
    place = tmp_path / "cutover it's.yml"
    for color in ("blue", "green"):
        place.with_name(f"{place.name}.{color}").write_text(color)
    place.write_text("blue")
    return place


def test_switch_moves_a_prepared_file(file: Path) -> None:
    """There and back, each a no-op when run twice; the prepared files stay."""
    change = Traefik(file, UNREACHABLE).switch("green")
    for run, color in (
        (run_undo, "blue"),
        (run_change, "green"),
        (run_change, "green"),
        (run_undo, "blue"),
        (run_undo, "blue"),
        (run_change, "green"),
    ):
        assert run(change) == 0
        assert file.read_text() == color
    assert {each.name.removeprefix(file.name) for each in file.parent.iterdir()} == {"", ".blue", ".green"}


def test_switch_needs_no_space(file: Path) -> None:
    """A process that may not write one byte can still switch and come back."""
    change = Traefik(file, UNREACHABLE).switch("green")
    for words, color in ((change.do, "green"), (("sh", "-c", change.undo[0]), "blue")):
        subprocess.run(("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *words), check=True)
        assert file.read_text() == color


def test_a_changed_file_is_not_overwritten(file: Path) -> None:
    """What somebody wrote by hand stays, and both ways fail loudly."""
    file.write_text("by hand")
    change = Traefik(file, UNREACHABLE).switch("green")
    assert (run_change(change), run_undo(change)) == (1, 1)
    assert file.read_text() == "by hand"


def test_an_edit_in_place_changes_one_file(file: Path) -> None:
    """Who writes into the file after a switch changes that file alone, and the next switch does not drop it."""
    assert run_change(Traefik(file, UNREACHABLE).switch("green")) == 0
    with file.open("a") as there:
        there.write("# by hand")
    assert file.with_name(f"{file.name}.green").read_text() == "green"
    assert read_dynamic_file(file).color is None
    assert run_change(Traefik(file, UNREACHABLE).switch("blue")) == 1
    assert file.read_text() == "green# by hand"


def test_the_file_keeps_its_mode(file: Path) -> None:
    """A revert runs with a closed umask; Traefik may be another user, and must read what it brings."""
    file.with_name(f"{file.name}.green").chmod(0o644)
    words = Traefik(file, UNREACHABLE).switch("green").do
    subprocess.run(("sh", "-c", 'umask 077; exec "$@"', "sh", *words), check=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_the_end_of_a_half_done_switch(file: Path) -> None:
    """A switch that was killed before its rename is simply done again, and the prepared files stay what they are."""
    new = file.with_name(f"{file.name}.new")
    for left in (lambda: new.write_text("half"), lambda: new.hardlink_to(f"{file}.blue")):
        left()
        assert run_change(Traefik(file, UNREACHABLE).switch("green")) == 0
        assert file.read_text() == "green"
        assert run_undo(Traefik(file, UNREACHABLE).switch("green")) == 0
    assert file.with_name(f"{file.name}.blue").read_text() == "blue"


@pytest.mark.parametrize(
    ("there", "texts", "color", "why"),
    [
        (b"blue", TEXTS, "blue", "/f is that of blue"),
        (b"green", TEXTS, "green", "/f is that of green"),
        (b"other", TEXTS, None, "/f is neither /f.blue nor /f.green: somebody changed it by hand"),
        (b"one", {"blue": b"one", "green": b"one"}, None, "/f.blue and /f.green are the same"),
    ],
)
def test_a_file_says(there: bytes, texts: dict[str, bytes], color: str | None, why: str) -> None:
    """The file in place is one of the two prepared ones, or nobody knows."""
    assert judge_dynamic_file("/f", there, texts) == Live(color, why)


def test_reads_the_files(file: Path) -> None:
    """The files of this host are read; a missing one is unknown."""
    assert read_dynamic_file(file).color == "blue"
    file.with_name(f"{file.name}.green").unlink()
    assert read_dynamic_file(file) == Live(None, f"{file}.green: no such file or directory")


@pytest.mark.parametrize(
    ("said", "live", "outcome", "reason"),
    [
        ("blue", Live("blue", ""), Outcome.YES, "file and proxy say blue"),
        ("blue", Live("green", ""), Outcome.NO, "the file names blue, but green answers"),
        ("blue", Live(None, "silence"), Outcome.UNKNOWN, "the file names blue, but silence"),
        (None, Live("blue", ""), Outcome.UNKNOWN, "why"),
    ],
)
def test_agrees(said: str | None, live: Live, outcome: Outcome, reason: str) -> None:
    """File and answer must say the same."""
    verdict = judge_agreement("file", Live(said, "why"), live)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
