"""Snapshot files: write, describe, list and rotate them, and compare a restored copy with the original."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

from pydantic import TypeAdapter

from cutover.core.errors import ConfigError, Failed
from cutover.core.masking import MASK
from cutover.core.text import count
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.system import process as processes
from cutover.system.files import sync_folder

Pipe = IO[bytes] | int
SequenceRange = tuple[int | None, int | None]
"""Lowest and highest value that a sequence had while the dump ran; None: never used."""

CHECK_NAME = "snapshot"
PARTIAL = ".partial"
CHUNK_BYTES = 1 << 20
FREE_SPACE_FACTOR = 2.0
QUERY_TIMEOUT_S = 60.0
MAX_REVISIONS_SHOWN = 4
MAX_DIFFERENCES_SHOWN = 5


# --- contents ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TableContents:
    """Row count of one table, and an order-independent digest of its rows if it is small enough to be read."""

    rows: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class DatabaseContents:
    """What a database holds: schema revision, tables, sequences, and a count of every other kind of object."""

    head: str = ""
    tables: Mapping[str, TableContents] = field(default_factory=dict)
    sequences: Mapping[str, SequenceRange] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows in all tables."""
        return sum(table.rows for table in self.tables.values())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DatabaseContents:
        """The contents of which *values* were made by `asdict`; raises ValueError for anything else."""
        return TypeAdapter(cls).validate_python(values)


Dumped = tuple[int, str, DatabaseContents]
"""Size and SHA-256 of a dump, and what it holds."""
Dump = Callable[[Path, float], Dumped]
"""Writes a dump to a path within so many seconds."""


def parse_contents(lines: Iterable[str]) -> DatabaseContents:
    """Parse tab-separated lines whose first field is `table`, `sequence`, `object` or `head`."""
    rows = [[*line.rstrip("\n").split("\t"), ""] for line in lines]
    values = [(row[1], int(row[2]) if row[2] else None) for row in rows if row[0] == "sequence"]
    return DatabaseContents(
        join_revisions([row[1] for row in rows if row[0] == "head"]),
        {row[1]: TableContents(int(row[2]), row[3]) for row in rows if row[0] == "table"},
        {name: (value, value) for name, value in values},
        {row[1]: int(row[2]) for row in rows if row[0] == "object"},
    )


def join_revisions(revisions: list[str]) -> str:
    """All revisions in one string; of a long history only the last one and how many there are."""
    # Alembic stores only its heads; other tools store every revision that was ever applied.
    if len(revisions) > MAX_REVISIONS_SHOWN:
        return f"{max(revisions)} ({len(revisions)} revisions)"
    return ",".join(sorted(revisions))


def widen_sequences(contents: DatabaseContents, later: DatabaseContents) -> DatabaseContents:
    """Return *contents* with the range of each sequence extended to its value in *later*."""
    # Sequences are not transactional: the dump may contain any value that they had while it ran.
    before, after = contents.sequences, later.sequences
    ranges = {name: (limits[0], after.get(name, limits)[1]) for name, limits in before.items()}
    return replace(contents, sequences=ranges)


def judge_restored(expected: DatabaseContents, restored: DatabaseContents) -> Verdict:
    """Yes if the restored copy equals the original in each table, sequence, object count and revision."""
    differences = list(_content_differences(expected, restored))
    if not expected.tables and not differences:
        return not_asked(CHECK_NAME, "the database has no table yet: there is nothing to compare")
    if differences:
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        reason = f"the restored copy differs: {differences[0]}{more}"
        return no(CHECK_NAME, reason, differences=differences[:MAX_DIFFERENCES_SHOWN])
    tables, rows = len(restored.tables), restored.rows
    text = f"{count(tables, 'table')}, {count(rows, 'row')}, {count(len(restored.sequences), 'sequence')}"
    text += f", revision {restored.head}" if restored.head else ""
    return yes(CHECK_NAME, f"restored and compared: {text}", tables=tables, rows=rows, head=restored.head)


