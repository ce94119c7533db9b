"""Is a restored copy the original? Pure: two readings in, one verdict out."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.data.contents import Contents, Span

QUESTION = "snapshot"
SHOWN = 5


def compare(expected: Contents, seen: Contents) -> Verdict:
    """Yes only if every table, row count, digest, sequence, object and the schema revision are the same."""
    wrong = list(differences(expected, seen))
    if not expected.tables and not wrong:
        return not_asked(QUESTION, "the database has no table yet: there is nothing to lose")
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return no(QUESTION, f"the restored copy differs: {wrong[0]}{more}", differences=wrong[:SHOWN])
    told = f"{plural(len(seen.tables), 'table')}, {plural(seen.rows, 'row')}, {plural(len(seen.sequences), 'sequence')}"
    head = f", revision {seen.head}" if seen.head else ""
    return yes(
        QUESTION,
        f"restored and compared: {told}{head}",
        tables=len(seen.tables),
        rows=seen.rows,
        head=seen.head,
    )


def differences(expected: Contents, seen: Contents) -> Iterator[str]:
    """Each difference as one line, what people would miss most first."""
    if expected.head != seen.head:
        yield f"revision: expected {expected.head or 'none'}, got {seen.head or 'none'}"
    yield from _names("table", expected.tables.keys(), seen.tables.keys())
    for name in sorted(expected.tables.keys() & seen.tables.keys()):
        ours, theirs = expected.tables[name], seen.tables[name]
        if ours.rows != theirs.rows:
            yield f"table {name}: expected {ours.rows:,} rows, got {theirs.rows:,}"
        elif ours.digest and theirs.digest and ours.digest != theirs.digest:
            yield f"table {name}: {ours.rows:,} rows as expected, with other contents"
    yield from _names("sequence", expected.sequences.keys(), seen.sequences.keys())
    for name in sorted(expected.sequences.keys() & seen.sequences.keys()):
        if not _within(seen.sequences[name], expected.sequences[name]):
            yield f"sequence {name}: expected {_span(expected.sequences[name])}, got {_span(seen.sequences[name])}"
    for kind in sorted(expected.objects.keys() | seen.objects.keys()):
        ours_n, theirs_n = expected.objects.get(kind, 0), seen.objects.get(kind, 0)
        if ours_n != theirs_n:
            yield f"{kind}: expected {ours_n}, got {theirs_n}"


def _names(what: str, expected: AbstractSet[str], seen: AbstractSet[str]) -> Iterator[str]:
    ours, theirs = set(expected), set(seen)
    yield from (f"{what} {name} is missing" for name in sorted(ours - theirs))
    yield from (f"{what} {name} is not in the original" for name in sorted(theirs - ours))


def _within(seen: Span, expected: Span) -> bool:
    """Whether a value lies between the two that the sequence had around the dump."""
    value, (least, most) = seen[0], expected
    if value in expected:
        return True
    if value is None or most is None:
        return False
    return value <= most if least is None else min(least, most) <= value <= max(least, most)


def _span(span: Span) -> str:
    low, high = ("unused" if value is None else str(value) for value in span)
    return low if low == high else f"{low} to {high}"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
