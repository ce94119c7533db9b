"""Traefik driver (file provider): one prepared file for each color, of which one is moved into place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cutover.core.change import Argv, Change, line
from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.verdict import Verdict
from cutover.proxy.base import COLORS, Driver, Live, ProxyClient, judge_agreement, other
from cutover.proxy.place import THIS_HOST, Place

# A copy and a rename: atomic. On a full disk a hard link instead, so that the undo needs no space; not always,
# because an editor that writes in place would then change the prepared file too. -p keeps the mode for Traefik.
# A file that was changed by hand equals neither prepared file, and is not overwritten.
MOVE = (
    'cmp -s "$1" "$1.$3" && exit 0; '
    'cmp -s "$1" "$1.$2" || { echo "$1 is neither $1.$2 nor $1.$3: somebody changed it" >&2; exit 1; }; '
    'rm -f "$1.new"; cp -p "$1.$3" "$1.new" 2>/dev/null || ln -f "$1.$3" "$1.new"; '
    'mv -T "$1.new" "$1" && { sync "$1" 2>/dev/null || :; }'
)
MOVE_BUDGET_S = 10.0


@dataclass(frozen=True, slots=True)
class Traefik(Driver):
    """Traefik with `deploy/proxy/traefik`: it reads FILE; FILE.blue and FILE.green are prepared."""

    file: Path
    client: ProxyClient
    place: Place = THIS_HOST
    name = "traefik"
    color_line = (
        "headers: customResponseHeaders: {header}: <color> in a middleware of its router, in both prepared files "
        "(as deploy/proxy/traefik has it)"
    )

    @classmethod
    def of(cls, settings: Settings, _ports: dict[str, int]) -> Self:
        """The driver that `[proxy]` describes; raises ConfigError without `[proxy] dynamic_file`."""
        if settings.proxy is None or settings.proxy.dynamic_file is None:
            why = "[proxy] dynamic_file is missing: the file that Traefik's provider reads"
            raise ConfigError(f"{settings.source}: {why}")
        return cls(settings.proxy.dynamic_file, ProxyClient.of(settings))

    def agreed(self) -> Verdict:
        """Yes if the file in place and the response name the same color."""
        return judge_agreement("file", read_dynamic_file(self.file, self.place), self.live())

    def switch(self, to: str) -> Change:
        """Move the prepared file of *to* into place; the undo moves the other one."""
        there, back = (self.place.argv(move(self.file, color)) for color in (to, other(to)))
        budget_s = MOVE_BUDGET_S + self.place.reach_s
        return Change("switch", f"{other(to)} → {to}", there, (line(*back, within_s=budget_s),), budget_s)


def move(file: Path, to: str) -> Argv:
    """argv that puts the file of *to* into place; does nothing if it is there, fails if FILE was changed by hand."""
    return ("sh", "-c", MOVE, "sh", str(file), other(to), to)


def read_dynamic_file(file: Path, place: Place = THIS_HOST) -> Live:
    """The color whose prepared file is in force at *place*."""
    try:
        there = place.content(file)
        texts = {color: place.content(file.with_name(f"{file.name}.{color}")) for color in COLORS}
    except OSError as error:
        return Live(None, f"{error.filename or file}: {(error.strerror or str(error)).lower()}")
    return judge_dynamic_file(str(file), there, texts)


def judge_dynamic_file(where: str, there: bytes, texts: dict[str, bytes]) -> Live:
    """The color whose prepared text is *there*, if it is exactly one."""
    found = [color for color, text in texts.items() if text == there]
    if not found:
        return Live(None, f"{where} is neither {where}.blue nor {where}.green: somebody changed it by hand")
    if len(found) > 1:
        return Live(None, f"{where}.blue and {where}.green are the same")
    return Live(found[0], f"{where} is that of {found[0]}")
