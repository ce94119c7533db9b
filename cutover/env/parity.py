"""The two colours' env files side by side, without a value that is not public."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cutover.secret import STARS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One key: what each colour shows for it, and how the two compare."""

    key: str
    shown: Mapping[str, str]
    word: str
    """`same`, `differs`, `differs, as it should`, or `missing`."""

    def as_json(self) -> dict[str, object]:
        """A dictionary of JSON values."""
        return asdict(self) | {"shown": dict(self.shown)}


def parity(
    colours: Mapping[str, Mapping[str, str]], *, public: Collection[str], apart: Collection[str]
) -> list[Row]:
    """One row for each key of any colour, in the order of the files."""
    keys = dict.fromkeys(key for values in colours.values() for key in values)
    return [_row(key, colours, public=public, apart=apart) for key in keys]


def _row(
    key: str, colours: Mapping[str, Mapping[str, str]], *, public: Collection[str], apart: Collection[str]
) -> Row:
    values = {name: found.get(key) for name, found in colours.items()}
    shown = {name: _shown(value, public=key in public) for name, value in values.items()}
    if None in values.values():
        return Row(key, shown, "missing")
    if len(set(values.values())) == 1:
        return Row(key, shown, "same")
    return Row(key, shown, "differs, as it should" if key in apart else "differs")


def _shown(value: str | None, *, public: bool) -> str:
    """What a reader may see of a value: itself, that it is not there, that it is empty, or stars."""
    if value is None:
        return "-"
    if not value:
        return "(empty)"
    return value if public else STARS


def table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The rows as lines of equal columns, with a head."""
    cells = [("key", *names, "")]
    cells += [(row.key, *(row.shown[name] for name in names), row.word) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    pad = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    return ["  ".join(line).rstrip() for line in pad]
