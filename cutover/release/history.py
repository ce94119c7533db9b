"""What the state directory keeps, as values: the record of each release, a held release, the journal."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cutover.core.errors import ConfigError
from cutover.core.evidence import read_json_lines
from cutover.core.result import NEEDS_OPERATOR
from cutover.core.text import duration, stamp, utc
from cutover.system.container import Container
from cutover.system.files import write_atomically

_T = TypeVar("_T")
JOURNAL_FILE, GUARD_LOG, UNRECORDED_FILE = "journal.jsonl", "guard.log", "unrecorded.json"
GUARD_REVERTED = "reverted: "
"""How a line of the guard's log begins that names a release which it reverted."""
KEPT_RECORDS = 20
COMMITTED = frozenset({"released", "staged"})
"""Events of a commit; `staged` is one to a color that gets no traffic."""
END_EVENTS = COMMITTED | {"reverted", "kept unverified", "recovered", "rolled back", "given up"}
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
    """What a commit leaves to be written down: by its session, or by the next one if that dies or cannot write."""

    release: str
    event: str
    """The event of the journal."""
    facts: dict[str, Any]
    """The facts of that event."""
    record: Record | None = None
    live: dict[str, Any] | None = None
    """What users have from now on, as further arguments of `keep_live`; None if that does not change."""

    def as_text(self) -> str:
        """The JSON text, for `parse`."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Unrecorded:
        """The value of which *text* was made; raises ValueError for a damaged one."""
        return _read(cls, text)


def _read(kind: type[_T], text: str) -> _T:
    from pydantic import TypeAdapter  # only where a file is there

    return TypeAdapter(kind).validate_json(text)


def unreadable(root: Path, error: OSError) -> ConfigError:
    """The error of a state directory that this user may not read, or that cannot be read at all."""
    file = f" ({error.filename})" if error.filename else ""
    way_out = "run it as the user who releases, or let state_dir name another folder"
    return ConfigError(f"state directory {root} cannot be read: {error.strerror}{file}; {way_out}")


def read_records(path: Path) -> list[Record]:
    """The records in a file, the newest last; none without the file. Raises ConfigError for one that cannot be read."""
    try:
        return [Record(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except OSError as error:
        why = f"{error.strerror}; run it as the user who releases"
        raise ConfigError(f"{path} cannot be read: {why}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {error}; move it away") from error


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Replace the file by the newest 20 of *records*."""
    write_atomically(path, json.dumps([asdict(each) for each in records[-KEPT_RECORDS:]], indent=1))


def read_journal(root: Path) -> list[dict[str, Any]]:
    """The journal of the state directory *root*, with the reverts of guards, which write only their own log.

    Raises ConfigError if it cannot be read; one that is not there is empty.
    """
    try:
        rows = read_json_lines(root / JOURNAL_FILE)
    except OSError as error:
        raise unreadable(root, error) from error
    ended = {row.get("release") for row in rows if row.get("event") in END_EVENTS}
    for release in _reverted_by_guards(root):
        ours = [n for n, row in enumerate(rows) if row.get("release") == release]
        if release in ended or not ours:
            continue
        at = _closed_at(root, release) or rows[ours[-1]].get("at")
        # What was found out after it, as that users are not served as before, is not resolved by it.
        before = [n for n in ours if str(rows[n].get("at")) <= str(at)]
        row = {"at": at, "event": "reverted", "release": release, "who": "its guard"}
        rows.insert((before or ours)[-1] + 1, row)
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


# --- a held release ----------------------------------------------------------------------------------------
HOLD_FILE = "held"
GUARD_SLOTS = ("guard.1", "guard.2")
"""The locks of the two guards of a held release: whoever finds the other's lock free starts it again."""
BOOT_ID, UPTIME = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/uptime")


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time that can be compared although the clock is set, or the host boots, in between."""

    epoch_s: float
    """Seconds since 1970 by the clock."""
    boot: str
    """The ID of the kernel's boot."""
    uptime_s: float
    """Seconds since that boot, also those in which the host was suspended."""

    @classmethod
    def now(cls) -> Moment:
        """The current moment."""
        boot = BOOT_ID.read_text(encoding="ascii").strip()
        return cls(time.time(), boot, float(UPTIME.read_text(encoding="ascii").split()[0]))


@dataclass(frozen=True, slots=True)
class Hold:
    """A release that passed everything and stays open until *seconds* after *begun*, when its guard reverts it.

    A confirmation before that commits it and writes down *left*.
    """

    left: Unrecorded
    begun: Moment
    seconds: float
    old: str | None = None
    """The color that was live before a switch, which a confirmation retires."""

    @property
    def release(self) -> str:
        """The id of the release."""
        return self.left.release

    def left_s(self, now: Moment) -> float:
        """Seconds until the deadline, negative after it.

        A step of the clock moves no deadline: within one boot the uptime decides, after a reboot the clock.
        """
        same_boot = now.boot == self.begun.boot and now.uptime_s >= self.begun.uptime_s
        passed = now.uptime_s - self.begun.uptime_s if same_boot else now.epoch_s - self.begun.epoch_s
        return self.seconds - passed

    def until(self, now: Moment) -> float:
        """The deadline in seconds since 1970, by the clock of *now*."""
        return now.epoch_s + self.left_s(now)

    def line(self, now: Moment) -> str:
        """`sha-2 on green is held by ana@web-1 until 2026-01-31 04:35:10 UTC (for 12 min 3 s)`."""
        facts, left = self.left.facts, self.left_s(now)
        rest = f"for {duration(left)}" if left > 0 else "the time is over"
        held = f"{facts['tag']} on {facts['color']} is held by {facts['who']}"
        return f"{held} until {utc(self.until(now))} ({rest})"

    @property
    def way_out(self) -> str:
        """The two commands that end it."""
        return f"`cutover confirm {self.release}` keeps it, `cutover rollback` reverts it"

    def as_text(self) -> str:
        """The text of its file: the first line is read by guard.sh, the rest is the JSON text for `parse`."""
        begun = self.begun
        # In whole seconds, and never too early: a shell has no fractions.
        clock = f"{math.ceil(begun.epoch_s + self.seconds)}"
        uptimes = (f"{math.floor(begun.uptime_s)}", f"{math.ceil(begun.uptime_s + self.seconds)}")
        return f"{' '.join((self.release, clock, begun.boot, *uptimes))}\n{json.dumps(asdict(self))}\n"

    @classmethod
    def parse(cls, text: str) -> Hold:
        """The value of which *text* was made; raises ValueError for a damaged one."""
        return _read(cls, text.partition("\n")[2])
