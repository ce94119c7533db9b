"""nginx: a marker directory names the colour, nginx looks for each request, nothing is ever reloaded."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from cutover.changes import Change, Words, line
from cutover.core.config import Settings
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxies import COLOURS, Live, other
from cutover.proxies.asking import MARKER_SEEN, Way
from cutover.target import Control

HERE = "here"
"""A file of the marker directory that is never touched: it tells an empty directory from a lost one."""
# One rename: atomic, needs no space, and nothing at all when it is already so. -T: never into a directory.
# Where both names lie there nginx chooses green, whatever we wanted: no later line may take that away.
FLIP = (
    '{ [ -e "$1/$3" ] || mv -T "$1/$2" "$1/$3"; } && '
    '{ [ ! -e "$1/$2" ] || { echo "$1 names $2 and $3: remove the one that should not be live" >&2; exit 1; }; }'
)
BUDGET_S = 10.0
QUESTION = "proxy"


@dataclass(frozen=True, slots=True)
class Marker:
    """What the marker directory says; `colour` is None when that is not known, and `why` says why not."""

    colour: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Nginx:
    """The stock nginx with `deploy/proxy/nginx/cutover.conf`."""

    marker: Path
    way: Way
    name: str = "nginx"

    def live(self) -> Live:
        """The live colour by the application's own answer through nginx."""
        return self.way.live()

    def agreed(self) -> Verdict:
        """Whether host, nginx and application speak of the same colour."""
        control = self.way.ask_control()
        sees = control.headers.get(MARKER_SEEN.lower(), "")
        return judge(read_marker(self.marker), self.live(), sees)

    def switch(self, to: str) -> Change:
        """One rename in the marker directory, and the opposite one."""
        return Change(
            "switch",
            f"{other(to)} → {to}",
            flip(self.marker, to),
            (line(*flip(self.marker, other(to)), within_s=BUDGET_S),),
            BUDGET_S,
        )

    def control(self) -> Control:
        """Whether nginx answers by itself."""
        return self.way.as_control()


def make(settings: Settings, _ports: dict[str, int]) -> Nginx:
    """The driver that `[proxy]` describes."""
    return Nginx(settings.marker, Way.of(settings))


def flip(marker: Path, to: str) -> Words:
    """The words that make *to* the live colour; a no-op when it is, an error when nobody or both are."""
    return ("sh", "-c", FLIP, "sh", str(marker), other(to), to)


def lay(marker: Path, colour: str) -> None:
    """Make a marker directory that names *colour*; one that is already there is left as it is."""
    if marker.exists():
        return
    marker.mkdir(parents=True)
    marker.chmod(0o755)
    (marker / HERE).touch()
    (marker / colour).touch()


def read_marker(marker: Path) -> Marker:
    """What the directory on this host says."""
    try:
        mode = marker.stat().st_mode
        names = {entry.name for entry in marker.iterdir()}
    except OSError as error:
        return Marker(None, f"{marker}: {(error.strerror or str(error)).lower()}")
    return judge_marker(str(marker), names, mode)


def judge_marker(where: str, names: set[str], mode: int) -> Marker:
    """The colour that a directory with these names and mode says, if nginx can see it too."""
    named = sorted(names & set(COLOURS))
    if not mode & stat.S_IXOTH:
        return Marker(
            None, f"{where} has mode {stat.S_IMODE(mode):04o}: nginx cannot look into it and chooses blue"
        )
    if HERE not in names:
        return Marker(
            None,
            f"{where} has lost its file {HERE}: somebody has made it anew, and nginx may see another one",
        )
    if len(named) != 1:
        return Marker(None, f"{where} names {' and '.join(named) or 'neither blue nor green'}")
    return Marker(named[0], f"{where} names {named[0]}")


def judge(marker: Marker, live: Live, sees: str) -> Verdict:
    """Whether marker, application and nginx itself (*sees*: `seen`, `lost`, empty) agree."""
    evidence = {"marker": marker.why, "asked": live.how, "nginx sees the marker": sees or "does not say"}
    if marker.colour is None:
        return unknown(QUESTION, marker.why, **evidence)
    if sees == "lost":
        return unknown(
            QUESTION,
            "nginx does not see this host's marker directory: it was replaced, or a parent hides it",
            **evidence,
        )
    if live.colour is None:
        return unknown(QUESTION, f"the marker names {marker.colour}, but {live.how}", **evidence)
    if marker.colour != live.colour:
        return no(
            QUESTION,
            f"the marker names {marker.colour}, but {live.colour} answers",
            expected=marker.colour,
            seen=live.colour,
            **evidence,
        )
    return yes(QUESTION, f"marker and proxy say {live.colour}", seen=live.colour, **evidence)
