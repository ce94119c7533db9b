"""Snapshot files, database contents and their comparison."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cutover.core.errors import ConfigError, Failed
from cutover.core.verdict import Outcome
from cutover.database.snapshot import (
    DatabaseContents,
    SnapshotFile,
    TableContents,
    creation_time,
    feed_file,
    join_revisions,
    judge_restored,
    list_snapshots,
    load_snapshot,
    mark_verified,
    parse_contents,
    require_disk_space,
    select_expired,
    stream_to_file,
    widen_sequences,
    write_description,
)

LINES = """\
table\tpublic.memories\t2000\t771
table\tpublic.large\t90000000\t
sequence\tpublic.memories_id_seq\t2000
sequence\tpublic.unused\t
object\tindexes\t4
head\tc40e
"""


def test_reads_what_psql_prints() -> None:
    """Tab-separated lines become tables, sequences, counts and the revision."""
    contents = parse_contents(LINES.splitlines())
    assert contents.tables == {
        "public.memories": TableContents(2000, "771"),
        "public.large": TableContents(90_000_000),
    }
    assert contents.sequences == {"public.memories_id_seq": (2000, 2000), "public.unused": (None, None)}
    assert (contents.objects, contents.head, contents.rows) == ({"indexes": 4}, "c40e", 90_002_000)


def test_survives_its_json() -> None:
    """Contents survive being written as JSON and read back."""
    contents = parse_contents(LINES.splitlines())
    assert DatabaseContents.from_json(json.loads(json.dumps(asdict(contents)))) == contents


@pytest.mark.parametrize(
    ("revisions", "head"),
    [
        ([], ""),
        (["c40e"], "c40e"),
        (["d2", "c1"], "c1,d2"),
        ([f"2024{n:02}" for n in range(1, 13)], "202412 (12 revisions)"),
    ],
)
def test_revisions_are_joined(revisions: list[str], head: str) -> None:
    """Several heads are joined; of a long history the last revision is shown."""
    assert join_revisions(revisions) == head


def test_a_sequence_may_be_anything_that_it_was_during_the_dump() -> None:
    """Sequences are not transactional: the dump may contain any value between those read before and after it."""
    earlier = DatabaseContents(sequences={"s": (5, 5), "gone": (1, 1)})
    later = DatabaseContents(sequences={"s": (9, 9)})
    assert widen_sequences(earlier, later).sequences == {"s": (5, 9), "gone": (1, 1)}


ORIGINAL = DatabaseContents(
    head="c40e",
    tables={
        "public.memories": TableContents(2000, "77"),
        "public.tags": TableContents(12, "9"),
        "public.alembic_version": TableContents(1, "5"),
    },
    sequences={"public.memories_id_seq": (2000, 2004), "public.unused_seq": (None, None)},
    objects={"indexes": 4, "constraints": 3, "views": 1, "functions": 0, "triggers": 2, "large objects": 0},
)
SEEN = replace(
    ORIGINAL, sequences={"public.memories_id_seq": (2002, 2002), "public.unused_seq": (None, None)}
)


def _tables(**changed: TableContents | None) -> DatabaseContents:
    tables = dict(SEEN.tables) | {f"public.{name}": table for name, table in changed.items() if table}
    return replace(
        SEEN, tables={name: table for name, table in tables.items() if changed.get(name[7:], table)}
    )


def _sequence(value: int | None) -> DatabaseContents:
    return replace(SEEN, sequences=dict(SEEN.sequences) | {"public.memories_id_seq": (value, value)})


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(SEEN, head="b771"), "revision: expected c40e, got b771"),
        (replace(SEEN, head=""), "revision: expected c40e, got none"),
        (_tables(tags=None), "table public.tags is missing"),
        (_tables(orders=TableContents(3)), "table public.orders is not in the original"),
        (
            _tables(memories=TableContents(1999, "77")),
            "table public.memories: expected 2,000 rows, got 1,999",
        ),
        (_tables(memories=TableContents(0, "0")), "table public.memories: expected 2,000 rows, got 0"),
        (
            _tables(memories=TableContents(2000, "78")),
            "table public.memories: 2,000 rows as expected, with other contents",
        ),
        (
            replace(SEEN, sequences={"public.unused_seq": (None, None)}),
            "sequence public.memories_id_seq is missing",
        ),
        (_sequence(1999), "sequence public.memories_id_seq: expected 2000 to 2004, got 1999"),
        (_sequence(2005), "sequence public.memories_id_seq: expected 2000 to 2004, got 2005"),
        (_sequence(None), "sequence public.memories_id_seq: expected 2000 to 2004, got unused"),
        (replace(SEEN, objects=dict(SEEN.objects) | {"indexes": 3}), "indexes: expected 4, got 3"),
        (replace(SEEN, objects={}), "constraints: expected 3, got 0"),
        (DatabaseContents(), "revision: expected c40e, got none"),
    ],
)
def test_a_difference_is_a_no_that_names_it(seen: DatabaseContents, reason: str) -> None:
    """The verdict names what is missing, additional or different in the restored copy, with both numbers."""
    verdict = judge_restored(ORIGINAL, seen)
    assert verdict.outcome is Outcome.NO
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "seen",
    [
        ORIGINAL,
        _sequence(2000),
        _sequence(2004),
        _tables(memories=TableContents(2000)),  # too large for a digest on one side
    ],
)
def test_an_equal_copy_is_a_yes(seen: DatabaseContents) -> None:
    """A sequence may have advanced during the dump; everything else must be equal."""
    verdict = judge_restored(ORIGINAL, seen)
    assert verdict.ok
    assert verdict.reason == "restored and compared: 3 tables, 2,013 rows, 2 sequences, revision c40e"


def test_an_empty_database_is_not_verified() -> None:
    """A database without tables gives neither yes nor no."""
    assert judge_restored(DatabaseContents(), DatabaseContents()).outcome is Outcome.NOT_ASKED


def test_many_differences_are_counted() -> None:
    """The reason has the first difference and the number of others; the evidence has the first five."""
    seen = replace(SEEN, head="b771", tables={}, objects={})
    verdict = judge_restored(ORIGINAL, seen)
    assert verdict.reason.endswith(", and 7 more")
    assert len(verdict.evidence["differences"]) == 5


def _snapshot(path: Path, at: str = "2025-09-04T011022.000Z", *, verified: bool = False) -> SnapshotFile:
    contents = DatabaseContents(
        "c40e", {"public.memories": TableContents(3, "7")}, {"s": (1, None)}, {"indexes": 1}
    )
    return SnapshotFile(path, "postgres", "recall", at, 4, "00", 1.5, contents, 2.5 if verified else None)


def test_a_dump_is_private_complete_and_has_its_checksum(tmp_path: Path) -> None:
    """The file has mode 0600, gets its final name when it is complete, and its SHA-256 is returned."""
    path = tmp_path / "a.dump"
    size, checksum, stderr = stream_to_file(
        ("sh", "-c", 'printf "$TEXT"; echo note >&2'), {"TEXT": "abcd"}, path, 60
    )
    assert path.read_bytes() == b"abcd"
    assert (size, checksum, stderr) == (4, hashlib.sha256(b"abcd").hexdigest(), "note\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["a.dump"]


@pytest.mark.parametrize(
    ("script", "deadline_s", "reason"),
    [
        ("printf half; echo 'pg_dump: error: lost' >&2; exit 1", 60, "the dump failed: pg_dump: error: lost"),
        ("printf half; exit 3", 60, "the dump failed: exit 3 without output"),
        ("printf half; exec sleep 600", 0.1, "the dump did not end within 0.1 s"),
    ],
)
def test_a_dump_that_fails_leaves_nothing(
    tmp_path: Path, script: str, deadline_s: float, reason: str
) -> None:
    """An incomplete dump is removed; the error has the reason."""
    with pytest.raises(Failed, match=reason):
        stream_to_file(("sh", "-c", script), {}, tmp_path / "a.dump", deadline_s)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A dump is not written through a symbolic link."""
    (tmp_path / "a.dump.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        stream_to_file(("true",), {}, tmp_path / "a.dump", 60)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_the_stdin_of_a_command(tmp_path: Path) -> None:
    """The command reads the file; its output and exit code are returned."""
    (tmp_path / "a").write_bytes(b"abc")
    done = feed_file(("sh", "-c", "cat >&2; exit 5"), {}, tmp_path / "a", 60)
    assert (done.code, done.err) == (5, "abc")


def test_a_description_has_every_field(tmp_path: Path) -> None:
    """A snapshot is loaded as it was described; the description has mode 0600."""
    snapshot = _snapshot(tmp_path / "a.dump")
    snapshot.path.write_bytes(b"abcd")
    write_description(snapshot)
    assert load_snapshot(snapshot.path) == snapshot
    assert snapshot.description.stat().st_mode & 0o777 == 0o600
    assert load_snapshot(mark_verified(snapshot, 0.25).path) == replace(snapshot, restore_s=0.25)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "postgres"}'])
