"""The record of each release (tag, image, container, time, person), and the journal as lines of JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cutover.core.errors import ConfigError
from cutover.core.evidence import read_json_lines
from cutover.core.result import NEEDS_OPERATOR
from cutover.core.text import stamp
from cutover.system.container import Container
from cutover.system.files import write_atomically

JOURNAL_FILE, GUARD_LOG, UNRECORDED_FILE = "journal.jsonl", "guard.log", "unrecorded.json"
GUARD_REVERTED = "reverted: "
"""How a line of the guard's log begins that names a release which it reverted."""
KEPT_RECORDS = 20
END_EVENTS = frozenset({"released", "reverted", "kept unverified", "recovered", "rolled back", "given up"})
RESOLVING = frozenset({"released", "recovered", "rolled back", "given up"})
"""Events after which no operator is needed any more."""
ADOPTED = "adopted-"
"""How the name of a release file begins that was made of what ran, and not of a release."""


@dataclass(frozen=True, slots=True)
class Record:
    """A release that was committed on a color: what ran, from which file, and whether a whole gate passed on it."""

    color: str
    tag: str
    image: str
    config_hash: str
    container: str
    file: str
    """Name of the release file below `releases/<color>/`."""
    verified: bool
    by: str
    at: str

    @property
    def identity(self) -> tuple[str, str]:
        """Image ID and config hash: equal for two containers of the same release."""
        return self.image, self.config_hash

    def started(self, found: Container) -> bool:
        """Whether *found* is the recorded container, or was started again from the recorded release file."""
        file = f"/releases/{self.color}/{self.file}" if self.file else ""
        same = found.id == self.container or bool(file and found.config_files.endswith(file))
        return same and found.image == self.image

    def matches(self, found: Container) -> bool:
        """Whether *found* runs this release: the same image, and the same release file or config hash.

        What Compose hashes is no contract: it differs between its versions, and for some services between two
        containers of one file.
        """
        known = self.config_hash in {"", found.config_hash}  # of what was found running no hash is known
        return self.started(found) or (found.image == self.image and known)

    @property
    def adopted(self) -> bool:
        """Whether it was not released by us but found running; Compose gives the container of its file another hash."""
        return self.file.startswith(ADOPTED)


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """What a commit leaves to be written down: by its session, or by the next one if that session dies."""

    release: str
    event: str
    """The event of the journal."""
    facts: dict[str, Any]
    """The facts of that event."""
    record: Record | None = None
    live: dict[str, Any] | None = None
    """What users have from now on, as the arguments of `keep_live`; None if that does not change."""

    def as_text(self) -> str:
        """The JSON text, for `parse`."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Unrecorded:
        """The value of which *text* was made; raises ValueError, TypeError or KeyError for a damaged one."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, row: dict[str, Any]) -> Unrecorded:
        """The value of the same fields in JSON; raises as `parse` does."""
        return cls(**row | {"record": Record(**row["record"]) if row["record"] else None})


def read_records(path: Path) -> list[Record]:
    """The records in a file, the newest last; none without the file. Raises ConfigError for a damaged one."""
    try:
        return [Record(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {error}; move it away") from error


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Replace the file by the newest 20 of *records*."""
    write_atomically(path, json.dumps([asdict(each) for each in records[-KEPT_RECORDS:]], indent=1))


def read_journal(root: Path) -> list[dict[str, Any]]:
    """The journal of the state directory *root*, with the reverts of guards, which write only their own log."""
    rows = read_json_lines(root / JOURNAL_FILE)
    ended = {row.get("release") for row in rows if row.get("event") in END_EVENTS}
    for release in _reverted_by_guards(root):
        last = next((n for n, row in reversed([*enumerate(rows)]) if row.get("release") == release), None)
        if release in ended or last is None:
            continue
        at = _closed_at(root, release) or rows[last].get("at")
        rows.insert(last + 1, {"at": at, "event": "reverted", "release": release, "who": "its guard"})
    return rows


def unresolved(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last end that needs an operator, None if there is none or if it was resolved since.

    A later good release, a rollback, `cutover recover` or the revert of that very release resolves it.
    """
    found: Mapping[str, Any] | None = None
    for row in history:
        event, release = row.get("event"), row.get("release")
        if event == "end" and row.get("code") == NEEDS_OPERATOR:
            found = row
        elif event in RESOLVING or (found and event == "reverted" and release == found.get("release")):
            found = None
    return found


def _reverted_by_guards(root: Path) -> list[str]:
    with contextlib.suppress(OSError):
        lines = (root / GUARD_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.removeprefix(GUARD_REVERTED) for line in lines if line.startswith(GUARD_REVERTED)]
    return []


def _closed_at(root: Path, release: str) -> str | None:
    # A rename changes the ctime of the file and nothing else of it.
    with contextlib.suppress(OSError):
        return stamp((root / f"closed.{release}").stat().st_ctime)
    return None
