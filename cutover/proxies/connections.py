"""The proxy's open connections to a colour, from the kernel's own table: each one is a request in flight.

That is so because the shipped configurations keep an idle connection to a colour for one second only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

PROC = Path("/proc")
LISTEN = 0x0A
# Established, being connected, and closed by the colour while the proxy has not read all of it yet.
IN_FLIGHT = frozenset({0x01, 0x02, 0x08})
# It only copies bytes into a network namespace that we cannot see into.
BLIND = "docker-proxy"
V4_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Socket:
    """A row of `/proc/net/tcp`."""

    local_port: int
    remote_port: int
    remote_is_loopback: bool
    state: int
    inode: int


def parse(table: str) -> list[Socket]:
    """The rows of `/proc/net/tcp` or `tcp6`; what is no row is passed over."""
    found = []
    for line in table.splitlines()[1:]:
        with suppress(ValueError, IndexError):
            words = line.split()
            address, _, port = words[2].partition(":")
            local = int(words[1].partition(":")[2], 16)
            found.append(Socket(local, int(port, 16), _loopback(address), int(words[3], 16), int(words[9])))
    return found


def _loopback(address: str) -> bool:
    """Whether an address of the table, words of four bytes in the machine's order, is this machine."""
    raw = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
    if len(address) == V4_DIGITS:
        return IPv4Address(raw).is_loopback
    six = IPv6Address(raw)
    return (six.ipv4_mapped or six).is_loopback


def in_flight(sockets: Iterable[Socket], port: int, owned: frozenset[int] | None) -> int:
    """Connections to *port* that carry a request: those whose inode is *owned*, or anybody's when None."""
    return sum(
        each.remote_port == port
        and each.remote_is_loopback
        and each.state in IN_FLIGHT
        and (owned is None or each.inode in owned)
        for each in sockets
    )


@dataclass(slots=True)
class Connections:
    """Counts what the proxy that listens on *proxy_port* of this host has open to *port*.

    The proxy is whoever listens there, with all processes of that name: workers of an earlier configuration
    still have requests in flight. Of a proxy that cannot be seen from here nothing is known.
    """

    proxy_port: int
    port: int
    proc: Path = PROC

    def count(self) -> int | None:
        """How many; None if the proxy or its network cannot be seen from here."""
        sockets = self._sockets()
        doors = [each for each in sockets if each.state == LISTEN and each.local_port == self.proxy_port]
        listening = {each.inode for each in doors}
        if not listening or self._is_published():
            return None
        holders = self._names_of_holders(listening)
        if not holders:  # not allowed to look: then everybody's count, but for our own
            mine = frozenset(_inodes(self.proc / str(os.getpid())))
            return in_flight([each for each in sockets if each.inode not in mine], self.port, None)
        owned = frozenset(inode for pid in self._pids() if _name(pid) in holders for inode in _inodes(pid))
        return in_flight(sockets, self.port, owned)

    def _is_published(self) -> bool:
        """Whether the port is one that the engine publishes: its command line can be read by anybody."""
        wanted = f"-host-port\0{self.proxy_port}\0"
        return any(_name(pid) == BLIND and wanted in _words(pid) for pid in self._pids())

    def _sockets(self) -> list[Socket]:
        tables = []
        for name in ("tcp", "tcp6"):
            with suppress(OSError):
                tables += parse((self.proc / "net" / name).read_text())
        return tables

    def _pids(self) -> Iterable[Path]:
        return (each for each in self.proc.iterdir() if each.name.isdigit())

    def _names_of_holders(self, inodes: set[int]) -> set[str]:
        return {_name(pid) for pid in self._pids() if inodes & _inodes(pid)}


def _name(pid: Path) -> str:
    try:
        return (pid / "comm").read_text().strip()
    except OSError:
        return ""


def _words(pid: Path) -> str:
    try:
        return (pid / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _inodes(pid: Path) -> set[int]:
    """The sockets that a process holds; empty when it has gone, or is not ours to look at."""
    found = set()
    with suppress(OSError):
        for entry in (pid / "fd").iterdir():
            with suppress(OSError, ValueError):
                what = str(entry.readlink())
                if what.startswith("socket:["):
                    found.add(int(what[8:-1]))
    return found