def test_a_snapshot_without_its_description_is_refused(tmp_path: Path, text: str) -> None:
    """A file without a readable description is refused and not listed."""
    (tmp_path / "a.dump").write_bytes(b"abcd")
    (tmp_path / "a.dump.json").write_text(text)
    with pytest.raises(ConfigError, match="no description"):
        load_snapshot(tmp_path / "a.dump")
    assert list_snapshots(tmp_path) == []


def test_a_description_with_another_time_is_refused(tmp_path: Path) -> None:
    """The order of the snapshots is read from it."""
    snapshot = _snapshot(tmp_path / "a.dump", "today")
    snapshot.path.touch()
    write_description(snapshot)
    with pytest.raises(ConfigError, match="no description"):
        load_snapshot(snapshot.path)


@pytest.mark.parametrize(
    ("newest_first", "keep", "gone"),
    [
        ("VVV", 3, ""),
        ("VVVV", 3, "3"),
        ("VVVVV", 1, "1234"),
        ("UUUV", 2, "2"),
        ("UUUUV", 1, "123"),
        ("UVUV", 1, "23"),
        ("UUU", 1, "12"),
        ("", 1, ""),
    ],
)
def test_rotation_keeps_the_last_verified_one(newest_first: str, keep: int, gone: str) -> None:
    """The newest *keep* stay, and the last verified one at any age (V: verified, U: not)."""
    kept = [_snapshot(Path(str(n)), verified=kind == "V") for n, kind in enumerate(newest_first)]
    assert "".join(each.path.name for each in select_expired(kept, keep)) == gone


