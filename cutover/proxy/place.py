"""Where the files of a proxy are: on this host, or on a node that is reached over ssh."""

from __future__ import annotations

import base64
import errno
import os
import shlex
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Protocol

from cutover.core.change import Argv
from cutover.core.config_schema import Platform
from cutover.system.process import CompletedCommand, in_thread
from cutover.system.ssh import SshHost, kept_connection, unreached

REACH_S = 20.0
"""What a connection may take in addition to the command itself."""
ANSWER_S = 10.0
COUNT_DEADLINE_S = 5.0
"""A drain counts again and again, and users may have to be switched back meanwhile."""
PIECE_BYTES = 1 << 22  # about 20,000 requests
CHUNK_BYTES = 256 * 1024
PACE_S = 1.0
LOG_DEADLINE_S = 10.0
SILENT_S = 5.0
SYSTEM_ERRORS = frozenset(map(os.strerror, errno.errorcode))
FOLDER = 'stat -c %f -- "$1" && ls -A -- "$1"'


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that others append to."""

    content: bytes = b""
    anew: bool = False
    """Whether it is the beginning of a file, and does not go on where the piece before it ended."""
    ahead_s: float = 0.0
    """By how much the clock there is ahead of the one here."""


class Follower(Protocol):
    """Reads what is appended to a file, across rotation and truncation, in constant memory."""

    def read(self) -> Piece:
        """Return what was not read yet, as much as is there now and fits; raises OSError while it cannot be read."""

    def close(self) -> None:
        """Close the file."""


class Place(Protocol):
    """The host on which a proxy runs."""

    @property
    def name(self) -> str:
        """Its ssh name; empty for this host."""

    @property
    def reach_s(self) -> float:
        """What a command there may take in addition to what it takes here."""

    @property
    def color_address(self) -> str:
        """The address of a color in /proc/net/tcp there, as a regular expression."""

    def argv(self, words: Argv) -> Argv:
        """Return the command that runs *words* there."""

    def folder(self, path: Path) -> tuple[set[str], int]:
        """Return the names in the folder *path* and its mode; raises OSError."""

    def content(self, path: Path) -> bytes:
        """Return what the file *path* holds; raises OSError."""

    def newest(self, path: Path) -> Piece:
        """Return the last 4 MiB of the file *path*; raises OSError."""

    def follow(self, path: Path) -> Follower:
        """Return what reads the file *path* from its present end on; from its beginning if it is yet to come."""


@dataclass(frozen=True, slots=True)
class Here:
    """This host."""

    name = ""
    reach_s = 0.0
    color_address = "(0100007F|01000000)"

    def argv(self, words: Argv) -> Argv:
        """Return *words*."""
        return words

    def folder(self, path: Path) -> tuple[set[str], int]:
        """Return the names in the folder *path* and its mode; raises OSError."""
        return {entry.name for entry in path.iterdir()}, path.stat().st_mode

    def content(self, path: Path) -> bytes:
        """Return what the file *path* holds; raises OSError."""
        return path.read_bytes()

    def newest(self, path: Path) -> Piece:
        """Return the last 4 MiB of the file *path*; raises OSError."""
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - PIECE_BYTES))
            return Piece(file.read(PIECE_BYTES))

    def follow(self, path: Path) -> Follower:
        """Return what reads the file *path* from its present end on; from its beginning if it is yet to come."""
        return OpenFile(path)


THIS_HOST = Here()


@dataclass(slots=True)
class OpenFile:
    """Follows a file of this host, which it holds open: what is written to a rotated one is not lost."""

    path: Path
    _file: BinaryIO | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        try:
            self._file = self.path.open("rb", buffering=0)
            self._file.seek(0, os.SEEK_END)
        except OSError:
            self.close()  # the next read says why, or finds it there

    def read(self) -> Piece:
        """Return what was not read yet, at most 256 KiB; raises OSError."""
        anew = self._file is None
        file = self._file = self._file or self.path.open("rb", buffering=0)
        while not (content := file.read(CHUNK_BYTES)):
            try:
                there, mine = self.path.stat(), os.fstat(file.fileno())
            except FileNotFoundError:  # rotated, and the new one is yet to come
                break
            if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
                self.close()
                file = self._file = self.path.open("rb", buffering=0)
            elif mine.st_size < file.tell():  # truncated
                file.seek(0)
            else:
                break
            anew = True
        return Piece(content, anew)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a file was read to: `file` is its device, inode and birth, `-` while there is none.

    Without a `file` the reading has not begun, and `offset` counts from the end of what is there.
    """

    file: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Front:
    """A node of `[platform] fronts`."""

    host: SshHost
    """How an undo reaches it: by a connection of its own."""
    reach_s = REACH_S
    color_address = "[0-9A-F]+"

    @property
    def name(self) -> str:
        """Its ssh name."""
        return self.host.name

    def argv(self, words: Argv) -> Argv:
        """Return the command that runs *words* there."""
        return self.host.argv(shlex.join(words))

    def folder(self, path: Path) -> tuple[set[str], int]:
        """Return the names in the folder *path* and its mode; raises OSError."""
        mode, *names = self._run(("sh", "-c", FOLDER, "sh", str(path))).out.splitlines()
        return {*names}, int(mode, 16)

    def content(self, path: Path) -> bytes:
        """Return what the file *path* holds; raises OSError."""
        return self._run(("cat", "--", str(path))).out.encode()

    def newest(self, path: Path) -> Piece:
        """Return the last 4 MiB of the file *path*; raises OSError."""
        return self.read(path, Position("", PIECE_BYTES), deadline_s=ANSWER_S + REACH_S)[1]

    def follow(self, path: Path) -> Follower:
        """Return what reads the file *path* from its present end on; from its beginning if it is yet to come."""
        return FrontFile(partial(self.read, path))

    def read(
        self, path: Path, at: Position, most: int = PIECE_BYTES, deadline_s: float = LOG_DEADLINE_S
    ) -> tuple[Position, Piece]:
        """Return at most *most* bytes of the file *path* after *at*, and where they end; raises OSError."""
        words, asked = read_log(path, at, most), time.time()
        done = self._ask(words, deadline_s)
        if not done.ok:
            reason = done.last_line.rpartition(": ")[2]
            raise OSError(unreached(done) or (reason.lower() if reason in SYSTEM_ERRORS else done.last_line))
        try:
            return parse_piece(done.out, at, asked, time.time())
        except ValueError:
            raise OSError(f"no log in its answer, which begins with {done.out[:80]!r}") from None

    def in_flight(self, door: int, port: int) -> int | None:
        """Return how many connections it has to *port* of a color; None if *door*, where its proxy listens, is unseen.

        Raises OSError.
        """
        words = ("sh", "-c", _script("count_in_flight"), "sh", f"{door:04X}", str(door), f"{port:04X}")
        said = self._run(words, COUNT_DEADLINE_S).out.strip()
        if said == "unseen":
            return None
        if not said.isdecimal():
            raise OSError(f"{self.name}: its connections cannot be counted: {said or 'no answer'}")
        return int(said)

    def _run(self, words: Argv, deadline_s: float = ANSWER_S + REACH_S) -> CompletedCommand:
        done = self._ask(words, deadline_s)
        if not done.ok:
            raise OSError(f"{self.name}: {unreached(done) or done.last_line}")
        return done

    def _ask(self, words: Argv, deadline_s: float) -> CompletedCommand:
        asked = kept_connection(self.host.name, self.host.config)
        return asked.run(shlex.join(words), deadline_s=deadline_s, mask=False)


