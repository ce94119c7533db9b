"""nginx driver: a file in a marker directory names the live color; nginx looks at it for each request."""

from __future__ import annotations

import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cutover.core.change import Argv, Change, line
from cutover.core.config import Settings
from cutover.core.verdict import Verdict, unknown
from cutover.proxy.base import COLORS, Driver, Live, ProxyClient, judge_agreement, other
from cutover.proxy.place import THIS_HOST, Place

MARKER_HEADER = "X-Cutover-Marker"
SENTINEL = "here"
"""A file of the marker directory that is never touched: it tells an empty directory from a lost one."""
# One rename: atomic, needs no space, and does nothing if it was done. -T: never into a directory of that name.
# If both names exist nginx chooses green, so that the switch must fail: no later command may hide it.
FLIP = (
    '{ [ -e "$1/$3" ] || mv -T "$1/$2" "$1/$3"; } && '
    '{ [ ! -e "$1/$2" ] || { echo "$1 names $2 and $3: remove the one that should not be live" >&2; exit 1; }; }'
)
FLIP_BUDGET_S = 10.0


@dataclass(frozen=True, slots=True)
class Nginx(Driver):
    """The stock nginx with `deploy/proxy/nginx/cutover.conf`."""

    marker: Path
    client: ProxyClient
    place: Place = THIS_HOST
    name = "nginx"
    color_line = (
        "add_header {header} $color always; in its location / (as deploy/proxy/nginx/cutover.conf has it)"
    )

    @classmethod
    def of(cls, settings: Settings, _ports: dict[str, int]) -> Self:
        """The driver that `[proxy]` describes."""
        return cls(settings.marker, ProxyClient.of(settings))

    def agreed(self) -> Verdict:
        """Yes if the marker directory, nginx and the application name the same color."""
        seen = self.client.ask_control().headers.get(MARKER_HEADER.lower(), "")
        return judge_nginx(read_marker(self.marker, self.place), self.live(), seen)

    def switch(self, to: str) -> Change:
        """One rename in the marker directory; the undo is the opposite one."""
        there, back = (self.place.argv(flip(self.marker, color)) for color in (to, other(to)))
        budget_s = FLIP_BUDGET_S + self.place.reach_s
        return Change("switch", f"{other(to)} → {to}", there, (line(*back, within_s=budget_s),), budget_s)


def flip(marker: Path, to: str) -> Argv:
    """argv that makes *to* the live color; does nothing if it is, fails if the directory names no color or both."""
    return ("sh", "-c", FLIP, "sh", str(marker), other(to), to)


def read_marker(marker: Path, place: Place = THIS_HOST) -> Live:
    """What the marker directory of *place* says."""
    try:
        names, mode = place.folder(marker)
    except OSError as error:
        return Live(None, f"{marker}: {(error.strerror or str(error)).lower()}")
    return judge_marker(str(marker), names, mode)


def judge_marker(where: str, names: set[str], mode: int) -> Live:
    """The color that a directory with these file names and this mode means to nginx."""
    named, has_mode = sorted(names & set(COLORS)), f"{where} has mode {stat.S_IMODE(mode):04o}"
    if not mode & stat.S_IXOTH:
        return Live(None, f"{has_mode}: nginx cannot look into it and chooses blue")
    if mode & stat.S_IWOTH:
        return Live(None, f"{has_mode}: every user can switch the traffic; chmod o-w {shlex.quote(where)}")
    if SENTINEL not in names:
        why = f"{where} has lost its file {SENTINEL}: it was created anew, and nginx may see another one"
        return Live(None, why)
    if len(named) != 1:
        return Live(None, f"{where} names {' and '.join(named) or 'neither blue nor green'}")
    return Live(named[0], f"{where} names {named[0]}")


def judge_nginx(marker: Live, live: Live, seen: str) -> Verdict:
    """Yes if marker and application agree, and nginx sees the marker (*seen*: `seen`, `lost` or empty)."""
    evidence = {"nginx sees the marker": seen or "does not say"}
    if marker.color is not None and seen == "lost":
        why = "nginx does not see this host's marker directory: it was replaced, or a parent hides it"
        return unknown("proxy", why, marker=marker.how, asked=live.how, **evidence)
    return judge_agreement("marker", marker, live, **evidence)
