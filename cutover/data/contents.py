"""What a database holds, in numbers: the form in which an original and its restored copy are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Span = tuple[int | None, int | None]
"""The least and the most that a sequence's value may be: it moves while others write. None: never used."""
HEADS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its rows, and the order-free sum over them where it is small enough to be read whole."""

    rows: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """Schema revision, tables, sequences, and how many there are of everything else."""

    head: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)
    sequences: Mapping[str, Span] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    def as_json(self) -> dict[str, Any]:
        """A dictionary of JSON values; names, numbers and digests, never a row."""
        return {
            "head": self.head,
            "tables": {
                name: {"rows": table.rows, "digest": table.digest} for name, table in self.tables.items()
            },
            "sequences": {name: list(span) for name, span in self.sequences.items()},
            "objects": dict(self.objects),
        }


def from_json(table: Mapping[str, Any]) -> Contents:
    """The contents that `as_json` wrote; raises KeyError or TypeError for anything else."""
    return Contents(
        head=str(table["head"]),
        tables={name: Table(int(row["rows"]), str(row["digest"])) for name, row in table["tables"].items()},
        sequences={name: (low, high) for name, (low, high) in table["sequences"].items()},
        objects={name: int(count) for name, count in table["objects"].items()},
    )


def read(lines: Iterable[str]) -> Contents:
    """The contents that tab-separated lines tell: their first word is table, sequence, object or head."""
    heads: list[str] = []
    tables: dict[str, Table] = {}
    sequences: dict[str, Span] = {}
    objects: dict[str, int] = {}
    for line in lines:
        kind, *rest = [*line.rstrip("\n").split("\t"), ""]
        if kind == "table":
            tables[rest[0]] = Table(int(rest[1]), rest[2])
        elif kind == "sequence":
            value = int(rest[1]) if rest[1] else None
            sequences[rest[0]] = (value, value)
        elif kind == "object":
            objects[rest[0]] = int(rest[1])
        elif kind == "head":
            heads.append(rest[0])
    return Contents(one_head(heads), tables, sequences, objects)


def one_head(revisions: list[str]) -> str:
    """The revisions as one word: Alembic keeps its heads only, others each revision ever applied."""
    if len(revisions) > HEADS_SHOWN:
        return f"{max(revisions)} ({len(revisions)} revisions)"
    return ",".join(sorted(revisions))


def widened(earlier: Contents, later: Contents) -> Contents:
    """*earlier*, with each sequence allowed to be anything that it was until *later*: they obey no transaction."""
    spans = {name: (span[0], later.sequences.get(name, span)[1]) for name, span in earlier.sequences.items()}
    return Contents(earlier.head, earlier.tables, spans, earlier.objects)