def test_kept_are_listed_from_the_newest(tmp_path: Path) -> None:
    """Snapshots are sorted by the time in their description, not by the file system."""
    for day in ("2025-09-02", "2025-09-04", "2025-09-03"):
        snapshot = _snapshot(tmp_path / f"{day}.dump", f"{day}T011022.000Z")
        snapshot.path.touch()
        write_description(snapshot)
    assert [snapshot.path.stem for snapshot in list_snapshots(tmp_path)] == [
        "2025-09-04",
        "2025-09-03",
        "2025-09-02",
    ]


@pytest.mark.parametrize(
    ("newest", "at"),
    [
        ([], "2025-09-04T011022.123Z"),
        (["2025-09-04T011022.122Z"], "2025-09-04T011022.123Z"),
        (["2025-09-04T011022.123Z"], "2025-09-04T011022.124Z"),
        (["2026-12-31T235959.999Z", "2025-09-04T011022.122Z"], "2027-01-01T000000.000Z"),
    ],
)
def test_a_new_snapshot_is_newer_than_the_others(newest: list[str], at: str) -> None:
    """Its time is the clock's, except where the clock was ahead when the newest one was taken."""
    existing = [_snapshot(Path(each), each) for each in newest]
    assert creation_time(datetime(2025, 9, 4, 1, 10, 22, 123456, tzinfo=UTC), existing) == at


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    """Twice the size of the database must be free; the error has both numbers."""
    status = os.statvfs(tmp_path)
    require_disk_space(tmp_path, 1000, "recall")
    with pytest.raises(ConfigError, match=r"free, a snapshot of recall needs .* \(twice its size\)"):
        require_disk_space(tmp_path, status.f_frsize * status.f_blocks, "recall")
