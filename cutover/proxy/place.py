"""Where the files of a proxy are: on this host, or on a node that is reached over ssh."""

from __future__ import annotations

import base64
import errno
import os
import shlex
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from cutover.core.change import Argv
from cutover.core.config_schema import Platform
from cutover.system.process import CompletedCommand, in_thread
from cutover.system.ssh import SshHost, kept_connection, unreached

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
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
# The kernel's table has local address, remote address and state. States as in `drain.IN_FLIGHT`; 0A listens.
# A docker-proxy forwards to a network that the node does not see. [t]: not this command itself.
COUNT_IN_FLIGHT = """
sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
doors=$(echo "$sockets" | grep -Ec ": [0-9A-F]+:$1 [0-9A-F]+:0000 0A ")
published=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c -- "-host-por[t] $2 ")
if [ "$doors" -eq 0 ] || [ "$published" -gt 0 ]; then echo unseen; exit; fi
echo "$sockets" | grep -Ec " [0-9A-F]+:$3 0[128] " || :
"""
# $1 path, $2 the file that was read so far (device, inode, birth: an inode is used again; - if there was none, empty at
# the beginning), $3 how many bytes of it (at the beginning: how many of its last bytes are wanted), $4 how many bytes
# are wanted at most. It prints the file that is read, from where, and the clock; then the bytes, by base64, because
# output is text here. dd, because another tail than GNU's reads all that comes before.
READ_LOG = """
export LC_ALL=C
path=$1 read=$2 at=$3 most=$4
id() { stat -L -c '%d:%i:%W %s' -- "$1" 2>&1; }
now=$(id "$path") || case $now in
    *': No such file or directory') now='- 0' ;;
    *) echo "$now" >&2; exit 1 ;;
esac
file=$path found=${now% *} size=${now#* }
if [ "$found" != "$read" ] && [ "${read#-}" ]; then # rotated: first the rest, which has another name
    inode=${read#*:} inode=${inode%:*}
    old=$(find "$(dirname -- "$path")" -maxdepth 1 -inum "$inode" 2>/dev/null | head -n 1)
    rest=$(id "$old") || rest='- 0'
    if [ "${rest% *}" = "$read" ] && { [ "${rest#* }" -gt "$at" ] || [ "$found" = - ]; }; then
        file=$old found=$read size=${rest#* }
    fi
fi
if [ -z "$read" ]; then
    at=$((size > at ? size - at : 0))
elif [ "$found" != "$read" ] || [ "$size" -lt "$at" ]; then
    at=0
fi
echo "$found $at $(date +%s)"
[ "$found" != - ] || exit 0
[ -f "$file" ] || { echo "it is no regular file" >&2; exit 1; }
exec <"$file" || exit 1
most=$((size - at < most ? size - at : most)) block=65536
blocks=$(((at % block + most + block - 1) / block))
[ "$most" -eq 0 ] || dd bs=$block skip=$((at / block)) count=$blocks 2>/dev/null |
    tail -c +$((at % block + 1)) | head -c "$most" | base64
"""


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
        except ValueError:  # what a start file of the shell prints, for example
            raise OSError(f"no log in its answer, which begins with {done.out[:80]!r}") from None

    def in_flight(self, door: int, port: int) -> int | None:
        """Return how many connections it has to *port* of a color; None if *door*, where its proxy listens, is unseen.

        Raises OSError.
        """
        words = ("sh", "-c", COUNT_IN_FLIGHT, "sh", f"{door:04X}", str(door), f"{port:04X}")
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


def of_each(do: Callable[[_Item], _Found], items: Collection[_Item]) -> list[_Found]:
    """What *do* finds of each of *items*, at the same time."""
    if len(items) < 2:  # noqa: PLR2004 - one alone needs no thread
        return [do(each) for each in items]
    with ThreadPoolExecutor(len(items)) as pool:
        return [*pool.map(do, items)]


def fronts_of(platform: Platform) -> tuple[Front, ...]:
    """The nodes of `[platform] fronts` in order; raises ConfigError for a bad name."""
    return tuple(Front(SshHost(name, None, platform.ssh_config)) for name in platform.fronts)


def read_log(path: Path, at: Position, most: int) -> Argv:
    """The command that reads at most *most* bytes of the file *path* after *at*, for `parse_piece`."""
    return ("sh", "-c", READ_LOG, "sh", str(path), at.file, str(at.offset), str(most))


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
