"""A team's own switch: its words for there, back and "who is live", with colour and port filled in."""

from __future__ import annotations

from dataclasses import dataclass

from cutover import host
from cutover.changes import Change, Words, line
from cutover.errors import UsageProblem
from cutover.host import Done
from cutover.proxies import COLOURS, Live, other
from cutover.proxies.asking import Way
from cutover.settings import Settings
from cutover.target import Control
from cutover.verdict import Verdict, no, unknown, yes

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
        """The live colour by the application's own answer through the proxy."""
        return self.way.live()

    def agreed(self) -> Verdict:
        """Whether the status words, where there are some, and the answer speak of the same colour."""
        said = host.run(self.status, deadline_s=STATUS_S) if self.status else None
        return judge(said, self.live())

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
    return Command(proxy.switch, proxy.undo, proxy.status, ports, Way.of(settings))


def fill(words: Words, colour: str, port: int) -> Words:
    """*words* with `{colour}` and `{port}` filled in; any other brace is the command's own."""
    return tuple(word.replace("{colour}", colour).replace("{port}", str(port)) for word in words)


def judge(said: Done | None, live: Live) -> Verdict:
    """Whether the last line of the status words names the colour that answers."""
    evidence = {"asked": live.how}
    if live.colour is None:
        return unknown(QUESTION, live.how, **evidence)
    if said is None:
        return yes(QUESTION, f"{live.colour} answers; there are no status words to compare with", **evidence)
    lines = said.out.split()
    word = lines[-1] if said.ok and lines else ""
    if word not in COLOURS:
        told = said.last_line if not said.ok else f"it says {said.out.strip()[-80:]!r}"
        return unknown(QUESTION, f"{said.words[0]} does not name a colour: {told}", **evidence)
    if word != live.colour:
        reason = f"{said.words[0]} says {word}, but {live.colour} answers"
        return no(QUESTION, reason, expected=word, seen=live.colour, **evidence)
    return yes(QUESTION, f"{said.words[0]} and the answer say {word}", seen=word, **evidence)