def _content_differences(expected: DatabaseContents, restored: DatabaseContents) -> Iterator[str]:
    """One line for each difference, the most important first."""
    if expected.head != restored.head:
        yield f"revision: expected {expected.head or 'none'}, got {restored.head or 'none'}"
    yield from _name_differences("table", expected.tables.keys(), restored.tables.keys())
    for name in sorted(expected.tables.keys() & restored.tables.keys()):
        ours, theirs = expected.tables[name], restored.tables[name]
        if ours.rows != theirs.rows:
            yield f"table {name}: expected {ours.rows:,} rows, got {theirs.rows:,}"
        elif ours.digest and theirs.digest and ours.digest != theirs.digest:
            yield f"table {name}: {ours.rows:,} rows as expected, with other contents"
    yield from _name_differences("sequence", expected.sequences.keys(), restored.sequences.keys())
    for name in sorted(expected.sequences.keys() & restored.sequences.keys()):
        allowed, seen = expected.sequences[name], restored.sequences[name]
        if not _in_range(seen, allowed):
            yield f"sequence {name}: expected {_range_text(allowed)}, got {_range_text(seen)}"
    for kind in sorted(expected.objects.keys() | restored.objects.keys()):
        wanted, found = expected.objects.get(kind, 0), restored.objects.get(kind, 0)
        if wanted != found:
            yield f"{kind}: expected {wanted}, got {found}"


def _name_differences(kind: str, expected: AbstractSet[str], restored: AbstractSet[str]) -> Iterator[str]:
    yield from (f"{kind} {name} is missing" for name in sorted(expected - restored))
    yield from (f"{kind} {name} is not in the original" for name in sorted(restored - expected))


def _in_range(seen: SequenceRange, allowed: SequenceRange) -> bool:
    value, (lowest, highest) = seen[0], allowed
    if value in allowed:
        return True
    if value is None or highest is None:
        return False
    return value <= highest if lowest is None else min(lowest, highest) <= value <= max(lowest, highest)


def _range_text(limits: SequenceRange) -> str:
    low, high = ("unused" if value is None else str(value) for value in limits)
    return low if low == high else f"{low} to {high}"


# --- snapshot files ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One snapshot as its description records it: source, time, size, checksum, contents."""

    path: Path
    kind: str
    database: str
    at: str
    size: int
    sha256: str
    seconds: float
    contents: DatabaseContents
    restore_s: float | None = None
    """Seconds that a restore took; None until the snapshot was restored and compared without a difference."""

    @property
    def verified(self) -> bool:
        """Whether it was restored and compared."""
        return self.restore_s is not None

    @property
    def name(self) -> str:
        """File name without the folder."""
        return self.path.name

    @property
    def description(self) -> Path:
        """Path of the JSON description beside the file."""
        return self.path.with_name(self.path.name + ".json")

    def as_json(self) -> dict[str, Any]:
        """Content of the description."""
        return {key: value for key, value in ({"file": self.name} | asdict(self)).items() if key != "path"}


def write_description(snapshot: SnapshotFile) -> None:
    """Write the description beside the file, durably."""
    draft = snapshot.path.with_name(f".{snapshot.description.name}{PARTIAL}")
    with open_private(draft) as out:
        out.write(json.dumps(snapshot.as_json(), indent=1).encode())
    rename_durably(draft, snapshot.description)


def load_snapshot(path: Path) -> SnapshotFile:
    """Read the description of the snapshot at *path*; raises ConfigError if either of them is missing."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such snapshot")
    description = path.with_name(path.name + ".json")
    try:
        values = json.loads(description.read_text(encoding="utf-8"))
        snapshot = TypeAdapter(SnapshotFile).validate_python({**values, "path": path})
        _time_of(snapshot)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{description}: no description of a snapshot that can be read") from error
    return snapshot


def _time_of(snapshot: SnapshotFile) -> datetime:
    return datetime.strptime(snapshot.at, "%Y-%m-%dT%H%M%S.%f%z")


def list_snapshots(folder: Path) -> list[SnapshotFile]:
    """Snapshots in *folder* that have a readable description, the newest first."""
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(ConfigError):
            found.append(load_snapshot(path.with_name(path.name.removesuffix(".json"))))
    return sorted(found, key=lambda each: (each.at, each.name), reverse=True)


def creation_time(now: datetime, newest_first: Sequence[SnapshotFile]) -> str:
    """`at` of a new snapshot: *now*, or just after the newest one if the clock was ahead when that was taken."""
    if newest_first:
        now = max(now, _time_of(newest_first[0]) + timedelta(milliseconds=1))
    return f"{now:%Y-%m-%dT%H%M%S.%f}"[:-3] + "Z"


def select_expired(newest_first: Sequence[SnapshotFile], keep: int) -> list[SnapshotFile]:
    """Snapshots beyond the newest *keep*, without the last verified one: that one is never deleted."""
    last_verified = next((each for each in newest_first if each.verified), None)
    return [each for each in newest_first[keep:] if each is not last_verified]


def delete_snapshot(snapshot: SnapshotFile) -> None:
    """Delete the file and its description."""
    # The description first: without it a snapshot that is deleted only in part cannot be restored.
    snapshot.description.unlink(missing_ok=True)
    snapshot.path.unlink(missing_ok=True)


def mark_verified(snapshot: SnapshotFile, restore_s: float) -> SnapshotFile:
    """Record in the description that the snapshot was restored in *restore_s* seconds and compared."""
    verified = replace(snapshot, restore_s=round(restore_s, 3))
    write_description(verified)
    return verified


# --- reading and writing -------------------------------------------------------------------------------------------
@contextlib.contextmanager
def open_private(path: Path) -> Iterator[IO[bytes]]:
    """Open *path* for writing with mode 0600 from the start, never through a link; fsync at the end."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        os.fchmod(out.fileno(), 0o600)
        yield out
        out.flush()
        os.fsync(out.fileno())


