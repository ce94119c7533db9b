from __future__ import annotations

from dataclasses import replace

import pytest

from cutover.core.verdict import Outcome
from cutover.data.compare import compare
from cutover.data.contents import Contents, Table

ORIGINAL = Contents(
    head="c40e",
    tables={
        "public.memories": Table(2000, "77"),
        "public.tags": Table(12, "9"),
        "public.alembic_version": Table(1, "5"),
    },
    sequences={"public.memories_id_seq": (2000, 2004), "public.unused_seq": (None, None)},
    objects={"indexes": 4, "constraints": 3, "views": 1, "functions": 0, "triggers": 2, "large objects": 0},
)
SEEN = replace(
    ORIGINAL, sequences={"public.memories_id_seq": (2002, 2002), "public.unused_seq": (None, None)}
)


def _tables(**changed: Table | None) -> Contents:
    tables = dict(SEEN.tables) | {f"public.{name}": table for name, table in changed.items() if table}
    return replace(
        SEEN, tables={name: table for name, table in tables.items() if changed.get(name[7:], table)}
    )


def _sequence(value: int | None) -> Contents:
    return replace(SEEN, sequences=dict(SEEN.sequences) | {"public.memories_id_seq": (value, value)})


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(SEEN, head="b771"), "revision: expected c40e, got b771"),
        (replace(SEEN, head=""), "revision: expected c40e, got none"),
        (_tables(tags=None), "table public.tags is missing"),
        (_tables(orders=Table(3)), "table public.orders is not in the original"),
        (_tables(memories=Table(1999, "77")), "table public.memories: expected 2,000 rows, got 1,999"),
        (_tables(memories=Table(0, "0")), "table public.memories: expected 2,000 rows, got 0"),
        (
            _tables(memories=Table(2000, "78")),
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
        (Contents(), "revision: expected c40e, got none"),
    ],
)
def test_a_copy_that_differs_is_a_no_that_names_the_difference(seen: Contents, reason: str) -> None:
    """Whatever is missing, too much or other in the restored copy, the verdict says what, with both numbers."""
    verdict = compare(ORIGINAL, seen)
    assert verdict.outcome is Outcome.NO
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "seen",
    [
        ORIGINAL,
        _sequence(2000),
        _sequence(2004),
        _tables(memories=Table(2000)),  # too large to be summed up on one side
    ],
)
def test_the_same_is_a_yes(seen: Contents) -> None:
    """A sequence may have moved while others wrote; everything else is the same."""
    verdict = compare(ORIGINAL, seen)
    assert verdict.ok
    assert verdict.reason == "restored and compared: 3 tables, 2,013 rows, 2 sequences, revision c40e"


def test_an_empty_database_is_not_proof() -> None:
    """Where there is no table there is nothing to lose, and nothing was proved: no yes, and no no."""
    assert compare(Contents(), Contents()).outcome is Outcome.NOT_ASKED


def test_many_differences_are_counted() -> None:
    """The first difference is told, the others are counted, and a handful stands in the evidence."""
    seen = replace(SEEN, head="b771", tables={}, objects={})
    verdict = compare(ORIGINAL, seen)
    assert verdict.reason.endswith(", and 7 more")
    assert len(verdict.evidence["differences"]) == 5
