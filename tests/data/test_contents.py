from __future__ import annotations

import json

import pytest

from cutover.data import contents
from cutover.data.contents import Contents, Table

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
    read = contents.read(LINES.splitlines())
    assert read.tables == {"public.memories": Table(2000, "771"), "public.large": Table(90_000_000)}
    assert read.sequences == {"public.memories_id_seq": (2000, 2000), "public.unused": (None, None)}
    assert (read.objects, read.head, read.rows) == ({"indexes": 4}, "c40e", 90_002_000)


def test_survives_its_json() -> None:
    """What was written beside a snapshot is read back as it was."""
    read = contents.read(LINES.splitlines())
    assert contents.from_json(json.loads(json.dumps(read.as_json()))) == read


@pytest.mark.parametrize(
    ("revisions", "head"),
    [
        ([], ""),
        (["c40e"], "c40e"),
        (["d2", "c1"], "c1,d2"),
        ([f"2024{n:02}" for n in range(1, 13)], "202412 (12 revisions)"),
    ],
)
def test_the_head_is_one_word(revisions: list[str], head: str) -> None:
    """Two heads are both told; a tool that keeps every revision is told by the last one."""
    assert contents.one_head(revisions) == head


def test_a_sequence_may_be_anything_that_it_was_during_the_dump() -> None:
    """Sequences obey no transaction: the dump holds a value between the two that were read around it."""
    earlier = Contents(sequences={"s": (5, 5), "gone": (1, 1)})
    later = Contents(sequences={"s": (9, 9)})
    assert contents.widened(earlier, later).sequences == {"s": (5, 9), "gone": (1, 1)}