def rename_durably(draft: Path, path: Path) -> None:
    """Rename *draft* to *path* and fsync the folder."""
    draft.rename(path)
    sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream_to_file(
    argv: Sequence[str], environment: Mapping[str, str], path: Path, deadline_s: float
) -> tuple[int, str, str]:
    """Run *argv* and write its stdout to *path*; returns size, SHA-256 and stderr.

    The file is named `*.partial` until the command has succeeded. Otherwise it is removed; raises Failed, or
    ConfigError if it cannot be written.
    """
    draft = path.with_name(path.name + PARTIAL)
    try:
        with tempfile.TemporaryFile() as stderr, open_private(draft) as out:
            process = start_process(argv, environment, subprocess.DEVNULL, subprocess.PIPE, stderr)
            size, digest = _copy_output(process, out, deadline_s)
            stderr.seek(0)
            text = stderr.read().decode(errors="replace")
            if process.returncode:
                raise Failed(_dump_error(process.returncode, text, deadline_s))
        rename_durably(draft, path)
    except OSError as error:
        raise ConfigError(f"{draft}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return size, digest, text


def _copy_output(process: subprocess.Popen[bytes], out: IO[bytes], deadline_s: float) -> tuple[int, str]:
    """Copy the stdout of *process* to *out*; the process has ended when this returns or raises."""
    source, digest = cast("IO[bytes]", process.stdout), hashlib.sha256()
    timer = threading.Timer(deadline_s, processes.kill_group, (process,))
    timer.daemon = True
    timer.start()
    try:
        while chunk := source.read(CHUNK_BYTES):
            out.write(chunk)
            digest.update(chunk)
        process.wait()
    finally:
        timer.cancel()
        end_process(process)
        source.close()
    return out.tell(), digest.hexdigest()


def _dump_error(code: int, stderr: str, deadline_s: float) -> str:
    if code == -signal.SIGKILL:
        return f"the dump did not end within {deadline_s:g} s"
    lines = [line for line in MASK(stderr).splitlines() if line.strip()]
    return f"the dump failed: {lines[-1].strip() if lines else f'exit {code} without output'}"


def feed_file(
    argv: Sequence[str], environment: Mapping[str, str], path: Path, deadline_s: float
) -> processes.CompletedCommand:
    """Run *argv* with the file *path* as its stdin; stdout and stderr are returned together as `err`."""
    with path.open("rb") as file, tempfile.TemporaryFile() as output:
        process = start_process(argv, environment, file, output, output)
        try:
            code = process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            code = processes.TIMED_OUT
            output.write(f"no end after {deadline_s:g} s\n".encode())
        finally:
            end_process(process)
        output.seek(0)
        return processes.CompletedCommand(tuple(argv), code, "", MASK(output.read().decode(errors="replace")))


def start_process(
    argv: Sequence[str], environment: Mapping[str, str], stdin: Pipe, stdout: Pipe, stderr: Pipe
) -> subprocess.Popen[bytes]:
    """Start *argv* in a process group of its own, in the clean environment plus *environment*."""
    words, env = list(argv), processes.clean_environment(environment)
    return subprocess.Popen(words, env=env, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill *process* and its process group, unless it has ended."""
    if process.poll() is None:
        processes.kill_group(process)
        process.wait()


def require_disk_space(folder: Path, size: int, name: str) -> None:
    """Raise ConfigError unless *folder* has free space for twice *size* bytes."""
    free, needed = shutil.disk_usage(folder).free, int(FREE_SPACE_FACTOR * size)
    if free < needed:
        need = f"a snapshot of {name} needs {format_size(needed)} (twice its size)"
        raise ConfigError(f"{folder}: {format_size(free)} free, {need}")


def format_size(size: int) -> str:
    """Bytes as `1.21 GB`, `3.4 MB` or `0.5 kB`."""
    if size >= 10**9:
        return f"{size / 10**9:.2f} GB"
    return f"{size / 10**6:.1f} MB" if size >= 10**6 else f"{size / 10**3:.1f} kB"
