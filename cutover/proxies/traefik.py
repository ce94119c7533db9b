"""Traefik's file provider: one prepared file for each colour, of which one is moved into place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cutover.changes import Change, Words, line
from cutover.core.config import Settings
from cutover.core.errors import UsageProblem
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxies import COLOURS, Live, other
from cutover.proxies.asking import Way
from cutover.proxies.nginx import Marker
from cutover.target import Control

# A copy and a rename: atomic. On a full disk a hard link, so that it keeps nobody from going back; not always, for
# who edits the file in place would then edit the prepared one too. -p: the mode that Traefik can read.
# What somebody changed by hand is neither prepared file, and is not overwritten.
MOVE = (
    'cmp -s "$1" "$1.$3" && exit 0; '
    'cmp -s "$1" "$1.$2" || { echo "$1 is neither $1.$2 nor $1.$3: somebody changed it" >&2; exit 1; }; '
    'rm -f "$1.new"; cp -p "$1.$3" "$1.new" 2>/dev/null || ln -f "$1.$3" "$1.new"; '
    'mv -T "$1.new" "$1" && { sync "$1" 2>/dev/null || :; }'
)
BUDGET_S = 10.0
QUESTION = "proxy"


@dataclass(frozen=True, slots=True)
class Traefik:
    """Traefik with `deploy/proxy/traefik`: FILE is what it reads, FILE.blue and FILE.green are prepared."""

    file: Path
    way: Way
    name: str = "traefik"

    def live(self) -> Live:
        """The live colour by the application's own answer through Traefik."""
        return self.way.live()

    def agreed(self) -> Verdict:
        """Whether the file and the answer speak of the same colour."""
        return judge(read(self.file), self.live())

    def switch(self, to: str) -> Change:
        """The prepared file of *to* in place, and the opposite."""
        undo = line(*move(self.file, other(to)), within_s=BUDGET_S)
        return Change("switch", f"{other(to)} → {to}", move(self.file, to), (undo,), BUDGET_S)

    def control(self) -> Control:
        """Whether Traefik answers by itself."""
        return self.way.as_control()


def make(settings: Settings, _ports: dict[str, int]) -> Traefik:
    """The driver that `[proxy]` describes."""
    if settings.proxy is None or settings.proxy.file is None:
        raise UsageProblem(
            f"{settings.source}: proxy.file is missing: the file that Traefik's provider reads"
        )
    return Traefik(settings.proxy.file, Way.of(settings))


def prepared(file: Path, colour: str) -> Path:
    """The file that is moved into place for *colour*."""
    return file.with_name(f"{file.name}.{colour}")


def move(file: Path, to: str) -> Words:
    """The words that put the file of *to* in place; a no-op when it is there, an error for a changed one."""
    return ("sh", "-c", MOVE, "sh", str(file), other(to), to)


def read(file: Path) -> Marker:
    """The colour whose prepared file is in place."""
    try:
        there, texts = file.read_bytes(), {each: prepared(file, each).read_bytes() for each in COLOURS}
    except OSError as error:
        return Marker(None, f"{error.filename}: {(error.strerror or str(error)).lower()}")
    return judge_file(str(file), there, texts)


def judge_file(where: str, there: bytes, texts: dict[str, bytes]) -> Marker:
    """Which of the prepared *texts* is there, and only which."""
    found = [colour for colour, text in texts.items() if text == there]
    if not found:
        return Marker(None, f"{where} is neither {where}.blue nor {where}.green: somebody changed it by hand")
    if len(found) > 1:
        return Marker(None, f"{where}.blue and {where}.green are the same")
    return Marker(found[0], f"{where} is that of {found[0]}")


def judge(file: Marker, live: Live) -> Verdict:
    """Whether the file in place and the proxy's answer agree."""
    evidence = {"file": file.why, "asked": live.how}
    if file.colour is None:
        return unknown(QUESTION, file.why, **evidence)
    if live.colour is None:
        return unknown(QUESTION, f"the file is that of {file.colour}, but {live.how}", **evidence)
    if file.colour != live.colour:
        return no(
            QUESTION,
            f"the file is that of {file.colour}, but {live.colour} answers",
            expected=file.colour,
            seen=live.colour,
            **evidence,
        )
    return yes(QUESTION, f"file and proxy say {live.colour}", seen=live.colour, **evidence)
