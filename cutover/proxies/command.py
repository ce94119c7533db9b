"""A team's own switch: its words for there, back and "who is live", with colour and port filled in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cutover.changes import Change, Words, line
from cutover.core.config import Settings
from cutover.core.errors import UsageProblem
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxies import COLOURS, Live, other
from cutover.proxies.asking import Way
from cutover.system import process
from cutover.system.process import Done
from cutover.target import Control

BUDGET_S = 60.0
STATUS_S = 10.0
QUESTION = "proxy"


@dataclass(frozen=True, slots=True)
class Command:
    """HAProxy's runtime socket, a cloud's load balancer, or whatever else has a command line."""

    there: Words
    back: Words
    status: Words
    ports: dict[str, int]
    way: Way
    name: str = "command"

    def live(self) -> Live:
        """The live colour by the answer through the proxy; only where that names none by the status words."""
        answered = self.way.live()
        if answered.colour:
            return answered
        said = self._said()
        word = named(said) if said else ""
        return Live(word, f"{_only(self.status[0], word)}: {answered.how}") if word else answered

    def agreed(self) -> Verdict:
        """Whether the status words, else the proxy's own word, and the answer speak of the same colour."""
        said = self._said()
        if said is None and (own := self.way.own_word()):
            said = Done((self.way.control,), 0, own, "")
        return judge(said, self.way.live())

    def _said(self) -> Done | None:
        """What the status words say, None where there are none."""
        return process.run(self.status, deadline_s=STATUS_S) if self.status else None

    def switch(self, to: str) -> Change:
        """The team's words for *to*, and for the way back; both must be no-ops when run twice."""
        back = self._filled(self.back or self.there, other(to))
        text = f"{other(to)} → {to} by {self.there[0]}"
        undo = line(*back, within_s=BUDGET_S)
        return Change("switch", text, self._filled(self.there, to), (undo,), BUDGET_S)

    def control(self) -> Control:
        """Whether the proxy answers by itself."""
        return self.way.as_control()

    def _filled(self, words: Words, colour: str) -> Words:
        return fill(words, colour, self.ports.get(colour, 0))


def make(settings: Settings, ports: dict[str, int]) -> Command:
    """The driver that `[proxy]` describes."""
    proxy = settings.proxy
    if proxy is None or not proxy.switch or not proxy.url:
        raise UsageProblem(f'{settings.source}: the driver "command" needs proxy.switch and proxy.url')
    there, back, status = (_found(settings, key) for key in ("switch", "undo", "status"))
    return Command(there, back, status, ports, Way.of(settings))


def _found(settings: Settings, key: str) -> Words:
    """The words of that key, the command by its absolute path: a take-back runs in another folder."""
    words: Words = getattr(settings.proxy, key)
    if not words:
        return words
    name = words[0]
    path = str(settings.source.parent.absolute() / Path(name).expanduser()) if "/" in name else name
    found = shutil.which(path, path=process.FIXED_PATH)
    if found is None:
        where = path if "/" in name else f"{name} in {process.FIXED_PATH}"
        raise UsageProblem(f"{settings.source}: proxy.{key}: no such command: {where}")
    return (found, *words[1:])


def fill(words: Words, colour: str, port: int) -> Words:
    """*words* with `{colour}` and `{port}` filled in; any other brace is the command's own."""
    return tuple(word.replace("{colour}", colour).replace("{port}", str(port)) for word in words)


def named(said: Done) -> str:
    """The colour that the last word of *said* names; empty if it names none."""
    words = said.out.split()
    return words[-1] if said.ok and words and words[-1] in COLOURS else ""


def _only(who: str, word: str) -> str:
    """What is known of a colour that does not speak for itself."""
    return f"{who} says {word}, which does not say so"


def judge(said: Done | None, live: Live) -> Verdict:
    """Whether the last word of *said* names the colour that answers; where none does, that word is all there is."""
    evidence = {"asked": live.how}
    if live.colour is None and said is not None and (word := named(said)):
        return yes(QUESTION, f"{_only(said.words[0], word)}: {live.how}", **evidence)
    if live.colour is None:
        return unknown(QUESTION, live.how, **evidence)
    if said is None:
        reason = f"{live.colour} answers, and nothing else says so: give proxy.status, words that print the live colour"
        return unknown(QUESTION, reason, **evidence)
    word = named(said)
    if not word:
        told = said.last_line if not said.ok else f"it says {said.out.strip()[-80:]!r}"
        return unknown(QUESTION, f"{said.words[0]} does not name a colour: {told}", **evidence)
    if word != live.colour:
        reason = f"{said.words[0]} says {word}, but {live.colour} answers"
        return no(QUESTION, reason, expected=word, seen=live.colour, **evidence)
    return yes(QUESTION, f"{said.words[0]} and the answer say {word}", seen=word, **evidence)
