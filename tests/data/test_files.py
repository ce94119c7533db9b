from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.errors import Failed, UsageProblem
from cutover.data import files
from cutover.data.contents import Contents, Table
from cutover.data.files import Taken


def _taken(path: Path, at: str = "2025-09-04T011022.000Z", *, proved: bool = False) -> Taken:
    held = Contents("c40e", {"public.memories": Table(3, "7")}, {"s": (1, None)}, {"indexes": 1})
    return Taken(path, "postgres", "recall", at, 4, "00", 1.5, held, 2.5 if proved else None)


def test_what_is_streamed_is_private_whole_and_summed_up(tmp_path: Path) -> None:
    """The file is readable by its owner alone, has its final name only when whole, and its checksum is right."""
    path = tmp_path / "a.dump"
    size, checksum, told = files.stream(
        ("sh", "-c", 'printf "$TEXT"; echo note >&2'), {"TEXT": "abcd"}, path, 60
    )
    assert path.read_bytes() == b"abcd"
    assert (size, checksum, told) == (4, hashlib.sha256(b"abcd").hexdigest(), "note\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["a.dump"]


@pytest.mark.parametrize(
    ("script", "deadline_s", "reason"),
    [
        ("printf half; echo 'pg_dump: error: lost' >&2; exit 1", 60, "the dump failed: pg_dump: error: lost"),
        ("printf half; exit 3", 60, "the dump failed: exit 3 without a word"),
        ("printf half; exec sleep 600", 0.1, "the dump did not end within 0.1 s"),
    ],
)
def test_a_dump_that_fails_leaves_nothing(
    tmp_path: Path, script: str, deadline_s: float, reason: str
) -> None:
    """Half a dump is removed and its reason is told: nobody can take it for a snapshot."""
    with pytest.raises(Failed, match=reason):
        files.stream(("sh", "-c", script), {}, tmp_path / "a.dump", deadline_s)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """A planted link cannot make a dump land elsewhere."""
    (tmp_path / "a.dump.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageProblem):
        files.stream(("true",), {}, tmp_path / "a.dump", 60)
    assert not (tmp_path / "elsewhere").exists()


def test_feeds_a_file_piece_by_piece(tmp_path: Path) -> None:
    """A restore reads the file itself, and its own words come back."""
    (tmp_path / "a").write_bytes(b"abc")
    done = files.feed(("sh", "-c", "cat >&2; exit 5"), {}, tmp_path / "a", 60)
    assert (done.code, done.err) == (5, "abc")


def test_the_description_says_all_of_it(tmp_path: Path) -> None:
    """What was known when it was taken is known when it is restored, and nobody else may read it."""
    taken = _taken(tmp_path / "a.dump")
    taken.path.write_bytes(b"abcd")
    files.describe(taken)
    assert files.load(taken.path) == taken
    assert files.described_by(taken.path).stat().st_mode & 0o777 == 0o600
    assert files.load(files.proved(taken, 0.25).path) == replace(taken, restore_s=0.25)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "postgres"}'])
def test_a_snapshot_without_its_description_is_refused(tmp_path: Path, text: str) -> None:
    """Without what it should hold nothing can be compared, so it is no snapshot."""
    (tmp_path / "a.dump").write_bytes(b"abcd")
    (tmp_path / "a.dump.json").write_text(text)
    with pytest.raises(UsageProblem, match="no description"):
        files.load(tmp_path / "a.dump")
    assert files.kept(tmp_path) == []


@pytest.mark.parametrize(
    ("newest_first", "keep", "gone"),
    [
        ("PPP", 3, ""),
        ("PPPP", 3, "3"),
        ("PPPPP", 1, "1234"),
        ("UUUP", 2, "2"),
        ("UUUUP", 1, "123"),
        ("UPUP", 1, "23"),
        ("UUU", 1, "12"),
        ("", 1, ""),
    ],
)
def test_rotation_keeps_the_last_proved_one(newest_first: str, keep: int, gone: str) -> None:
    """N stay; the last proved one stays whatever its age (P: proved, U: not)."""
    kept = [_taken(Path(str(n)), proved=kind == "P") for n, kind in enumerate(newest_first)]
    assert "".join(each.path.name for each in files.doomed(kept, keep)) == gone


def test_kept_are_listed_from_the_newest(tmp_path: Path) -> None:
    """The order is that of their own times, not of the file system."""
    for at in ("2025-09-02", "2025-09-04", "2025-09-03"):
        taken = _taken(tmp_path / f"{at}.dump", at)
        taken.path.touch()
        files.describe(taken)
    assert [taken.at for taken in files.kept(tmp_path)] == ["2025-09-04", "2025-09-03", "2025-09-02"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """Twice the database's size must be free, or it is said with both numbers."""
    status = os.statvfs(tmp_path)
    files.need_room(tmp_path, 1000, "recall")
    with pytest.raises(UsageProblem, match=r"free, a snapshot of recall needs .* \(twice its size\)"):
        files.need_room(tmp_path, status.f_frsize * status.f_blocks, "recall")
