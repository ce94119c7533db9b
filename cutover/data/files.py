"""Snapshot files: written privately and durably with their checksum, described by a JSON beside them, rotated."""

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from cutover.core.errors import Failed, UsageProblem
from cutover.core.masking import MASK
from cutover.data import contents
from cutover.data.contents import Contents
from cutover.system import process as processes

Words = tuple[str, ...]
PARTIAL = ".partial"
PIECE = 1 << 20
NEEDED = 2.0
QUICK_S = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """One snapshot: its file, what it was taken of, its checksum, and whether it was proved by restoring it."""

    path: Path
    kind: str
    database: str
    at: str
    size: int
    sha256: str
    seconds: float
    contents: Contents
    restore_s: float | None = None
    """How long a restore took; None until one was compared and found the same."""

    @property
    def proved(self) -> bool:
        """Whether it was restored and compared."""
        return self.restore_s is not None

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def as_json(self) -> dict[str, Any]:
        """The description that stands beside the file."""
        keys = ("kind", "database", "at", "size", "sha256", "seconds", "restore_s")
        return (
            {"file": self.name}
            | {key: getattr(self, key) for key in keys}
            | {"contents": self.contents.as_json()}
        )


def describe(taken: Taken) -> None:
    """Write the description beside the file, durably."""
    path = described_by(taken.path)
    draft = path.with_name(f".{path.name}{PARTIAL}")
    with private(draft) as out:
        out.write(json.dumps(taken.as_json(), indent=1).encode())
    settle(draft, path)


def described_by(path: Path) -> Path:
    """Where the description of the snapshot *path* stands."""
    return path.with_name(path.name + ".json")


def load(path: Path) -> Taken:
    """The snapshot at *path* as it was described; raises UsageProblem where there is none or no description."""
    if not path.is_file():
        raise UsageProblem(f"{path}: no such snapshot")
    try:
        table: Mapping[str, Any] = json.loads(described_by(path).read_text(encoding="utf-8"))
        known = {
            key: table[key] for key in ("kind", "database", "at", "size", "sha256", "seconds", "restore_s")
        }
        return Taken(path=path, contents=contents.from_json(table["contents"]), **known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageProblem(f"{described_by(path)}: no description of a snapshot that can be read") from error


def kept(folder: Path) -> list[Taken]:
    """The snapshots of *folder* that have a description, the newest first."""
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(UsageProblem):
            found.append(load(path.with_name(path.name.removesuffix(".json"))))
    return sorted(found, key=lambda each: (each.at, each.name), reverse=True)


def doomed(newest_first: Sequence[Taken], keep: int) -> list[Taken]:
    """Those to delete so that *keep* stay; the last proved one stays whatever its age."""
    last_proved = next((each for each in newest_first if each.proved), None)
    return [each for each in newest_first[keep:] if each is not last_proved]


def delete(taken: Taken) -> None:
    """Remove a snapshot: first its description, so that a half-removed one is never restored."""
    described_by(taken.path).unlink(missing_ok=True)
    taken.path.unlink(missing_ok=True)


def proved(taken: Taken, restore_s: float) -> Taken:
    """The same snapshot, described as one that was restored and compared."""
    now = replace(taken, restore_s=round(restore_s, 3))
    describe(now)
    return now


@contextlib.contextmanager
def private(path: Path) -> Iterator[IO[bytes]]:
    """*path* opened anew for writing, readable by its owner alone from its first moment; fsynced at the end."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        os.fchmod(out.fileno(), 0o600)
        yield out
        out.flush()
        os.fsync(out.fileno())


def settle(draft: Path, path: Path) -> None:
    """Rename *draft* to *path*, durably."""
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """The checksum of a file as it stands on the disk now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream(
    words: Sequence[str], environment: Mapping[str, str], path: Path, deadline_s: float
) -> tuple[int, str, str]:
    """Write what *words* print to *path*: its size, its checksum, and what they said on the side.

    The file is called `.partial` until the command has ended well; otherwise it is removed and Failed is raised.
    """
    draft = path.with_name(path.name + PARTIAL)
    try:
        with tempfile.TemporaryFile() as said, private(draft) as out:
            process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env=processes.clean_environment(environment),
                start_new_session=True,
            )
            size, digest = _pump(process, pipe(process.stdout), out, deadline_s)
            said.seek(0)
            told = said.read().decode(errors="replace")
            if process.returncode:
                raise Failed(_why(process.returncode, told, deadline_s))
        settle(draft, path)
    except OSError as error:
        raise UsageProblem(f"{draft}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return size, digest, told


def _pump(
    process: subprocess.Popen[bytes], source: IO[bytes], out: IO[bytes], deadline_s: float
) -> tuple[int, str]:
    """Copy the output piece by piece; the process is gone afterwards, whatever happened."""
    digest, size = hashlib.sha256(), 0
    late = threading.Timer(deadline_s, processes.kill_group, (process,))
    late.daemon = True
    late.start()
    try:
        while piece := source.read(PIECE):
            out.write(piece)
            digest.update(piece)
            size += len(piece)
        process.wait()
    finally:
        late.cancel()
        end(process)
        source.close()
    return size, digest.hexdigest()


def pipe(end_of: IO[bytes] | None) -> IO[bytes]:
    """A process's pipe that was asked for, and so is there."""
    if end_of is None:
        raise ValueError("no pipe was asked for")
    return end_of


def end(process: subprocess.Popen[bytes]) -> None:
    """End *process* with its group, unless it has ended."""
    if process.poll() is None:
        processes.kill_group(process)
        process.wait()


def _why(code: int, told: str, deadline_s: float) -> str:
    if code == -signal.SIGKILL:
        return f"the dump did not end within {deadline_s:g} s"
    lines = [line for line in MASK(told).splitlines() if line.strip()]
    return f"the dump failed: {lines[-1].strip() if lines else f'exit {code} without a word'}"


def need_room(folder: Path, needed: int, what: str) -> None:
    """Raise UsageProblem unless *folder* has room for twice *needed* bytes."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED * needed:
        wanted = megabytes(int(NEEDED * needed))
        raise UsageProblem(
            f"{folder}: {megabytes(free)} free, a snapshot of {what} needs {wanted} (twice its size)"
        )


def megabytes(size: int) -> str:
    """A size as people read it."""
    if size >= 10**9:
        return f"{size / 10**9:.2f} GB"
    return f"{size / 10**6:.1f} MB" if size >= 10**6 else f"{size / 10**3:.1f} kB"


def feed(
    words: Sequence[str], environment: Mapping[str, str], path: Path, deadline_s: float
) -> processes.Done:
    """Run *words* with *path* as their standard input, read piece by piece; never raises for a failed command."""
    with path.open("rb") as file, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            list(words),
            stdin=file,
            stdout=said,
            stderr=said,
            env=processes.clean_environment(environment),
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            code = processes.TIMED_OUT
            said.write(f"no end after {deadline_s:g} s\n".encode())
        finally:
            end(process)
        said.seek(0)
        return processes.Done(tuple(words), code, "", MASK(said.read().decode(errors="replace")))