def fronts_of(platform: Platform) -> tuple[Front, ...]:
    """The nodes of `[platform] fronts` in order; raises ConfigError for a bad name."""
    return tuple(Front(SshHost(name, None, platform.ssh_config)) for name in platform.fronts)


def read_log(path: Path, at: Position, most: int) -> Argv:
    """The command that reads at most *most* bytes of the file *path* after *at*, for `parse_piece`."""
    return ("sh", "-c", _script("read_log"), "sh", str(path), at.file, str(at.offset), str(most))


@cache
def _script(name: str) -> str:
    """The text of a script that is run on a front as it is: nothing is installed there."""
    return (resources.files("cutover.proxy") / "scripts" / f"{name}.sh").read_text(encoding="utf-8")


def parse_piece(said: str, before: Position, asked: float, answered: float) -> tuple[Position, Piece]:
    """Where the bytes end that the command of `read_log` printed, and these; it ran between these times of ours."""
    head, _, encoded = said.partition("\n")
    file, start, clock = head.split()
    content = base64.b64decode(encoded)
    anew = Position(file, int(start)) != before
    piece = Piece(content, anew, clock_ahead(int(clock), asked, answered))
    return Position(file, int(start) + len(content)), piece


def clock_ahead(there: int, asked: float, answered: float) -> float:
    """By how many seconds a clock surely is ahead that showed *there* (cut to a second) between our two times."""
    least, most = there - answered, there + 1 - asked
    return least if least > 0 else min(most, 0.0)


@dataclass(slots=True, eq=False)
class FrontFile:
    """Follows a file of a front: read at most once a second, in a thread, so that a silent node delays nobody."""

    ask: Callable[[Position, int], tuple[Position, Piece]]
    """Reads at most as many bytes after a position; raises OSError."""
    start: Callable[[Callable[[], None]], None] = in_thread
    clock: Callable[[], float] = time.monotonic
    _at: Position = field(default_factory=Position, init=False)
    _asked_at: float = field(default=float("-inf"), init=False)
    _answer: Future[tuple[Position, Piece]] | None = field(default=None, init=False)
    _trouble: OSError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        try:
            self._at, _ = self.ask(self._at, 0)
        except OSError as error:
            self._trouble, self._at = error, Position("", PIECE_BYTES)

    def read(self) -> Piece:
        """Return what has arrived since the last call, at most 4 MiB, without waiting; raises OSError."""
        now, piece = self.clock(), Piece()
        if self._answer is None and now - self._asked_at >= PACE_S:
            self._asked_at, self._answer = now, Future()
            self.start(partial(self._work, self._answer))
        if self._answer is not None and self._answer.done():
            answer, self._answer, self._trouble = self._answer, None, None
            try:
                self._at, piece = answer.result()
            except OSError as error:
                self._trouble = error
        elif now - self._asked_at >= SILENT_S:
            self._trouble = OSError(f"no answer for {now - self._asked_at:.0f} s")
        if self._trouble is not None:
            raise self._trouble.with_traceback(None)
        if self._at.file == "-":
            raise FileNotFoundError
        return piece

    def close(self) -> None:
        """Nothing is open between two reads."""

    def _work(self, answer: Future[tuple[Position, Piece]]) -> None:
        try:
            answer.set_result(self.ask(self._at, PIECE_BYTES))
        except BaseException as error:  # noqa: BLE001 - raised again by the read that collects it
            answer.set_exception(error)
