"""Where the files of a proxy are: on this host, or on a node that is reached over ssh."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cutover.core.change import Argv
from cutover.system.process import CompletedCommand
from cutover.system.ssh import SshHost, unreached

REACH_S = 20.0
"""What a connection may take in addition to the command itself."""
ANSWER_S = 10.0
COUNT_DEADLINE_S = 5.0
"""A drain counts again and again, and users may have to be switched back meanwhile."""
FOLDER = 'stat -c %f -- "$1" && ls -A -- "$1"'
# Lines of /proc/net/tcp: number, local address, remote address, state. States as in `drain.IN_FLIGHT`.
COUNT_IN_FLIGHT = (
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -Ec '[0-9A-F]+:{port:04X} 0[128] ' || :"
)


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


THIS_HOST = Here()


@dataclass(frozen=True, slots=True)
class Front:
    """A node of `[platform] fronts`."""

    host: SshHost
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

    def in_flight(self, port: int) -> int:
        """Return how many connections it has to *port* of a color; raises OSError."""
        said = self._run(("sh", "-c", COUNT_IN_FLIGHT.format(port=port)), COUNT_DEADLINE_S).out.strip()
        if not said.isdecimal():
            raise OSError(f"{self.name}: its connections cannot be counted: {said or 'no answer'}")
        return int(said)

    def _run(self, words: Argv, deadline_s: float = ANSWER_S + REACH_S) -> CompletedCommand:
        done = self.host.run(shlex.join(words), deadline_s=deadline_s, mask=False)
        if not done.ok:
            raise OSError(f"{self.name}: {unreached(done) or done.last_line}")
        return done
